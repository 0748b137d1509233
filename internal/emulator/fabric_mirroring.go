package emulator

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"
)

// What was asked for last.
const (
	running = "Running"
	stopped = "Stopped"
	paused  = "Paused"
)

// capacityPaused is told of what needs a capacity that runs.
func capacityPaused() *fault {
	return faultf(http.StatusBadRequest, "CapacityNotInActiveState", "Unable to complete the action because this Fabric capacity is currently paused.")
}

func equalFold(a, b string) bool { return strings.EqualFold(a, b) }

func notReady() *fault {
	return faultf(http.StatusBadRequest, "MirroredDatabaseNotReady", "The mirrored database is still being provisioned. Try again later.")
}

// startMirroring answers 200 with nothing in it. A mirror that was stopped
// begins again from nothing: its tables are dropped first.
func (f *fabric) startMirroring(c *call) (reply, error) {
	var id string
	err := f.state.read(func(s *state) error {
		it, err := f.mirrorItem(s, c)
		if err != nil {
			return err
		}
		id = it.ID
		switch {
		case f.now().Before(it.Ready):
			return notReady()
		case it.Definition == nil:
			return faultf(http.StatusBadRequest, "MirroringDefinitionMissing", "The mirrored database has no definition.")
		}
		return nil
	})
	if err == nil {
		err = f.mirrors.start(id)
	}
	return octets(c), err
}

// stopMirroring returns at once; the status is Stopping until the mirror ended.
func (f *fabric) stopMirroring(c *call) (reply, error) {
	err := f.state.read(func(s *state) error {
		it, err := f.mirrorItem(s, c)
		if err == nil && f.now().Before(it.Ready) {
			return notReady()
		}
		return err
	})
	if err == nil {
		err = f.mirrors.stop(c.vars["item"])
	}
	return octets(c), err
}

// octets is the recorded answer of start and stop: 200, 0 bytes, octet-stream.
func octets(c *call) reply {
	c.header.Set("Content-Type", "application/octet-stream")
	return reply{status: http.StatusOK}
}

func (f *fabric) getMirroringStatus(c *call) (reply, error) {
	var status string
	err := f.state.read(func(s *state) error {
		it, err := f.mirrorItem(s, c)
		if err != nil {
			return err
		}
		switch {
		case f.now().Before(it.Ready):
			status = "Initializing"
		case it.Mirroring == "":
			status = "Initialized"
		case it.Mirroring == running && f.now().Before(it.Begins):
			status = "Starting"
		default:
			status = it.Mirroring
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	if status == stopped && f.mirrors.alive(c.vars["item"]) {
		status = "Stopping"
	}
	return reply{http.StatusOK, map[string]any{"status": status}}, nil
}

// tableStatus is one table in the public status.
type tableStatus struct {
	Kind    string       `json:"sourceObjectType"`
	Schema  string       `json:"sourceSchemaName"`
	Table   string       `json:"sourceTableName"`
	Status  string       `json:"status"`
	Metrics tableMetrics `json:"metrics"`
	Error   *detail      `json:"error,omitempty"`
}

type tableMetrics struct {
	Bytes   int64  `json:"processedBytes"`
	Rows    int64  `json:"processedRows"`
	Last    string `json:"lastSyncDateTime"`
	Latency *int   `json:"lastSyncLatencyInSeconds,omitempty"`
}

// getTablesMirroringStatus is POST only, for every page; its list is under data.
func (f *fabric) getTablesMirroringStatus(c *call) (reply, error) {
	err := f.state.read(func(s *state) error { _, err := f.mirrorItem(s, c); return err })
	if err != nil {
		return reply{}, err
	}
	tables := f.mirrors.status(c.vars["item"])
	slices.SortFunc(tables, func(a, b tableStatus) int {
		return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Table, b.Table))
	})
	return list(f, c, "data", tables)
}

// never is how the service writes a time that didn't come yet.
var never = stamp(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
