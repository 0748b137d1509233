package setup_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// TestNonSuperuser is skipped, by name, where every server here is older than
// 16: there the administrator has to be a superuser, and no test of this package
// proves what an ordinary one may do.
func TestNonSuperuser(t *testing.T) {
	t.Parallel()
	if in := localpgtest.Servers(t)[0]; in.Version < 16 {
		t.Skipf("the newest PostgreSQL here is %d: make postgres-17", in.Version)
	}
	w := newWorld(t)
	if got := w.rows(t, "SELECT rolsuper::text FROM pg_roles WHERE rolname = 'pgadmin'"); len(got) != 1 || got[0] != "false" {
		t.Errorf("pgadmin is a superuser: got %v, want false", got)
	}
}

// TestOldestServer walks both modes on the oldest server here; all other tests of
// this package run on the newest.
func TestOldestServer(t *testing.T) {
	t.Parallel()
	all := localpgtest.Servers(t)
	if len(all) == 1 {
		t.Skip("there is one PostgreSQL only: make postgres-17")
	}
	w := newWorldOn(t, all[len(all)-1])
	for _, file := range []string{nativeFile, openFile + "allow: [restart]\n"} {
		cfg := w.config(t, file)
		mustApply(t, cfg)
		clean(t, plan(t, cfg))
		if again := mustApply(t, cfg); len(again) != 0 {
			t.Errorf("the second apply wrote %q", again)
		}
	}
}

func TestNativeWalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, nativeFile)
	first := plan(t, cfg)
	losses(t, first, "TypeRefused public.events.body", "NumericLosesFraction public.loose.total", "SnapshotSize ", "FreeStorage ")
	if f := find(t, first, "restart"); f.Action != setup.Restart || f.After != "parameters" {
		t.Errorf("restart: got %+v", f)
	}
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
	start := time.Now()
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("the second apply wrote %q", again)
	}
	t.Logf("an apply with nothing to do: %v", time.Since(start))
}

// TestNativeWithoutList mirrors what the role owns, and names the rest: nobody's
// table changes its owner without being listed.
func TestNativeWithoutList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, "allow: [restart]\n")
	losses(t, plan(t, cfg), "TableNotOwned public.orders", "TypeRefused public.events.body")
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
	if got := w.rows(t, "SELECT DISTINCT tableowner::text FROM pg_tables WHERE tablename IN ('orders', 'customers')"); len(got) != 1 || got[0] != "app" {
		t.Errorf("owners of tables that aren't listed: got %q, want app", got)
	}
}

// TestOpenWalk finds its workspace by name.
func TestOpenWalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nowhere := w.config(t, openFile, "FABRIC_WORKSPACE_ID=no such")
	if f := find(t, plan(t, nowhere), "workspace"); f.Code != "WorkspaceNotFound" || f.Action != setup.Blocked {
		t.Errorf("a workspace that isn't there: got %+v", f)
	}
	cfg := w.config(t, openFile+"allow: [restart]\n", "FABRIC_WORKSPACE_ID=pgmirror")
	losses(t, plan(t, cfg), "ColumnLoss public.events.body", "NoKey public.log")
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("the second apply wrote %q", again)
	}
	w.exec(t, "CREATE TABLE parted (id int PRIMARY KEY, n numeric) PARTITION BY RANGE (id)", "CREATE TABLE parted_0 PARTITION OF parted DEFAULT")
	chosen := w.config(t, openFile+"run: {types: [public.parted.n=text, 'public.parted_*.n=decimal(20,4)', public.orders.tot=text, 'public.o?ders.*=text']}\n", "FABRIC_WORKSPACE_ID=pgmirror")
	told := plan(t, chosen)
	losses(t, told, "ColumnTypeUnused public.parted_*.n=decimal(20,4)", "ColumnTypeUnused public.orders.tot=text", "ColumnLoss public.parted.n", "ColumnLoss public.orders.total")
	untold(t, told, "ColumnTypeUnused public.parted.n=text", "ColumnTypeUnused public.o?ders.*=text")
	apart := w.config(t, "mode: open\nmirror: {name: pg-mirror-open, tables: ['public.parted_*']}\nrun: {types: [public.parted.n=text, 'public.parted_*.n=decimal(20,4)']}\n", "FABRIC_WORKSPACE_ID=pgmirror")
	told = plan(t, apart)
	losses(t, told, "ColumnTypeUnused public.parted.n=text", "ColumnLoss public.parted_0.n")
	untold(t, told, "ColumnTypeUnused public.parted_*.n=decimal(20,4)")
}

