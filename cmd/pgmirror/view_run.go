package main

import (
	"context"
	"sync"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// runView tells what a run does: each event as a line of JSON, or to people the
// snapshot table by table and then a summary every few seconds.
type runView struct {
	s     streams
	json  bool
	fault error // of writing to stdout
	begun time.Time
	mu    sync.Mutex // warnings come also from beside the events
	heard bool       // of the mirror, or of its end

	told  time.Time // the last summary
	since runTotals // published since then
	total runTotals
	slot  string // the WAL status that was told last

	kept   string            // the password of which it was told that it is refused
	parked map[string]string // the tables of which that was told, and why
}

// runTotals is what a run has published.
type runTotals struct {
	Files int64 `json:"files"`
	Rows  int64 `json:"rows"` // of the snapshot and of changes
	Bytes int64 `json:"bytes"`
}

func (t *runTotals) add(e mirror.Event) {
	t.Files, t.Rows, t.Bytes = t.Files+1, t.Rows+e.Rows, t.Bytes+e.Bytes
}

const summaryEvery = 5 * time.Second

func newRunView(s streams, cfg *config.Config, json bool) *runView {
	v := &runView{s: s, json: json, begun: time.Now(), told: time.Now()}
	if json {
		v.fault = writeLines(s.Out, newHeader("run", cfg))
	}
	return v
}

// prepareQuietly is how long a run may be at what comes before its first event without
// a word.
const prepareQuietly = 4 * time.Second

// prepares says, once, that a run is at that still after a while. stop ends it.
func (v *runView) prepares(quietly time.Duration) (stop func()) {
	t := time.AfterFunc(quietly, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if !v.heard {
			v.s.say("  … preparing: looking at the server and the workspace, and at what the landing zone has")
		}
	})
	return func() {
		t.Stop()
		v.mu.Lock()
		defer v.mu.Unlock()
		v.heard = true
	}
}

func (v *runView) event(e mirror.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.heard = true
	if e.Kind == mirror.Published {
		v.since.add(e)
		v.total.add(e)
	}
	if v.toldBefore(e) {
		return
	}
	if v.json {
		v.line("event", e)
		return
	}
	v.tell(e)
}

// toldBefore says that a table is parked as it was: every round of the mirror begins
// with what its tables are, and one that nothing has become of is no news.
func (v *runView) toldBefore(e mirror.Event) bool {
	switch e.Kind {
	case mirror.Parked:
		if why, ok := v.parked[e.Table]; ok && why == e.Reason {
			return true
		}
		if v.parked == nil {
			v.parked = map[string]string{}
		}
		v.parked[e.Table] = e.Reason
	case mirror.Rebuilding, mirror.TableCopied, mirror.Published, mirror.Attached:
		delete(v.parked, e.Table) // it goes on
	}
	return false
}

// line writes one line of JSON; after a fault of stdout nothing more is written,
// and the end of the run tells it.
func (v *runView) line(kind string, value any) {
	if v.fault != nil {
		return
	}
	line, err := typed(kind, value)
	if v.fault = err; err == nil {
		v.fault = writeLines(v.s.Out, line)
	}
}

// refused tells, once for each password, that the server refuses the one that is kept
// for the mirror's role, too. One that has changed is tried first.
func (v *runView) refused(before, kept string) {
	if before != kept || v.kept == kept {
		return
	}
	v.kept = kept
	v.warn(runWarning{Code: "RolePasswordWrong", Next: "pgmirror doctor",
		Text: "the server refuses the role's password, also as it was read anew from where it is kept; it is tried again and again, and nothing is mirrored meanwhile"})
}

// warn tells a warning, to people also when programs read the events.
func (v *runView) warn(w runWarning) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.json {
		v.line("warning", w)
	}
	v.s.say("%s %s", v.s.paint(red, "warning["+w.Code+"]:"), w.Text)
	if w.Next != "" {
		v.next(w.Next)
	}
}

