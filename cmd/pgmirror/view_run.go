package main

import (
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/mirror"
)

// runView tells what a run does: each event as a line of JSON, or to people the
// snapshot table by table and then a summary every few seconds.
type runView struct {
	s     streams
	json  bool
	fault error // of writing to stdout

	told  time.Time
	files int64
	rows  int64
}

const summaryEvery = 5 * time.Second

func newRunView(s streams, cfg *config.Config, json bool) *runView {
	v := &runView{s: s, json: json, told: time.Now()}
	if json {
		v.fault = writeLines(s.Out, newHeader("run", cfg))
	}
	return v
}

func (v *runView) event(e mirror.Event) {
	if v.json {
		if v.fault == nil {
			line, err := typed("event", e)
			if v.fault = err; err == nil {
				v.fault = writeLines(v.s.Out, line)
			}
		}
		return
	}
	v.tell(e)
}

func (v *runView) tell(e mirror.Event) {
	switch e.Kind {
	case mirror.SnapshotStarted:
		v.s.say("copying %s, about %s", plural(e.Tables, "table"), bytesText(e.Bytes))
	case mirror.SnapshotProgress:
		if v.due() {
			v.s.say("  … %s rows copied", count(e.Rows))
		}
	case mirror.TableCopied:
		v.s.say("  %s %s: %s rows", v.s.paint(green, "ok"), e.Table, count(e.Rows))
	case mirror.SnapshotDone:
		v.s.say("copied %s rows in %s (%s rows/s)", count(e.Rows), seconds(e.Took), count(perSecond(e.Rows, e.Took)))
	case mirror.Streaming:
		v.s.say("following the changes from %v", e.LSN)
	case mirror.Published:
		v.files++
		v.rows += e.Rows
	case mirror.Confirmed:
		if v.files > 0 && v.due() {
			v.s.say("published %s in %s, durable up to %v", plural(v.rows, "change"), plural(v.files, "file"), e.LSN)
			v.files, v.rows = 0, 0
		}
	case mirror.Retrying:
		v.s.say("%s %s; trying again in %s", v.s.paint(red, "!"), e.Reason, seconds(e.Wait))
	default:
		if e.Reason != "" { // what has a reason is worth a word
			v.s.say("%s %s: %s: %s", v.s.paint(red, "!"), e.Table, e.Kind, e.Reason)
		}
	}
}

// due says that the last summary is old enough for another one.
func (v *runView) due() bool {
	if time.Since(v.told) < summaryEvery {
		return false
	}
	v.told = time.Now()
	return true
}

func (v *runView) end() error {
	if !v.json {
		v.s.say("stopped; what was confirmed is durable")
	}
	return v.fault
}

func perSecond(n int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(float64(n) / d.Seconds())
}