const parted = `
SET ROLE app;
CREATE TABLE parted (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parted_2024 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE parted_2025 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY RANGE (day);
CREATE TABLE parted_2025_1 PARTITION OF parted_2025 DEFAULT;
CREATE TABLE indexed (id int NOT NULL UNIQUE) PARTITION BY RANGE (id);
CREATE TABLE indexed_0 PARTITION OF indexed DEFAULT;
ALTER TABLE indexed_0 REPLICA IDENTITY FULL;
CREATE TABLE unique_only (id int NOT NULL UNIQUE) PARTITION BY RANGE (id);
CREATE TABLE unique_only_0 PARTITION OF unique_only DEFAULT;
RESET ROLE`

// A partitioned table is one table: its partitions, also those that come later, are
// published through it, and the role may read them. One without a primary key is
// added to only, so that PostgreSQL refuses no new partition's updates.
func TestOpenPartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, parted)
	cfg := w.config(t, openFile+"allow: [restart]\n")
	losses(t, plan(t, cfg), "NoKey public.indexed", "NoKey public.unique_only")
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
	want := []string{"pgmirror_dev.customers", "pgmirror_dev.events", "pgmirror_dev.loose", "pgmirror_dev.orders", "pgmirror_dev.parted", "pgmirror_dev_insert_only.indexed", "pgmirror_dev_insert_only.log", "pgmirror_dev_insert_only.unique_only"}
	if got := w.rows(t, named); !slices.Equal(got, want) {
		t.Errorf("published: got %q, want %q", got, want)
	}
	w.exec(t, "SET ROLE app; CREATE TABLE parted_2026 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); CREATE TABLE indexed_1 PARTITION OF indexed FOR VALUES FROM (0) TO (9); INSERT INTO indexed VALUES (1); UPDATE indexed SET id = 2; INSERT INTO unique_only VALUES (1); UPDATE unique_only SET id = 2; RESET ROLE")
	told := plan(t, cfg)
	clean(t, told)
	untold(t, told, "PublishedUnlisted public.parted", "TableNotJoined public.parted")
	for _, leaf := range []string{"parted_2024", "parted_2025_1", "parted_2026", "indexed_0", "indexed_1"} {
		if got := w.rows(t, "SELECT has_table_privilege('"+cfg.Role.Name+"', '"+leaf+"', 'SELECT')::text"); got[0] != "true" {
			t.Errorf("%s can't be read by the role", leaf)
		}
	}
}

// Patterns that fit partitions, and not what they are in, have each be a table of its
// own; the topmost that one fits is one table.
func TestPatternsOfPartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, parted, "CREATE TABLE kept (id int) PARTITION BY RANGE (id)", "CREATE TABLE kept_0 PARTITION OF kept DEFAULT", "ALTER TABLE kept_0 SET UNLOGGED")
	for tables, want := range map[string]string{
		"public.parted*":                       "parted",
		"public.parted_*":                      "parted_2024 parted_2025",
		"public.parted_2025_1":                 "parted_2025_1",
		"public.parted_2024, public.parted":    "parted",
		"public.parted_2025, public.indexed_0": "indexed_0 parted_2025",
		"public.kept, public.orders":           "orders",
	} {
		if got := strings.Join(picked(t, w.config(t, "mode: open\nmirror: {tables: ["+strings.ReplaceAll("'"+tables+"'", ", ", "', '")+"]}\n")), " "); got != want {
			t.Errorf("%s: got %q, want %q", tables, got, want)
		}
	}
}

