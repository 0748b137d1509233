package setup

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
)

// cost is what a first copy moves, and what Fabric keeps of it free of charge. It
// is told, and decides nothing: what can't be learned is left out.
func (c *Clients) cost(ctx context.Context, f *Facts) ([]Note, error) {
	var out []Note
	if f.Admin && len(f.Picked) > 0 {
		session, err := c.asAdmin(ctx, f)
		if err != nil {
			return nil, err
		}
		oids := make([]uint32, len(f.Picked))
		for i, t := range f.Picked {
			oids[i] = t.OID
		}
		size, err := session.TablesSize(ctx, oids)
		if err != nil {
			return nil, err
		}
		out = append(out, Note{snapshotSize, "", fmt.Sprintf("the first copy reads about %s, the tables' size without their indexes", config.Bytes(size).About())})
	}
	sku, err := c.Fabric.CapacitySKU(ctx, f.capacity)
	if err != nil {
		return out, nil // who may not list capacities may mirror all the same
	}
	if units, ok := capacityUnits(sku); ok {
		out = append(out, Note{freeStorage, "", fmt.Sprintf("capacity %s: OneLake keeps up to %d TB of mirrored data free of charge as long as it runs; copying is free, queries are not", sku, units)})
	}
	return out, nil
}

// The codes of notes on costs. They change with every row, and make no plan stale.
const (
	snapshotSize = "SnapshotSize"
	freeStorage  = "FreeStorage"
)

// capacityUnits are those that a capacity was bought with: each brings a terabyte.
func capacityUnits(sku string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimPrefix(sku, "F"))
	return n, err == nil && n > 0 && strings.HasPrefix(sku, "F")
}
