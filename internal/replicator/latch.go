package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pgmirror/pgmirror/internal/store"
)

// faultFile, in a table's folder, keeps a fault that latched over restarts. It
// is about one life of the landing folder.
const faultFile = "_fault.json"

type keptFault struct {
	Format     int    `json:"format"` // 1
	Generation string `json:"generation"`
	Error      string `json:"error"`
}

func (t *table) keepFault(ctx context.Context, f *fault) error {
	body, err := json.Marshal(keptFault{1, t.etag, f.text})
	if err == nil {
		_, err = t.lake.Put(ctx, faultFile, body, store.Cond{})
	}
	if err != nil {
		return fmt.Errorf("keep the fault: %w", err)
	}
	return nil
}

// latchedBefore finds a fault that latched in this life of the folder. One of a
// former life goes.
func (t *table) latchedBefore(ctx context.Context, generation string) (bool, error) {
	body, _, err := t.lake.Read(ctx, faultFile, 0, -1)
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	var k keptFault
	if err == nil {
		err = json.Unmarshal(body, &k)
	}
	if err == nil && k.Format != 1 {
		err = fmt.Errorf("format %d is not known", k.Format)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", faultFile, err)
	}
	if k.Generation != generation {
		return false, t.lake.Remove(ctx, faultFile)
	}
	t.set(func(s *TableStatus) { s.State, s.Error = Failed, k.Error })
	return true, nil
}
