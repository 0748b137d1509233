package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// checkState is how a check ended; the words are part of the JSON contract.
type checkState string

const (
	checkOK       checkState = "ok"
	checkWarning  checkState = "warning"  // the mirror works, or may, but this should be looked at
	checkBlocking checkState = "blocking" // the mirror doesn't work while this holds
	checkSkipped  checkState = "skipped"  // it can't be judged before something else is mended
)

// diagnosis is what one check found.
type diagnosis struct {
	Check   string     `json:"check"`
	Source  string     `json:"source"` // who was asked
	State   checkState `json:"state"`
	Code    string     `json:"code,omitempty"` // of the table that explain knows
	Text    string     `json:"text"`
	Next    string     `json:"next,omitempty"`
	Seconds float64    `json:"seconds"`
}

// doctorCheck is one thing that doctor looks at. It changes nothing.
type doctorCheck struct {
	name   string
	source string // who is asked: network, ARM, Key Vault, Fabric, OneLake, PostgreSQL
	about  string
	after  string // the set-up step whose facts it needs; "" for none
	look   func(context.Context, *patient) diagnosis
}

// patient is the mirror that is looked at. Each group of checks has its own
// clients; only what depends on the set-up steps' facts waits for those.
type patient struct {
	cfg     *config.Config
	clients *setup.Clients
	facts   setup.Facts // of the steps; read only when stepsDone is closed

	role diagnosis // of the step that makes the mirror's role

	stepsDone chan struct{}
}

// checks are all checks of a mode, those first upon which others depend: that
// is the order in which faults are ranked.
func checks(cfg *config.Config) []doctorCheck {
	list := []doctorCheck{{name: "fabric-sign-in", source: "Fabric", about: "somebody is signed in to Fabric", look: lookFabric}}
	if cfg.Server.ID != "" {
		list = append(list, doctorCheck{name: "azure-sign-in", source: "ARM", about: "the server can be looked at in Azure", look: lookARM})
	}
	if cfg.Vault != "" {
		list = append(list, doctorCheck{name: "vault-sign-in", source: "Key Vault", about: "the vault's secrets can be read", look: lookVault})
	}
	if cfg.Server.Host != "" {
		list = append(list, doctorCheck{name: "server-reachable", source: "network", about: "the server's port answers from here", look: lookPort})
	}
	list = append(list, stepChecks(cfg)...)
	if cfg.Mode == config.Open {
		list = append(list,
			doctorCheck{name: "slot", source: "PostgreSQL", about: "the replication slot is there and loses nothing", after: "role", look: lookSlot},
			doctorCheck{name: "landing-zone", source: "OneLake", about: "the landing zone can be reached, and its tables go on", look: lookZone})
	}
	return append(list, doctorCheck{name: "mirror", source: "Fabric", about: "the mirror runs, and its tables have rows", look: lookMirror})
}

// stepChecks are the steps of setting up: doctor asks what plan asks.
func stepChecks(cfg *config.Config) []doctorCheck {
	var list []doctorCheck
	for _, step := range setup.Steps(&setup.Clients{Config: cfg}) {
		list = append(list, doctorCheck{name: step.Name(), source: "set-up", about: "the set-up step is as wanted", after: step.Name()})
	}
	return list
}

// examine runs checks side by side, and the set-up steps in their own order
// beside them. No check stops another one. Findings come in the order of checks.
func examine(ctx context.Context, cfg *config.Config, list []doctorCheck) ([]diagnosis, error) {
	p := &patient{cfg: cfg, stepsDone: make(chan struct{})}
	var err error
	if p.clients, err = setup.NewClients(ctx, cfg, setup.WithLimit(doctorPatience)); err != nil {
		return nil, setupFailure(err)
	}
	defer p.clients.Close(context.WithoutCancel(ctx))
	_, _ = p.clients.FindWorkspace(ctx) // before checks read it side by side; the step workspace tells why it can't be found
	found := make([]diagnosis, len(list))
	var g errgroup.Group
	for i, c := range list {
		if c.look == nil {
			continue
		}
		g.Go(func() error {
			if c.after != "" {
				<-p.stepsDone
			}
			ctx, cancel := context.WithTimeout(ctx, doctorPatience)
			defer cancel()
			begun := time.Now()
			found[i] = c.look(ctx, p)
			found[i].Check, found[i].Source, found[i].Seconds = c.name, c.source, time.Since(begun).Seconds()
			return nil
		})
	}
	g.Go(func() error {
		defer close(p.stepsDone)
		p.steps(ctx, list, found)
		return nil
	})
	_ = g.Wait() // a check has no error, only a diagnosis
	return found, ctx.Err()
}

// doctorPatience bounds each check.
const doctorPatience = 45 * time.Second

// steps checks the set-up steps one after the other, as far as they are wanted:
// each needs the facts of those before it.
func (p *patient) steps(ctx context.Context, list []doctorCheck, found []diagnosis) {
	steps := setup.Steps(p.clients)
	last, at := -1, map[string]int{}
	for i, s := range steps {
		for j, c := range list {
			if c.after == s.Name() {
				last = i
			}
			if c.look == nil && c.name == s.Name() {
				at[s.Name()] = j
			}
		}
	}
	for _, s := range steps[:last+1] {
		begun := time.Now()
		d := p.step(ctx, s)
		if s.Name() == "role" {
			p.role = d
		}
		if j, wanted := at[s.Name()]; wanted {
			d.Check, d.Source, d.Seconds = s.Name(), "set-up", time.Since(begun).Seconds()
			found[j] = d
		}
	}
}

