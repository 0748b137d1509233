package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// auditVersion is the format of the audit log's lines.
const auditVersion = 1

// Outcome is how a change ended.
type Outcome string

const (
	Begun  Outcome = "begun"  // written before the change: what it came to is in a later line, unless the process died
	Done   Outcome = "done"   //
	Failed Outcome = "failed" // it may have had a part of its effect
)

// Change is one line of the audit log. It has no field for a secret, an error's
// text or a statement: only names.
type Change struct {
	Version  int       `json:"v"`
	Time     time.Time `json:"time"`
	Run      string    `json:"run"`
	Who      string    `json:"who"`              // who signed in
	What     string    `json:"what"`             // "open vault-access", "step role: apply"
	Resource string    `json:"resource"`         // ARM id, Fabric id, or host and database
	Lease    string    `json:"lease,omitempty"`  //
	Detail   string    `json:"detail,omitempty"` // a name: of a rule, a role, a parameter, an address
	Outcome  Outcome   `json:"outcome"`
}

// Audit is a log of every change that is made, one JSON object a line, only ever
// appended to. Several processes may write to one file.
type Audit struct {
	Run string        // written on every line
	Who func() string // likewise; asked once, before the first change

	state string
	mu    sync.Mutex
	f     *os.File // nil until the first change
	who   string
}

// NewAudit is the log in a state directory; its name is audit.jsonl. Nothing is
// made before the first change is written.
func NewAudit(state, run string, who func() string) *Audit {
	return &Audit{Run: run, Who: who, state: state}
}

func (a *Audit) open() error {
	if err := makeDir(a.state); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(a.state, "audit.jsonl"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := syncDir(a.state); err != nil {
		return errors.Join(err, f.Close())
	}
	a.f, a.who = f, a.Who()
	return nil
}

// Write appends a change and waits until the disk has it. Version, Time, Run and
// Who are filled in.
func (a *Audit) Write(c Change) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f == nil {
		if err := a.open(); err != nil {
			return fmt.Errorf("open the audit log: %w", err)
		}
	}
	c.Version, c.Time, c.Run, c.Who = auditVersion, time.Now().UTC(), a.Run, a.who
	line, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	if err := a.append(append(line, '\n')); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// append begins a new line even where a process died within its own.
func (a *Audit) append(line []byte) error {
	if err := lock(a.f); err != nil {
		return err
	}
	end, err := a.f.Seek(0, io.SeekEnd)
	if err == nil && end > 0 {
		last := make([]byte, 1)
		if _, err = a.f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if err == nil {
		_, err = a.f.Write(line)
	}
	if err == nil {
		err = a.f.Sync()
	}
	return errors.Join(err, unlock(a.f))
}

// Close closes the file.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f == nil {
		return nil
	}
	err := a.f.Close()
	a.f = nil
	return err
}

// audit tells the log of what happens to a lease.
func (l *Leases) audit(what string, lease Lease, o Outcome) error {
	if l.o.Audit == nil {
		return nil
	}
	return l.o.Audit.Write(Change{What: what + " " + string(lease.Kind), Resource: lease.Resource, Lease: lease.ID,
		Detail: or(lease.Params[paramRule], lease.Params[paramAddress]), Outcome: o})
}
