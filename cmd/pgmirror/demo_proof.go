package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/store"
)

// tradeAndMeasure lets the shop trade, and measures how long a commit takes to
// become visible: the time from the answer to COMMIT until the newest version of
// the Delta table holds the row.
func (d *demo) tradeAndMeasure(ctx context.Context) error {
	begun, before := time.Now(), d.shop.done.Load()
	if err := d.beats(ctx, "open", d.open, 7); err != nil {
		return err
	}
	if err := d.beats(ctx, "native", d.native, 5); err != nil {
		return err
	}
	if err := pause(ctx, d.o.trade-time.Since(begun)); err != nil {
		return err
	}
	d.s.say("  %s in %s: inserts, updates (of rows with long texts too), deletes, changed keys, transactions over several tables",
		plural(d.shop.done.Load()-before, "transaction"), seconds(time.Since(begun)))
	d.s.say("  %s cut off by the restart so far; the shop connected again", plural(d.shop.lost.Load(), "transaction"))
	return nil
}

// beats commits heartbeats one by one and waits for each in a mirror.
func (d *demo) beats(ctx context.Context, name string, ses *session, n int) error {
	conn, err := pgx.Connect(ctx, d.shopURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	table, err := d.deltaTable(ses, "heartbeats")
	if err != nil {
		return err
	}
	var took []time.Duration
	for range n {
		d.beatID++
		committed, err := d.shop.beat(ctx, conn, d.beatID)
		if err != nil {
			return err
		}
		err = await(ctx, "a committed row becomes visible in the "+name+" mirror", 2*time.Minute, func(ctx context.Context) (bool, error) {
			return holds(ctx, table, "id", d.beatID)
		})
		if err != nil {
			return err
		}
		took = append(took, time.Since(committed))
	}
	slices.Sort(took)
	d.s.say("  %s: commit → visible in the Delta table: median %s, slowest %s, of %d", name, seconds(took[len(took)/2]), seconds(took[len(took)-1]), len(took))
	return nil
}

var errFound = errors.New("found")

// holds reports whether the newest version of a Delta table has a row whose
// bigint column has a value.
func holds(ctx context.Context, table store.Store, column string, value int64) (bool, error) {
	snap, err := delta.Open(ctx, table, -1)
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = snap.Scan(ctx, []string{column}, func(_ delta.File, b *batch.Batch, live []int32) error {
		for _, i := range live {
			if b.Cols[0].Def[i] == batch.Present && b.Cols[0].I64[i] == value {
				return errFound
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errFound):
		return true, nil
	case errors.Is(err, store.ErrNotExist):
		return false, nil // a file of an older version was cleaned up meanwhile
	}
	return false, err
}

// tablesDir is where a mirror's Delta tables lie on this machine.
func (d *demo) tablesDir(ses *session) (string, error) {
	m, err := ses.mirror()
	if err != nil {
		return "", err
	}
	return d.path("emulator", "onelake", ses.cfg.Workspace, m.ID, "Tables"), nil
}

func (d *demo) deltaTable(ses *session, table string) (*store.Dir, error) {
	dir, err := d.tablesDir(ses)
	if err != nil {
		return nil, err
	}
	return store.OpenDir(filepath.Join(dir, "public", table))
}

func (d *demo) showStatus(ctx context.Context) error {
	for _, name := range []string{"native", "open"} {
		if err := d.command(ctx, exitOK, append([]string{"status"}, d.mirrorFlags(name)...)...); err != nil {
			return err
		}
	}
	return nil
}

// verifyUnderLoad takes the busiest tables: each waits for what is in flight.
func (d *demo) verifyUnderLoad(ctx context.Context) error {
	return d.verify(ctx, "open", "orders", "order_lines", "products", "reviews")
}

func (d *demo) verify(ctx context.Context, name string, tables ...string) error {
	return d.command(ctx, exitOK, slices.Concat([]string{"verify"}, tables, d.mirrorFlags(name))...)
}

// verifyAtRest also exports, when asked: nothing changes any more, and verify
// has waited until the mirrors had everything.
func (d *demo) verifyAtRest(ctx context.Context) error {
	d.trading.stop()
	d.trading = nil
	d.s.say("  closed after %s", plural(d.shop.done.Load(), "transaction"))
	for _, name := range []string{"native", "open"} {
		if err := d.verify(ctx, name); err != nil {
			return err
		}
	}
	if d.o.export == "" {
		return nil
	}
	return d.exportShop(ctx)
}

// exportShop reads as the superuser: the seed table isn't the application's.
func (d *demo) exportShop(ctx context.Context) error {
	var tables []exportedTable
	for _, m := range []struct {
		ses  *session
		list []string
	}{{d.native, shopNative}, {d.open, slices.Concat(shopNative, shopOthers, []string{"fabric_mirror_seed"})}} {
		dir, err := d.tablesDir(m.ses)
		if err != nil {
			return err
		}
		for _, t := range m.list {
			tables = append(tables, exportedTable{Mirror: m.ses.cfg.MirrorName(), Schema: "public", Table: t, Delta: filepath.Join(dir, "public", t)})
		}
	}
	conn, err := pgx.Connect(ctx, d.emu.Cluster().URL("", "", "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := exportTables(ctx, conn, d.o.export, tables); err != nil {
		return err
	}
	d.s.say("  exported what PostgreSQL holds to %s", d.o.export)
	return nil
}

// flipAndVerify damages a copy, never the mirror.
func (d *demo) flipAndVerify(ctx context.Context) error {
	const table, id = "customers", 4711
	dir, err := d.tablesDir(d.open)
	if err != nil {
		return err
	}
	to := d.path("flipped", "public", table)
	if err := copyTable(filepath.Join(dir, "public", table), to); err != nil {
		return err
	}
	copied, err := store.OpenDir(to)
	if err != nil {
		return err
	}
	if err := flipValue(ctx, copied, "id", id, "email", "flipped@example.com"); err != nil {
		return err
	}
	d.s.say("  %s of customer %d is another one now, in %s", "email", id, to)
	args := append([]string{"verify", "public." + table, "--delta", d.path("flipped"), "--settle", "1s"}, d.mirrorFlags("open")...)
	if err := d.command(ctx, exitMismatch, args...); err != nil {
		return err
	}
	d.s.say("  exit code %d: verify found the row and named it", exitMismatch)
	return nil
}

func (d *demo) tellReaders(context.Context) error {
	dir, err := d.tablesDir(d.open)
	if err != nil {
		return err
	}
	orders := filepath.Join(dir, "public", "orders")
	d.s.say("  Delta tables: %s", dir)
	d.s.say("  DuckDB:    SELECT * FROM delta_scan('%s');", orders)
	d.s.say("  delta-rs:  deltalake.QueryBuilder().register(\"t\", deltalake.DeltaTable(%q)).execute(\"SELECT * FROM t\")", orders)
	d.s.say("  Spark:     spark.read.format(\"delta\").load(%q)", orders)
	if d.o.dir == "" && !d.o.keep {
		d.s.say("  They go now, with the demo: `pgmirror demo --dir DIR` keeps them, --keep leaves everything running.")
	}
	return nil
}
