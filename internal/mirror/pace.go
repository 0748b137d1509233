package mirror

import "time"

const (
	lagShare = 20             // of Fabric's lag, what changes wait for others on their way to it
	slowest  = time.Minute    // the longest that they wait because of it
	walMost  = int64(1) << 30 // bytes of WAL that the server keeps for the slot, beyond which they don't
)

// pace is how long changes may wait for others to share their file. What Fabric
// shows late anyway comes in fewer, larger files, which it takes faster; but a
// source that keeps much WAL for us is told as soon as it would be otherwise.
func pace(freshness, lag time.Duration, slot Slot) time.Duration {
	if slot.RetainedBytes > walMost || slot.SafeWALSize >= 0 && slot.RetainedBytes > slot.SafeWALSize {
		return freshness
	}
	return max(freshness, min(lag/lagShare, slowest))
}

// noteLag takes the longest lag of the tables that Fabric has been at work on since
// the last look; the others tell of long ago. When there are none, it fades.
func (w *watched) noteLag(said map[string]FabricTable) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lag, rows := w.lag/2, map[string]int64{}
	work := false
	for name, t := range said {
		rows[name] = t.Rows
		if before, known := w.rows[name]; !known || before == t.Rows {
			continue
		}
		if !work {
			work, lag = true, 0
		}
		lag = max(lag, t.Lag)
	}
	w.lag, w.rows = lag, rows
}

// keepPace looks at what the last looks at the slot and at Fabric have shown.
func (m *mirror) keepPace() {
	w := m.watched
	w.mu.Lock()
	next, lag := pace(m.cfg.Freshness, w.lag, w.slot), w.lag
	w.mu.Unlock()
	if before := w.pace.Swap(int64(next)); before != int64(next) {
		m.emit(Event{Kind: Paced, Wait: next, Took: lag})
	}
}

// freshness is how long changes may wait now.
func (m *mirror) freshness() time.Duration {
	return max(m.cfg.Freshness, time.Duration(m.watched.pace.Load()))
}
