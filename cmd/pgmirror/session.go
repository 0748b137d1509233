package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/lease"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
	"github.com/pgmirror/pgmirror/internal/setup"
	"github.com/pgmirror/pgmirror/internal/store"
)

// session is one mirror as a command works on it: its configuration, the way to
// the outside world, and what the world looked like when it was opened.
type session struct {
	cfg     *config.Config
	clients *setup.Clients
	steps   []setup.Step
	facts   setup.Facts
	plan    []setup.Finding
	unseen  map[string]error // steps that could not look, of a session that looks at each alone
}

// looking says how far a session looks, and how it judges what it sees.
type looking struct {
	until    string        // the last step; "" for all
	ifReady  bool          // what others have to give first is left for later
	patience time.Duration // of each step; 0: its own
	each     bool          // a step that can't look is no other step's fault

	steps func(*setup.Clients) []setup.Step // instead of those of setting up; nil: those
}

// openSession looks at everything and changes nothing. Close it.
func openSession(ctx context.Context, s streams, cfg *config.Config, how ...looking) (*session, error) {
	l := append(how, looking{})[0]
	progress := setup.WithProgress(func(what string, elapsed, limit time.Duration) {
		if elapsed >= 2*time.Second { // what is quick needs no word
			s.say("    … %s: %s of at most %s", what, seconds(elapsed), seconds(limit))
		}
	})
	clients, err := setup.NewClients(ctx, cfg, append(s.doors.options(), setup.WithLimit(l.patience), progress)...)
	if err != nil {
		return nil, setupFailure(err)
	}
	if l.steps == nil {
		l.steps = setup.Steps
	}
	steps, err := setup.Until(l.steps(clients), l.until)
	if err != nil {
		return nil, &failure{Exit: exitError, Code: "UsageInvalid", Err: err, Next: "pgmirror plan"}
	}
	ses := &session{cfg: cfg, clients: clients, steps: steps, facts: setup.Facts{IfReady: l.ifReady}}
	look := ses.look
	if l.each {
		look = ses.lookEach
	}
	if err := look(ctx); err != nil {
		ses.close(ctx)
		return nil, err
	}
	return ses, nil
}

// eachPatience bounds all steps of a session that looks at each alone, and then
// everybody who is asked: what doesn't answer keeps nobody from the others. The role's
// secret, without which the server can't be asked, has secretPatience of its own. Tests
// shorten the former.
var eachPatience = 20 * time.Second

const secretPatience = 20 * time.Second

// lookEach plans each step by itself.
func (ses *session) lookEach(ctx context.Context) error {
	ses.unseen = map[string]error{}
	timed, cancel := context.WithTimeout(ctx, eachPatience)
	defer cancel()
	for _, s := range ses.steps {
		asking := timed
		if s.Name() == "role-secret" {
			own, cancel := context.WithTimeout(ctx, secretPatience)
			defer cancel()
			asking = own
		}
		plan, err := setup.Plan(asking, []setup.Step{s}, &ses.facts)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			ses.unseen[s.Name()] = err
		}
		ses.plan = append(ses.plan, plan...)
	}
	return nil
}

// look plans anew.
func (ses *session) look(ctx context.Context) error {
	plan, err := setup.Plan(ctx, ses.steps, &ses.facts)
	ses.plan = plan
	return setupFailure(err)
}

func (ses *session) close(ctx context.Context) { ses.clients.Close(context.WithoutCancel(ctx)) }

// mirror is the mirrored database, or an error that says how to get one.
func (ses *session) mirror() (fabric.MirroredDatabase, error) {
	if ses.facts.Mirror.ID != "" {
		return ses.facts.Mirror, nil
	}
	if err := setup.Refuse(ses.plan); err != nil {
		return fabric.MirroredDatabase{}, setupFailure(err)
	}
	return fabric.MirroredDatabase{}, fail(exitPrecondition, "MirrorMissing", "pgmirror apply", "there is no mirrored database %s yet", ses.cfg.MirrorName())
}

// ready refuses a mirror that isn't set up.
func (ses *session) ready() error {
	if err := setup.Refuse(ses.plan); err != nil {
		return setupFailure(err)
	}
	for _, f := range ses.plan {
		if f.Action != setup.None {
			return fail(exitPrecondition, "NotSetUp", "pgmirror apply", "%s is not set up: step %s has something to do", ses.cfg.MirrorName(), f.Step)
		}
	}
	return nil
}

