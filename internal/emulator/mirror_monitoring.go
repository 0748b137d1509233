package emulator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/store"
)

// What a running mirror tells in OneLake, for who reads no REST API. No page says
// what the files hold; here it is what the API says.
const (
	monitoringReplicator = "Files/Monitoring/replicator.json"
	monitoringTables     = "Files/Monitoring/tables.json"
)

// monitorEvery is how often the files follow the status, at most.
const monitorEvery = time.Second

// monitor keeps the files up to date until ctx ends.
func (m *mirrors) monitor(ctx context.Context, id string, r *run) {
	for last := map[string][]byte{}; ; {
		m.monitorOnce(ctx, id, r, last)
		if wait(ctx, max(monitorEvery, m.o.ScanInterval)) != nil {
			return
		}
	}
}

// monitorOnce writes the files that differ from last.
func (m *mirrors) monitorOnce(ctx context.Context, id string, r *run, last map[string][]byte) {
	it := m.copyItem(id)
	tables := r.status(r.ending())
	slices.SortFunc(tables, func(a, b tableStatus) int {
		return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Table, b.Table))
	})
	for name, content := range map[string]any{monitoringReplicator: map[string]any{"status": it.Mirroring}, monitoringTables: map[string]any{"tables": tables}} {
		body, err := json.Marshal(content)
		if err == nil && !bytes.Equal(body, last[name]) {
			_, err = r.files.Put(ctx, name, body, store.Cond{})
			last[name] = body
		}
		if err != nil && ctx.Err() == nil {
			m.log.Warn("cannot write what a mirror tells of itself", "item", id, "file", name, "error", err)
		}
	}
}