// A mirror that has begun is left as it is: what is new, what tables remove took out and
// partitions that an earlier pgmirror published by themselves are told, and leave run
// nothing to refuse for, slot or not.
func TestBegunMirrorIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, parted)
	cfg := w.config(t, openFile+"allow: [restart]\n")
	mustApply(t, cfg)
	w.exec(t, "ALTER PUBLICATION pgmirror_dev DROP TABLE orders, parted", "ALTER PUBLICATION pgmirror_dev ADD TABLE parted_2024, parted_2025_1", "ALTER PUBLICATION pgmirror_dev_insert_only DROP TABLE log",
		"CREATE ROLE stranger; CREATE SCHEMA strange AUTHORIZATION stranger; SET ROLE stranger; CREATE TABLE strange.new (id int PRIMARY KEY); RESET ROLE")
	told := plan(t, cfg)
	clean(t, told)
	losses(t, told, "TableNotJoined public.log, public.orders, public.parted, strange.new", "PublishedApart public.parted")
	untold(t, told, "PublishedUnlisted public.parted_2024")
	if f := find(t, told, "publications"); f.Hint != "pgmirror tables add public.log public.orders public.parted strange.new" {
		t.Errorf("got the hint %q", f.Hint)
	}
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("apply wrote %q", again)
	}
	w.exec(t, "DROP PUBLICATION pgmirror_dev_insert_only") // nothing tells what it had, or that it ever was
	told = plan(t, cfg)
	clean(t, told)
	losses(t, told, "TableNotJoined public.indexed, public.log, public.orders, public.parted, public.unique_only, strange.new")
	w.exec(t, "SELECT pg_create_logical_replication_slot('pgmirror_dev', 'pgoutput')", "DROP TABLE strange.new", "DROP PUBLICATION pgmirror_dev")
	losses(t, plan(t, cfg), "PublicationGone pgmirror_dev")
	mustApply(t, cfg)
	if got := strings.Join(w.rows(t, named), " "); !strings.Contains(got, "pgmirror_dev.orders pgmirror_dev.parted ") {
		t.Errorf("published: got %q", got)
	}
}

// A partition that another schema or another owner has leaves run nothing to refuse for:
// what the role lacks for it is told.
func TestPartitionByAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, parted)
	cfg := w.config(t, openFile+"allow: [restart]\n")
	mustApply(t, cfg)
	w.exec(t, "CREATE ROLE stranger; CREATE SCHEMA strange AUTHORIZATION stranger; CREATE SCHEMA cold AUTHORIZATION app",
		"SET ROLE app; CREATE TABLE cold.parted_2027 PARTITION OF parted FOR VALUES FROM ('2027-01-01') TO ('2028-01-01'); GRANT SELECT ON cold.parted_2027 TO fabric_user; RESET ROLE",
		"SET ROLE stranger; CREATE TABLE strange.parted_2028 (id int NOT NULL, day date NOT NULL, note text, PRIMARY KEY (id, day)); RESET ROLE",
		"ALTER TABLE parted ATTACH PARTITION strange.parted_2028 FOR VALUES FROM ('2028-01-01') TO ('2029-01-01')")
	told := plan(t, cfg)
	clean(t, told)
	losses(t, told, "PartitionRights cold.parted_2027", "PartitionRights strange.parted_2028")
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("apply wrote %q", again)
	}
	f := find(t, told, "read-grants")
	_, sql, ok := strings.Cut(f.Hint, " -c '")
	if f.Code != "PartitionRights" || !ok || strings.Contains(f.Hint, "-U") {
		t.Fatalf("got %+v", f)
	}
	w.exec(t, strings.TrimSuffix(sql, "'"))
	untold(t, plan(t, cfg), "PartitionRights cold.parted_2027", "PartitionRights strange.parted_2028")
}