// tell shows an event to people.
func (v *runView) tell(e mirror.Event) {
	bad := v.s.paint(red, "!")
	switch e.Kind {
	case mirror.SnapshotStarted:
		if e.Tables > 0 {
			v.s.say("copying %s", plural(e.Tables, "table"))
		}
	case mirror.SnapshotProgress:
		if v.due() {
			left := ""
			if e.Left > 0 {
				left = ", about " + seconds(e.Left) + " left"
			}
			v.s.say("  … %s rows copied, %s (%s rows/s%s)", count(e.Rows), bytesText(e.Bytes), count(perSecond(e.Rows, e.Took)), left)
		}
	case mirror.TableCopied:
		v.s.say("  %s %s: %s rows", v.s.paint(green, "ok"), e.Table, count(e.Rows))
	case mirror.SnapshotDone:
		if e.Tables > 0 {
			v.s.say("copied %s rows in %s (%s rows/s)", count(e.Rows), seconds(e.Took), count(perSecond(e.Rows, e.Took)))
		}
	case mirror.Streaming:
		v.s.say("following the changes from %v", e.LSN)
	case mirror.Published: // counted
	case mirror.Confirmed:
		if v.since.Files > 0 && v.due() {
			v.s.say("published %s in %s, durable up to %v", plural(v.since.Rows, "row"), plural(v.since.Files, "file"), e.LSN)
			v.since = runTotals{}
		}
	case mirror.SlotHealth:
		v.tellSlot(e.Slot)
	case mirror.Parked:
		v.tellParked(e)
	case mirror.Rebuilding:
		v.s.say("  %s is built anew: %s", e.Table, e.Reason)
	case mirror.Ignored:
		v.s.say("%s %s: %s ignored: %s", bad, e.Table, plural(e.Rows, "change"), e.Reason)
		v.next(resync(e.Table))
	case mirror.Attached:
		v.s.say("  %s %s: %s of its new %s", v.s.paint(green, "ok"), e.Table, plural(e.Rows, "row"), e.Reason)
	case mirror.Repaired:
		v.s.say("  %s %s: %s published as the source has them", v.s.paint(green, "ok"), e.Table, plural(e.Rows, "row"))
	case mirror.NotRepaired:
		v.s.say("%s %s: rows can't be repaired: %s", bad, e.Table, e.Reason)
		v.next(resync(e.Table))
	case mirror.Changed:
		v.s.say("%s %s: %s", bad, e.Table, e.Reason)
	case mirror.NotAnswered:
		v.s.say("%s %s: thrown away", bad, e.Reason)
	case mirror.Refused:
		v.s.say("%s %s: %s; once it has a key or a replica identity, take it in again", bad, e.Table, e.Reason)
		v.next(setup.ShellLine("pgmirror", "tables", "add", e.Table))
	case mirror.Waiting:
		v.s.say("  … waiting for %s", e.Reason)
	case mirror.Paced:
		if e.Took > 0 {
			v.s.say("  Fabric is %s behind: changes wait up to %s for others to share their file", seconds(e.Took), seconds(e.Wait))
		}
	case mirror.SpillFull:
		v.s.say("%s %s; from now on the server keeps large transactions, on its own disk, until they commit: watch its room, and the slot's WAL", bad, e.Reason)
	case mirror.NoLook:
		v.s.say("%s Fabric could not be asked how its tables are: %s", bad, e.Reason)
	case mirror.NewTimeline:
		v.s.say("%s %s; tables with changes that it doesn't have are built anew", bad, e.Reason)
	case mirror.Reseeding:
		v.s.say("%s every table is copied anew: %s", bad, e.Reason)
	case mirror.Retrying:
		v.s.say("%s %s; trying again in %s", bad, e.Reason, seconds(e.Wait))
	default: // one that is newer than this view
		v.s.say("  %s %s%s", e.Kind, e.Table, prefixed(": ", e.Reason))
	}
}

// tellParked says that a table isn't followed any more, and what may be done about it.
func (v *runView) tellParked(e mirror.Event) {
	bad := v.s.paint(red, "!")
	switch e.Reason {
	case mirror.ReasonForgotten:
		v.s.say("  %s is taken out, as asked", e.Table)
	case mirror.ReasonPaused:
		v.s.say("  %s is paused, as asked", e.Table)
		v.next(setup.ShellLine("pgmirror", "tables", "resume", e.Table))
	case mirror.ReasonUnpublished:
		v.s.say("%s %s is parked: it was dropped, renamed or taken out of the publication; it comes back when it is published again, and the others go on", bad, e.Table)
		v.next(setup.ShellLine("pgmirror", "tables", "remove", e.Table))
	default:
		v.s.say("%s %s is parked: %s; the others go on", bad, e.Table, e.Reason)
		v.next(resync(e.Table))
	}
}

func (v *runView) next(line string) { v.s.say("  next: %s", v.s.next(line)) }

func resync(table string) string { return setup.ShellLine("pgmirror", "tables", "resync", table) }

// tellSlot says how much WAL the slot holds, when its status has changed.
func (v *runView) tellSlot(slot *mirror.Slot) {
	if slot.WALStatus == v.slot {
		return
	}
	first := v.slot == ""
	v.slot = slot.WALStatus
	if first && slot.WALStatus == "reserved" {
		return // as it should be
	}
	v.s.say("  the slot holds %s of WAL (%s)", bytesText(slot.RetainedBytes), slot.WALStatus)
}

// due says that the last summary is old enough for another one.
func (v *runView) due() bool {
	if time.Since(v.told) < summaryEvery {
		return false
	}
	v.told = time.Now()
	return true
}

// end tells what the run did; it was asked to stop.
func (v *runView) end() error {
	took := time.Since(v.begun)
	if v.json {
		v.line("summary", struct {
			runTotals
			Seconds float64 `json:"seconds"`
		}{v.total, took.Seconds()})
	} else {
		v.s.say("stopped after %s: %s published in %s; what was confirmed is durable, and running it again goes on there",
			seconds(took), plural(v.total.Rows, "row"), plural(v.total.Files, "file"))
	}
	return v.fault
}

// runFailed is the last line of a run that ends by a fault.
type runFailed struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"` // failed
	Code   string    `json:"code"`
	Reason string    `json:"reason,omitempty"`
	Next   string    `json:"next,omitempty"`
}

// failed tells programs why the run ends; people are told by finish. It returns err.
func (v *runView) failed(ctx context.Context, err error) error {
	if v.json {
		f := asFailure(ctx, "pgmirror run", err)
		v.line("event", runFailed{Time: time.Now(), Kind: "failed", Code: f.Code, Reason: f.Error(), Next: f.Next})
	}
	return err
}

func perSecond(n int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(float64(n) / d.Seconds())
}
