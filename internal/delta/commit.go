package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/pgmirror/pgmirror/internal/store"
)

// ErrConflict means that somebody else committed that version first; nothing
// was committed. Possibly wrapped.
var ErrConflict = errors.New("another writer committed first")

// Engine is the engineInfo of our commits.
const Engine = "pgmirror"

// Commit writes actions as the version after readVersion; -1 makes the table. It
// fails with ErrConflict when that version is there already. Files that the
// actions name must be durable before. It fills in what a commitInfo lacks, in
// place.
func Commit(ctx context.Context, table store.Store, readVersion int64, actions []Action) (version int64, err error) {
	for i := range actions {
		if c := actions[i].CommitInfo; c != nil {
			c.fill()
		}
		if err := actions[i].check(); err != nil {
			return 0, err
		}
	}
	body, err := encode(actions)
	if err != nil {
		return 0, err
	}
	version = readVersion + 1
	_, err = table.Put(ctx, commitName(version), body, store.Cond{Absent: true})
	switch {
	case errors.Is(err, store.ErrUnknown):
		return version, settle(ctx, table, version, body, err)
	case errors.Is(err, store.ErrExist):
		return 0, fmt.Errorf("commit version %d: %w", version, ErrConflict)
	case err != nil:
		return 0, fmt.Errorf("commit version %d: %w", version, err)
	}
	return version, nil
}

// Prove makes sure that a store refuses to write a file that is there when it is
// asked to: that no commit overwrites another stands on it. One whose folders
// vanish with their last file is refused as well: in a storage account with a
// flat namespace a rename is a copy and a deletion, between which another fits.
// It leaves nothing behind.
func Prove(ctx context.Context, s store.Store) (err error) {
	folder := "_pgmirror_probe_" + uuid.NewString()
	defer func() {
		_ = s.Remove(context.WithoutCancel(ctx), folder) // one that stays is in nobody's way
		if err != nil {
			err = fmt.Errorf("prove that commits are kept apart: %w", err)
		}
	}()
	name := folder + "/1"
	if _, err := s.Put(ctx, name, []byte("1"), store.Cond{Absent: true}); err != nil {
		return err
	}
	switch _, err := s.Put(ctx, name, []byte("2"), store.Cond{Absent: true}); {
	case err == nil:
		return errors.New("the store overwrites files that it was asked not to")
	case !errors.Is(err, store.ErrExist):
		return err
	}
	if err := s.Remove(ctx, name); err != nil {
		return err
	}
	if _, err := s.Stat(ctx, folder); errors.Is(err, store.ErrNotExist) {
		return errors.New("the storage account has a flat namespace; it needs a hierarchical one")
	} else if err != nil {
		return err
	}
	return nil
}

// settle finds out whether a write whose outcome is unknown is ours: the id in
// commitInfo tells our bytes from anybody else's.
func settle(ctx context.Context, table store.Store, version int64, body []byte, unknown error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	there, _, err := table.Read(ctx, commitName(version), 0, -1)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return fmt.Errorf("commit version %d: %w", version, unknown)
	case err != nil:
		return fmt.Errorf("commit version %d: %w: %w", version, unknown, err)
	case !bytes.Equal(there, body):
		return fmt.Errorf("commit version %d: %w", version, ErrConflict)
	}
	return nil
}

func (c *CommitInfo) fill() {
	if c.ID == "" {
		c.ID = uuid.NewString()
	}
	if c.Timestamp == 0 {
		c.Timestamp = time.Now().UnixMilli()
	}
	if c.Engine == "" {
		c.Engine = Engine
	}
	if c.Parameters == nil {
		c.Parameters = map[string]string{}
	}
}

// NewMetadata describes a new table.
func NewMetadata(schema string, configuration map[string]string) *Metadata {
	if configuration == nil {
		configuration = map[string]string{}
	}
	return &Metadata{ID: uuid.NewString(), Format: Format{Provider: "parquet", Options: map[string]string{}}, SchemaString: schema,
		PartitionColumns: []string{}, Configuration: configuration, CreatedTime: time.Now().UnixMilli()}
}