const apart = `
SET ROLE app;
CREATE TABLE keyless (id int NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE keyless_0 PARTITION OF keyless DEFAULT;
ALTER TABLE keyless_0 ADD PRIMARY KEY (id);
CREATE TABLE broken (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE broken_0 PARTITION OF broken FOR VALUES FROM (0) TO (9);
CREATE UNLOGGED TABLE broken_1 PARTITION OF broken FOR VALUES FROM (9) TO (99);
RESET ROLE`

// Partitions that an earlier pgmirror published by themselves are left, where they would
// lose something as one table or can't be one: nothing else is advised.
func TestPublishedApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, openFile+"allow: [restart]\n")
	mustApply(t, cfg)
	w.exec(t, apart, "ALTER PUBLICATION pgmirror_dev ADD TABLE keyless_0, broken_0")
	told := plan(t, cfg)
	clean(t, told)
	losses(t, told, "PublishedApart public.keyless", "PublishedApart public.broken", "NotMirrored public.broken", "TableNotJoined public.keyless")
	untold(t, told, "PublishedUnlisted public.keyless_0", "PublishedUnlisted public.broken_0")
	f := find(t, told, "publications")
	if f.Hint != "pgmirror tables list" {
		t.Errorf("got the hint %q", f.Hint)
	}
	for _, n := range f.Notes {
		if n.Code == "PublishedApart" && strings.HasSuffix(n.Text, "until tables remove") {
			t.Errorf("tables add is advised for %s: %s", n.Subject, n.Text)
		}
	}
}

// What the administrator may not do is said in a line for somebody who may.
func TestLineForAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.rows(t, "SELECT rolsuper::text FROM pg_roles WHERE rolname = 'pgadmin'"); got[0] == "true" {
		t.Skip("before 16 the administrator is a superuser")
	}
	w.exec(t, "CREATE ROLE stranger; CREATE TABLE strange (id int PRIMARY KEY); ALTER TABLE strange OWNER TO stranger")
	cfg := w.config(t, "mode: open\nmirror: {tables: [public.strange]}\n")
	f := find(t, plan(t, cfg), "read-grants")
	_, sql, ok := strings.Cut(f.Hint, " -c '")
	if f.Code != "AdminRights" || !ok || strings.Contains(f.Hint, "-U") {
		t.Fatalf("got %+v", f)
	}
	w.exec(t, strings.TrimSuffix(sql, "'"))
	if f := find(t, plan(t, cfg), "read-grants"); f.Action == setup.Blocked {
		t.Errorf("got %+v after it was done", f)
	}
}

const named = "SELECT p.pubname || '.' || c.relname FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid ORDER BY 1"

// picked are the names of the tables that a plan picks.
func picked(t *testing.T, cfg *config.Config) []string {
	t.Helper()
	var facts *setup.Facts
	plan(t, cfg, func(f *setup.Facts) { facts = f })
	var out []string
	for _, p := range facts.Picked {
		out = append(out, p.Name)
	}
	return out
}

// untold fails if the plan tells any of them.
func untold(t *testing.T, plan []setup.Finding, notes ...string) {
	t.Helper()
	for _, f := range plan {
		for _, n := range f.Notes {
			if slices.Contains(notes, n.Code+" "+n.Subject) {
				t.Errorf("the plan tells %s %s: %s", n.Code, n.Subject, n.Text)
			}
		}
	}
}

// losses fails unless the plan tells each of them.
func losses(t *testing.T, plan []setup.Finding, want ...string) {
	t.Helper()
	told := map[string]bool{}
	for _, f := range plan {
		for _, n := range f.Notes {
			told[n.Code+" "+n.Subject] = true
		}
	}
	for _, l := range want {
		if !told[l] {
			t.Errorf("the plan doesn't tell %q: %v", l, told)
		}
	}
}
