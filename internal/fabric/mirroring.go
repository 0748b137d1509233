package fabric

import (
	"context"
	"fmt"
	"time"

	"github.com/microsoft/fabric-sdk-go/fabric/mirroreddatabase"
)

// StartMirroring asks Fabric to start; MirroringStatus tells when it runs.
// IsNotReady shortly after creation. Starting what was stopped copies every
// table anew.
func (c *Client) StartMirroring(ctx context.Context, workspace, id string) error {
	if _, err := c.mirroring.StartMirroring(ctx, workspace, id, nil); err != nil {
		return fmt.Errorf("start mirroring: %w", err)
	}
	return nil
}

// StopMirroring asks Fabric to stop; MirroringStatus tells when it did.
func (c *Client) StopMirroring(ctx context.Context, workspace, id string) error {
	if _, err := c.mirroring.StopMirroring(ctx, workspace, id, nil); err != nil {
		return fmt.Errorf("stop mirroring: %w", err)
	}
	return nil
}

// MirroringStatus is the state of a mirrored database as a whole. Running says
// nothing about its tables.
type MirroringStatus struct {
	Status string // Initializing, Initialized, Starting, Running, Paused, Stopping, Stopped
	Error  string // "" when there is none
}

// MirroringStatus asks for the state of a mirrored database.
func (c *Client) MirroringStatus(ctx context.Context, workspace, id string) (MirroringStatus, error) {
	r, err := c.mirroring.GetMirroringStatus(ctx, workspace, id, nil)
	if err != nil {
		return MirroringStatus{}, fmt.Errorf("get mirroring status: %w", err)
	}
	if val(r.Status) == "" {
		return MirroringStatus{}, fmt.Errorf("get mirroring status: the answer has no status")
	}
	s := MirroringStatus{Status: string(*r.Status)}
	if r.Error != nil {
		s.Error = val(r.Error.Message)
	}
	return s, nil
}

// TableStatus is the state of one table of a mirrored database.
type TableStatus struct {
	Schema, Table  string
	Status         string    // Initialized, Snapshotting, Replicating, Reseeding, Stopped, Failed
	ProcessedRows  int64     // inserts, updates and deletes since the start; not a row count
	ProcessedBytes int64     // likewise
	LastSync       time.Time // zero before the first
	LatencySeconds *int      // from commit at the source to commit in the mirror; nil when the source doesn't tell
	ErrorCode      string
	ErrorMessage   string // a table can say Replicating and have one
}

// TablesStatus asks for the state of every table of a mirrored database.
func (c *Client) TablesStatus(ctx context.Context, workspace, id string) ([]TableStatus, error) {
	list, err := all(func(token *string) ([]mirroreddatabase.TableMirroringStatusResponse, *string, *string, error) {
		o := &mirroreddatabase.MirroringClientGetTablesMirroringStatusOptions{ContinuationToken: token}
		r, err := c.mirroring.NewGetTablesMirroringStatusPager(workspace, id, o).NextPage(ctx)
		return r.Data, r.ContinuationToken, r.ContinuationURI, err
	})
	if err != nil {
		return nil, fmt.Errorf("get tables' mirroring status: %w", err)
	}
	out := make([]TableStatus, len(list))
	for i, t := range list {
		out[i] = tableStatus(t)
	}
	return out, nil
}

func tableStatus(t mirroreddatabase.TableMirroringStatusResponse) TableStatus {
	s := TableStatus{Schema: val(t.SourceSchemaName), Table: val(t.SourceTableName), Status: string(val(t.Status))}
	if m := t.Metrics; m != nil {
		s.ProcessedRows, s.ProcessedBytes, s.LastSync = val(m.ProcessedRows), val(m.ProcessedBytes), val(m.LastSyncDateTime).UTC()
		if l := m.LastSyncLatencyInSeconds; l != nil {
			n := int(*l)
			s.LatencySeconds = &n
		}
	}
	if t.Error != nil {
		s.ErrorCode, s.ErrorMessage = val(t.Error.ErrorCode), val(t.Error.Message)
	}
	return s
}
