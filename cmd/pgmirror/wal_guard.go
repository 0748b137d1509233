package main

import (
	"fmt"
	"time"

	"github.com/pgmirror/pgmirror/internal/mirror"
)

// runWarning is what a run warns of while it goes on.
type runWarning struct {
	Code string        `json:"code"` // of the table that explain knows
	Text string        `json:"text"`
	Next string        `json:"next,omitempty"`
	In   time.Duration `json:"in,omitempty"` // nanoseconds; WALRunsOut: when, at the rate of now
}

// walGuard warns before the server gives up the slot: when the WAL that it may
// still hold for it would be used up soon, and when that has happened. It warns
// once, and again only after things had become better.
type walGuard struct {
	warn func(runWarning)
	base mirror.Event // the look that the next one is compared with
	told string       // the code that was told last and still holds; "" for none
}

const (
	walAlarm  = time.Hour        // the warning comes when less than this is left
	walCalm   = 2 * time.Hour    // and is over when more than this is
	walWindow = 20 * time.Second // looks nearer to each other say nothing of a rate
)

func (g *walGuard) event(e mirror.Event) {
	if e.Kind != mirror.SlotHealth || e.Slot == nil {
		return
	}
	switch e.Slot.WALStatus {
	case "lost":
		g.tell(runWarning{Code: "SlotLost", Text: "the server has removed WAL that the slot needed", Next: reseed})
		return
	case "unreserved":
		g.tell(runWarning{Code: "WALUnreserved", Next: "pgmirror status",
			Text: "the slot holds more WAL than the server's limit allows: the next checkpoint may remove it, and the slot with it"})
		return
	}
	left, ok := g.forecast(e)
	switch {
	case !ok:
	case left < walAlarm:
		g.tell(runWarning{Code: "WALRunsOut", In: left, Next: "pgmirror status",
			Text: fmt.Sprintf("the slot may hold %s more of WAL; at the rate of now that is used up in %s, and then the slot is lost", bytesText(e.Slot.SafeWALSize), seconds(left))})
	case left > walCalm:
		g.told = ""
	}
}

func (g *walGuard) tell(w runWarning) {
	if g.told != w.Code {
		g.told = w.Code
		g.warn(w)
	}
}

// forecast is how long the slot's WAL lasts at the rate between two looks; ok is
// false when that can't be said. What isn't shrinking lasts for ever.
func (g *walGuard) forecast(e mirror.Event) (left time.Duration, ok bool) {
	const ever = 365 * 24 * time.Hour
	if e.Slot.SafeWALSize < 0 { // the server has no limit
		return ever, true
	}
	before := g.base
	if before.Slot != nil && e.Time.Sub(before.Time) < walWindow {
		return 0, false
	}
	g.base = e
	if before.Slot == nil || before.Slot.SafeWALSize < 0 {
		return 0, false
	}
	used := before.Slot.SafeWALSize - e.Slot.SafeWALSize
	if used <= 0 {
		return ever, true
	}
	s := e.Time.Sub(before.Time).Seconds() * float64(e.Slot.SafeWALSize) / float64(used)
	return time.Duration(min(s, ever.Seconds()) * float64(time.Second)), true
}