// files are the files of the mirrored database in OneLake, below path.
func (ses *session) files(item, path string) (store.Store, error) {
	o, err := ses.clients.OneLake(item, path)
	if err != nil {
		return nil, setupFailure(err)
	}
	return fabric.NewOneLake(o)
}

// setupFailure gives an error of the set-up plane its exit code and its next
// command; nil stays nil, and so does what has its code already.
func setupFailure(err error) error {
	if _, ok := errors.AsType[*failure](err); ok || err == nil {
		return err
	}
	f := &failure{Exit: exitError, Code: setup.Code(err), Err: err, Next: setup.Hint(err)}
	if f.Code == "" {
		f.Code = "Failed"
	}
	if f.Next == "" {
		f.Next = "pgmirror plan"
	}
	var blocked *setup.BlockedError
	var consent *setup.ConsentError
	var stale *setup.NotApprovedError
	var late *setup.TimeoutError
	var moved *setup.StaleError
	var held *setup.HeldError
	var taken *lease.HeldError
	var closed *lease.ConsentError
	switch {
	case errors.Is(err, context.Canceled):
		return err // finish knows what that is
	case setup.IsSignInNeeded(err):
		f.Exit = exitSignIn
	case errors.As(err, &blocked):
		f.Exit = exitPrecondition
		f.Err = errors.New(sentence(blocked.Findings))
		f.Next = blockedNext(blocked.Findings[0])
	case errors.As(err, &consent), errors.As(err, &stale), errors.As(err, &moved), errors.As(err, &held), errors.As(err, &taken), errors.As(err, &closed):
		f.Exit = exitPrecondition
	case errors.As(err, &late):
		f.Exit = exitTimeout
		if f.Code == "EnableFailed" || f.Code == "OneLakeForbidden" { // no patience helps: a person has to click
			f.Exit = exitPrecondition
		}
	}
	return f
}

// connectFailure gives a server that doesn't answer, or doesn't let the mirror's role
// in, its code, as setting up does; any other error stays as it is.
func connectFailure(e postgres.Endpoint, err error) error {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case connecting && admin.IsWrongPassword(err):
		return &failure{Exit: exitPrecondition, Code: "RolePasswordWrong", Err: err, Next: "pgmirror doctor"}
	case !connecting || sqlState(err) != "" || errors.Is(err, context.Canceled):
		return err
	case untrusted:
		return &failure{Exit: exitPrecondition, Code: "ServerCertificate", Err: err, Next: "export CA_FILE=ca.pem"}
	}
	return &failure{Exit: exitPrecondition, Code: "ServerUnreachable", Err: err, Next: isReady(e.Host, e.Port)}
}

// isReady asks a server whether it answers.
func isReady(host string, port int) string {
	return setup.ShellLine("pg_isready", "-h", host, "-p", strconv.Itoa(port))
}

// sentence is what the first blocked finding says, and how many more there are.
func sentence(findings []setup.Finding) string {
	f := findings[0]
	text := f.Have
	if x, ok := setup.Explain(f.Code); ok {
		text = strings.TrimSuffix(x.Sentence, ".") + prefixed(": ", f.Have)
	}
	if more := len(findings) - 1; more > 0 {
		text += fmt.Sprintf(" (and %s)", plural(more, "more blocked step"))
	}
	return text
}

func blockedNext(f setup.Finding) string {
	if f.Hint != "" {
		return f.Hint
	}
	return "pgmirror explain " + f.Code
}

// openDoors opens what the plan ends before, and plans anew.
func (ses *session) openDoors(ctx context.Context, s streams) error {
	i := slices.IndexFunc(ses.plan, func(f setup.Finding) bool { return setup.NeedsDoor([]setup.Finding{f}) })
	if i < 0 {
		return ses.look(ctx) // another database's session has opened it
	}
	if err := setup.Refuse(ses.plan); err != nil {
		return setupFailure(err)
	}
	for j, f := range ses.plan {
		verb := "opening"
		if setup.LeftOpen(f) { // in the way of another lease, and nobody's any more
			verb = "closing"
		} else if j != i {
			continue
		}
		s.say("%s: %s", verb, intent(f))
		if err := setup.Open(ctx, ses.steps[j], &ses.facts, f); err != nil {
			return setupFailure(err)
		}
	}
	return ses.look(ctx)
}