// step is one set-up step's Check as a diagnosis.
func (p *patient) step(ctx context.Context, s setup.Step) diagnosis {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	plan, err := setup.Plan(ctx, []setup.Step{s}, &p.facts)
	if err != nil {
		return unwell(setupFailure(err))
	}
	f := plan[0]
	switch {
	case f.Action == setup.None && f.Code != "":
		return diagnosis{State: checkWarning, Code: f.Code, Text: f.Have, Next: f.Hint}
	case f.Action == setup.None:
		return diagnosis{State: checkOK, Text: f.Have}
	case f.Action == setup.Blocked:
		return unwell(setupFailure(setup.Refuse(plan)))
	case f.Action == setup.Wait && f.After != "":
		return diagnosis{State: checkSkipped, Text: "can't be judged before " + f.After + " is mended"}
	case f.Action == setup.Wait:
		return diagnosis{State: checkWarning, Code: f.Code, Text: intent(f), Next: "pgmirror status"}
	case f.Consent != "" && !f.Allowed:
		return diagnosis{State: checkBlocking, Code: "ConsentMissing", Text: intent(f), Next: "pgmirror apply --allow " + f.Consent}
	}
	return diagnosis{State: checkBlocking, Code: "NotSetUp", Text: intent(f), Next: "pgmirror apply"}
}

// unwell is a blocking diagnosis of an error.
func unwell(err error) diagnosis {
	d := diagnosis{State: checkBlocking, Code: "Failed", Text: err.Error(), Next: "pgmirror plan"}
	if errors.Is(err, context.DeadlineExceeded) {
		d.Code, d.Text = "TimedOut", "no answer within "+seconds(doctorPatience)
	}
	if f, ok := errors.AsType[*failure](err); ok {
		d.Code, d.Next = f.Code, f.Next
	}
	return d
}

func lookFabric(ctx context.Context, p *patient) diagnosis {
	spaces, err := p.clients.Fabric.Workspaces(ctx)
	if err != nil {
		return unwell(setupFailure(err))
	}
	return diagnosis{State: checkOK, Text: plural(len(spaces), "workspace") + " to be seen"}
}

func lookARM(ctx context.Context, p *patient) diagnosis {
	info, err := p.clients.Server.Get(ctx)
	if err != nil {
		return unwell(setupFailure(err))
	}
	return diagnosis{State: checkOK, Text: info.Name + " is " + info.State}
}

func lookVault(ctx context.Context, p *patient) diagnosis {
	_, ok, err := p.clients.Vault.Secret(ctx, p.cfg.Admin.Secret)
	switch {
	case err != nil:
		return unwell(setupFailure(err))
	case !ok:
		return diagnosis{State: checkWarning, Code: "AdminSecretMissing", Text: "the vault answers, and has no secret " + p.cfg.Admin.Secret, Next: "pgmirror explain AdminSecretMissing"}
	}
	return diagnosis{State: checkOK, Text: "secrets can be read"}
}

func lookPort(ctx context.Context, p *patient) diagnosis {
	network, address := "tcp", net.JoinHostPort(p.cfg.Server.Host, strconv.Itoa(p.cfg.Server.Port))
	if strings.HasPrefix(p.cfg.Server.Host, "/") {
		network, address = "unix", fmt.Sprintf("%s/.s.PGSQL.%d", p.cfg.Server.Host, p.cfg.Server.Port)
	}
	ctx, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	if err := knock(ctx, network, address); err != nil {
		return diagnosis{State: checkBlocking, Code: "ServerUnreachable", Text: err.Error(), Next: isReady(p.cfg.Server.Host, p.cfg.Server.Port)}
	}
	return diagnosis{State: checkOK, Text: address + " answers"}
}

// portPatience is how long the server's port may take to accept and to answer,
// answerPatience how long the latter may take of it. Tests shorten that one only: a
// machine that is slow to connect is no server that is mute.
const portPatience = 10 * time.Second

var answerPatience = portPatience

// knock asks whether PostgreSQL takes TLS: also one that doesn't answers that. A proxy
// accepts a connection for a server that isn't there, and so does one that stands still.
func knock(ctx context.Context, network, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(answerPatience))
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	answer := make([]byte, 1)
	_, err = conn.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}) // SSLRequest
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s accepts a connection, and says nothing: %w", address, err)
	case answer[0] != 'S' && answer[0] != 'N' && answer[0] != 'E':
		return fmt.Errorf("%s answers, and isn't PostgreSQL", address)
	}
	return nil
}

// findMirror looks for the mirrored database by its name.
func (p *patient) findMirror(ctx context.Context) (fabric.MirroredDatabase, *diagnosis) {
	if p.cfg.WorkspaceNamed() {
		return fabric.MirroredDatabase{}, &diagnosis{State: checkSkipped, Text: "can't be judged before workspace is mended"}
	}
	all, err := p.clients.Fabric.MirroredDatabases(ctx, p.cfg.Workspace)
	if err != nil {
		d := unwell(setupFailure(err))
		return fabric.MirroredDatabase{}, &d
	}
	for _, m := range all {
		if m.Name == p.cfg.MirrorName() {
			return m, nil
		}
	}
	return fabric.MirroredDatabase{}, &diagnosis{State: checkSkipped, Text: "there is no mirrored database " + p.cfg.MirrorName() + " yet"}
}
