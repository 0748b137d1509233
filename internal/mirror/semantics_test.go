package mirror

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

var update = flag.Bool("update", false, "write docs/semantics.md anew")

// What a mirror makes of a change.
const (
	followed = "followed"                             // in place, row by row
	anew     = "built anew"                           // its folder goes, and it is copied at a new boundary
	parked   = "parked"                               // given up with the reason
	ignored  = "not mirrored, counted and reported"   // of a table without a key
	refused  = "taken out of the publication, parked" // PostgreSQL would refuse the application's updates
)

// semantic is something that happens to a table, what becomes of it in the mirror,
// and what one should know of that. The table is made by create and changed by
// change; %s is its name.
type semantic struct {
	what    string
	create  string
	change  string
	want    string
	note    string
	other   string // a second table that has to be equal as well, as "%s_new"
	keyless bool
}

const simple = `CREATE TABLE %s (id int PRIMARY KEY, v text, n int); INSERT INTO %s SELECT i, 'v' || i, i FROM generate_series(1, 50) i`

const large = `CREATE TABLE %s (id int PRIMARY KEY, v text, big text); ALTER TABLE %s ALTER big SET STORAGE EXTERNAL; INSERT INTO %s SELECT i, 'v', repeat(md5(i::text), 200) FROM generate_series(1, 20) i`

const ranged = `CREATE TABLE %s (id int, at int, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); CREATE TABLE %s_0 PARTITION OF %s FOR VALUES FROM (0) TO (10);
	CREATE TABLE %s_1 PARTITION OF %s FOR VALUES FROM (10) TO (20); INSERT INTO %s SELECT i, i % 20, 'v' FROM generate_series(1, 100) i`

const mood = `CREATE TYPE %s_mood AS ENUM ('sad', 'ok'); CREATE TABLE %s (id int PRIMARY KEY, v %s_mood); INSERT INTO %s VALUES (1, 'ok'), (2, 'sad')`

const noKey = `CREATE TABLE %s (v int, w text); INSERT INTO %s SELECT i % 5, 'w' FROM generate_series(1, 50) i`

// semantics are the rows of docs/semantics.md.
var semantics = []semantic{
	{what: "INSERT, UPDATE, DELETE", create: simple, change: "INSERT INTO %s VALUES (99, 'new', 1); UPDATE %s SET n = -1 WHERE id < 9; DELETE FROM %s WHERE id > 40", want: followed},
	{what: "a key that is deleted and inserted again, and the other way round", create: simple, change: "BEGIN; DELETE FROM %s WHERE id = 1; INSERT INTO %s VALUES (1, 'again', 1); INSERT INTO %s VALUES (77, 'gone', 1); DELETE FROM %s WHERE id = 77; COMMIT", want: followed},
	{what: "UPDATE of a key", create: simple, change: "UPDATE %s SET id = id + 1000 WHERE id < 20", want: followed, note: "the old key is deleted and the new one added in one file"},
	{what: "keys that change places in one transaction", create: simple, change: "BEGIN; UPDATE %s SET id = -1 WHERE id = 1; UPDATE %s SET id = 1 WHERE id = 2; UPDATE %s SET id = 2 WHERE id = -1; COMMIT", want: followed},
	{what: "UPDATE that leaves a large (TOASTed) value alone", create: large, change: "UPDATE %s SET v = 'small'", want: followed, note: "PostgreSQL doesn't send the value: it comes from an earlier change in the same file or from the table, never NULL"},
	{what: "UPDATE of the key of such a row", create: large, change: "UPDATE %s SET id = id + 100", want: followed},
	{what: "ROLLBACK, ROLLBACK TO SAVEPOINT", create: simple, change: "BEGIN; DELETE FROM %s; ROLLBACK; BEGIN; UPDATE %s SET v = 'kept'; SAVEPOINT s; DELETE FROM %s; ROLLBACK TO s; COMMIT", want: followed, note: "what was rolled back never appears"},
	{what: "TRUNCATE", create: simple, change: "TRUNCATE %s; INSERT INTO %s VALUES (1, 'after', 1)", want: anew},
	{what: "TRUNCATE between changes of one transaction", create: simple, change: "BEGIN; UPDATE %s SET n = 0; TRUNCATE %s; INSERT INTO %s VALUES (2, 'after', 1); COMMIT", want: anew},
	{what: "ADD COLUMN without a default", create: simple, change: "ALTER TABLE %s ADD COLUMN c text; UPDATE %s SET c = 'c' WHERE id < 9", want: followed},
	{what: "ADD COLUMN with a default", create: simple, change: "ALTER TABLE %s ADD COLUMN c text DEFAULT 'of old rows too'; INSERT INTO %s VALUES (99, 'v', 1)", want: anew},
	{what: "ADD COLUMN with a default that is computed for each row", create: simple, change: "ALTER TABLE %s ADD COLUMN c uuid DEFAULT gen_random_uuid(); INSERT INTO %s VALUES (99, 'v', 1)", want: anew},
	{what: "ADD COLUMN in a transaction that fills it", create: simple, change: "BEGIN; ALTER TABLE %s ADD COLUMN c int; UPDATE %s SET c = id; COMMIT", want: followed},
	{what: "DROP COLUMN", create: simple, change: "ALTER TABLE %s DROP COLUMN n; UPDATE %s SET v = 'x' WHERE id < 9", want: followed, note: "the mirror keeps the column and its values; rows that are written later hold NULL in it"},
	{what: "DROP and ADD of a column of the same name and type", create: simple, change: "ALTER TABLE %s DROP COLUMN n; ALTER TABLE %s ADD COLUMN n int; UPDATE %s SET v = 'x' WHERE id < 9", want: anew},
	{what: "RENAME of a column", create: simple, change: "ALTER TABLE %s RENAME n TO m; UPDATE %s SET v = 'x' WHERE id < 9", want: anew},
	{what: "another type for a column", create: simple, change: "ALTER TABLE %s ALTER n TYPE bigint; UPDATE %s SET v = 'x' WHERE id < 9", want: anew},
	{what: "the same type for a column, USING an expression", create: simple, change: "ALTER TABLE %s ALTER v TYPE text USING upper(v)", want: anew, note: "PostgreSQL sends none of the rows that it writes anew"},
	{what: "a generated column that becomes a plain one", create: `CREATE TABLE %s (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED); INSERT INTO %s VALUES (1, 2)`, change: "ALTER TABLE %s ALTER twice DROP EXPRESSION; INSERT INTO %s VALUES (2, 3, 4)", want: anew},
	{what: "a new value of an enum", create: mood, change: "BEGIN; ALTER TYPE %s_mood ADD VALUE 'new' BEFORE 'ok'; COMMIT; INSERT INTO %s VALUES (3, 'new')", want: followed},
	{what: "another name for a value of an enum", create: mood, change: "ALTER TYPE %s_mood RENAME VALUE 'ok' TO 'fine'; UPDATE %s SET id = 9 WHERE id = 1", want: anew, note: "also in arrays, domains, ranges and composites"},
	{what: "a composite type gets or loses an attribute", create: `CREATE TYPE %s_pair AS (n int, s text); CREATE TABLE %s (id int PRIMARY KEY, v %s_pair); INSERT INTO %s VALUES (1, '(1,a)')`, change: "ALTER TYPE %s_pair ADD ATTRIBUTE x int", want: anew},
	{what: "SET DEFAULT, SET NOT NULL, CHECK, an index", create: simple, change: "ALTER TABLE %s ALTER n SET DEFAULT 3, ALTER v SET NOT NULL, ADD CHECK (n > -5); CREATE INDEX ON %s (n); INSERT INTO %s (id, v) VALUES (99, 'v')", want: followed},
	{what: "another primary key", create: simple, change: "ALTER TABLE %s DROP CONSTRAINT %s_pkey, ALTER v SET NOT NULL, ADD PRIMARY KEY (v); UPDATE %s SET n = 0 WHERE id < 9", want: anew},
	{what: "REPLICA IDENTITY FULL, and back", create: simple, change: "ALTER TABLE %s REPLICA IDENTITY FULL; UPDATE %s SET n = 0 WHERE id < 9; ALTER TABLE %s REPLICA IDENTITY DEFAULT; DELETE FROM %s WHERE id > 40", want: "", note: "the key is the same: followed, or built anew when both changes come at once"},
	{what: "no primary key any more", create: simple, change: "ALTER TABLE %s DROP CONSTRAINT %s_pkey", want: refused, note: "if the role owns the publication; else it is told at once, with the statement: PostgreSQL refuses the table's updates until then"},
	{what: "VACUUM FULL, CLUSTER", create: simple, change: "CLUSTER %s USING %s_pkey; UPDATE %s SET n = 0 WHERE id < 9", want: followed, note: "built anew where publications name only its schema, all tables or the partitioned table above it: it might have been UNLOGGED meanwhile"},
	{what: "RENAME of a table", create: simple, change: "ALTER TABLE %s RENAME TO %s_new; UPDATE %s_new SET n = 0", want: parked, other: "%s_new", note: "under its new name it is a new table; what was mirrored under the old one stays"},
	{what: "DROP of a table", create: simple, change: "DROP TABLE %s", want: parked, note: "what was mirrored stays, until `tables remove`"},
	{what: "DROP of a table that is made and published again", create: simple, change: "DROP TABLE %s; CREATE TABLE %s (id int PRIMARY KEY, other text); INSERT INTO %s VALUES (1, 'x'); ALTER PUBLICATION p ADD TABLE %s", want: anew},
	{what: "a table leaves the publication and comes back", create: simple, change: "ALTER PUBLICATION p DROP TABLE %s; UPDATE %s SET n = 0; SELECT pg_sleep(1); ALTER PUBLICATION p ADD TABLE %s", want: anew, note: "its changes in between were not sent"},
	{what: "UPDATE that moves a row to another partition", create: ranged, change: "UPDATE %s SET at = (at + 10) % 20", want: followed, note: "a partitioned table is one table in the mirror"},
	{what: "CREATE or ATTACH of a partition, with the rows that it has", create: ranged, change: "CREATE TABLE %s_2 (id int NOT NULL, at int NOT NULL, v text, PRIMARY KEY (id, at)); INSERT INTO %s_2 VALUES (1, 25, 'before'); ALTER TABLE %s ATTACH PARTITION %s_2 FOR VALUES FROM (20) TO (30); INSERT INTO %s VALUES (2, 25, 'after')", want: followed, note: "its rows are read; without a key, or when it has more than 1 GiB, built anew"},
	{what: "DETACH or DROP of a partition", create: ranged, change: "DROP TABLE %s_0; INSERT INTO %s VALUES (500, 15, 'after')", want: anew},
	{what: "DETACH of a partition that is attached again", create: ranged, change: "BEGIN; ALTER TABLE %s DETACH PARTITION %s_0; UPDATE %s_0 SET v = 'unseen'; ALTER TABLE %s ATTACH PARTITION %s_0 FOR VALUES FROM (0) TO (10); COMMIT", want: anew},
	{what: "TRUNCATE of a partition", create: ranged, change: "TRUNCATE %s_0; INSERT INTO %s VALUES (500, 15, 'after')", want: anew},
	{what: "INSERT into a table without a key", create: noKey, change: "INSERT INTO %s VALUES (9, 'new'), (9, 'new')", want: followed, keyless: true, note: "each row exactly once"},
	{what: "UPDATE, DELETE of a table without a key", create: noKey, change: "UPDATE %s SET v = 0; DELETE FROM %s WHERE v = 1", want: ignored, keyless: true, note: "`tables resync` makes it good, or `run.heal` by itself"},
	{what: "a primary key for a table that had none", create: noKey, change: "DELETE FROM %s a USING %s b WHERE a.ctid < b.ctid AND a.v = b.v; ALTER TABLE %s ADD PRIMARY KEY (v); DELETE FROM %s WHERE v = 1", want: ignored, keyless: true, note: "it stays without one as long as its publication publishes only its inserts"},
	{what: "TRUNCATE of a table without a key", create: noKey, change: "TRUNCATE %s; INSERT INTO %s VALUES (1, 'after')", want: anew, keyless: true},
	{what: "a value that the mirror's type can't hold, as NaN in a numeric(5,2)", create: `CREATE TABLE %s (id int PRIMARY KEY, v numeric(5,2)); INSERT INTO %s VALUES (1, 1)`, change: "INSERT INTO %s VALUES (2, 'NaN')", want: parked, note: "the others go on"},
	{what: "names that Delta forbids, or that differ only in case", create: `CREATE TABLE %s (id int PRIMARY KEY, "a b;c" int, "A" int, a int); INSERT INTO %s VALUES (1, 2, 3, 4)`, change: `UPDATE %s SET "A" = 9, a = 8; INSERT INTO %s VALUES (2, 3, 4, 5)`, want: followed, note: "as `a_b_c`, `A`, `a_4`; the plan shows them"},
	{what: "a generated column", create: `CREATE TABLE %s (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED); INSERT INTO %s VALUES (1, 2)`, change: "INSERT INTO %s VALUES (2, 3)", want: followed, note: "left out, unless its publication publishes it (PostgreSQL 18)"},
}

// held are the invariants of the data plane and the tests that fail without them.
var held = []struct{ what, tests string }{
	{"The landing zone is the only state; another machine goes on; of two mirrors one stops", "mirror.TestSoak mirror.TestCutEveryWrite mirror.TestTakeOver"},
	{"A file says its position: the commit record, not its end, and how many changes of a cut transaction", "mirror.TestKill mirror.TestSoak mirror.TestLargeTransaction"},
	{"The slot is told only what is durable", "mirror.TestCutEveryWrite mirror.TestSoak"},
	{"A file gets its number once, whatever the store answers; absent files mean nothing", "mirror.TestSoak mirror.TestCutEveryWrite landing.TestPublish"},
	{"A copy is one snapshot; after a restart the rest comes as upserts; a rewritten table is noticed", "mirror.TestSoak mirror.TestResumedCopy mirror.TestRewrittenWhileCopied postgres.TestRewritten"},
	{"While a table is copied, those that are copied are followed, and what happens to one doesn't begin another's copy anew", "mirror.TestFollowWhileCopying mirror.TestLongCopyGoesOn mirror.TestPauseWhileCopying"},
	{"Tables join while the others go on; until they have, the slot keeps everything from their first change on", "mirror.TestFollowWhileCopying mirror.TestRebuild mirror.TestColumnAddedBeforeJoin mirror.TestJoinFails mirror.TestJoinKeylessFails mirror.TestJoinRenameFails"},
	{"Markers: upsert and delete; without one only a copy's first rows", "mirror.TestSoak mirror.TestResumedCopy"},
	{"The key is the replica identity; keys that change in one transaction end right", "mirror.TestSemantics mirror.TestSoak"},
	{"A value that wasn't sent is read in a snapshot that sees every change that left it out", "mirror.TestFillSeesEveryTransaction mirror.TestSemantics mirror.TestSoak postgres.TestUnchangedToast postgres.TestReadRowsWaitsForVisibility"},
	{"A partition that is attached is read, once what lies before is published, in a snapshot that sees all of that; the others aren't", "mirror.TestAttach mirror.TestAttachSeenLate mirror.TestAttachUnderLoad mirror.TestAttachSeesWhatIsCommitted mirror.TestAttachedAndGone mirror.TestAttachedInCutTransaction mirror.TestCutAttach mirror.TestSoak"},
	{"Definitions: followed in place only when that is certain", "mirror.TestSemantics mirror.TestEvolve mirror.TestStored mirror.TestStoredIsNoted mirror.TestBetweenLooks mirror.TestBehindSnapshot mirror.TestDroppedUnderFill"},
	{"TRUNCATE, DROP, rebuild: intent, removal, wait for Fabric, a new generation", "mirror.TestRebuild mirror.TestSemantics mirror.TestSoak"},
	{"One table's fault is one table's fault; what Fabric loses is noticed", "mirror.TestParked mirror.TestDamaged mirror.TestCodecFaultParks mirror.TestTwins mirror.TestFabricLosesTables mirror.TestFabricResetWhileDown mirror.TestRebuildGuard"},
	{"A slot is known by more than its name; a new timeline is followed", "mirror.TestSlotFaults mirror.TestReseed mirror.TestCutSlot mirror.TestNewTimeline mirror.TestDiskPutBack mirror.TestFailoverBetweenRounds"},
	{"The source is protected: no update is refused because of the mirror, an idle database holds no WAL", "mirror.TestSemantics mirror.TestSoak mirror.TestIdleConfirms mirror.TestBlockedSlot mirror.TestSlotWatchedAlways"},
	{"Memory is bounded; large transactions go to disk, very large rows alone or not at all", "mirror.TestSpill mirror.TestLargeRows postgres.TestSpillIsInvisible"},
	{"A transaction that is larger than the budget is cut, and says where it ends", "mirror.TestLargeTransaction mirror.TestSoak"},
}

const semanticsPage = "../../docs/semantics.md"

// TestSemantics does to a mirror everything that docs/semantics.md tells of, sees
// that each table ends as it says and, unless it says otherwise, equal to the
// source, and writes the page.
func TestSemantics(t *testing.T) {
	b := newBench(t)
	var keyed, keyless []string
	for i, s := range semantics {
		name := fmt.Sprintf("t%d", i)
		b.exec(named(s.create, name))
		if s.keyless {
			keyless = append(keyless, name)
		} else {
			keyed = append(keyed, name)
		}
	}
	b.exec("CREATE PUBLICATION p FOR TABLE "+strings.Join(keyed, ", "), "CREATE PUBLICATION q FOR TABLE "+strings.Join(keyless, ", ")+" WITH (publish = 'insert, truncate')")
	fabric := newTaker(t, b.landing, 1)
	cfg := b.config(b.landing)
	cfg.Publications = []string{"p", "q"}
	var mu sync.Mutex
	refusals, reasons := map[string]bool{}, map[string][]string{}
	var h heard
	cfg.Events = func(e Event) {
		h.hear(e)
		mu.Lock()
		defer mu.Unlock()
		refusals[e.Table] = refusals[e.Table] || e.Kind == Refused
		if e.Table != "" && e.Reason != "" {
			reasons[e.Table] = append(reasons[e.Table], e.Reason)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	b.caughtUp()
	eventually(t, "the statistics of the tables without a key are looked at", func() bool {
		return !slices.ContainsFunc(keyless, func(name string) bool { return b.tableState(name).value.Touched == nil })
	})
	for i, s := range semantics {
		b.exec(named(s.change, fmt.Sprintf("t%d", i)))
	}
	became := make([]string, len(semantics))
	b.caughtUp()
	h.looked(t) // what no change of a row tells of is noted, too
	for i, s := range semantics {
		name := fmt.Sprintf("t%d", i)
		outcome := func() string {
			mu.Lock()
			out := refusals["public."+name]
			mu.Unlock()
			return b.outcome(name, out)
		}
		if s.want != "" {
			if !soon(func() bool { became[i] = outcome(); return became[i] == s.want }) {
				mu.Lock()
				t.Errorf("%s: got %s, want %s: %q", s.what, became[i], s.want, reasons["public."+name])
				mu.Unlock()
			}
		}
		if s.other != "" && !b.hasState(named(s.other, name)) {
			eventually(t, "the renamed table is joined", func() bool { return b.hasState(named(s.other, name)) })
		}
	}
	b.caughtUp()
	conn, err := pgx.Connect(t.Context(), b.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	published, err := postgres.PublishedTables(t.Context(), conn, cfg.Publications, postgres.WithLeaves)
	if err != nil {
		t.Fatal(err)
	}
	for fabric.takeAll() {
	}
	for _, src := range published {
		var i int
		if _, err := fmt.Sscanf(src.Name, "t%d", &i); err != nil || became[i] == parked && semantics[i].other == "" || became[i] == ignored {
			continue
		}
		if wrong, _ := fabric.differs(cfg.Source, src); len(wrong) > 0 {
			t.Errorf("%s: %s", semantics[i].what, strings.Join(wrong[:min(3, len(wrong))], "\n"))
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !t.Failed() {
		checkSemanticsPage(t)
	}
}

// named puts a name in for each %s.
func named(sql, name string) string { return strings.ReplaceAll(sql, "%s", name) }

func (b *bench) hasState(table string) bool {
	b.t.Helper()
	return b.tableState(table).etag != "" && b.tableState(table).value.Phase == phaseReplicating
}

// outcome is what became of a table, so far.
func (b *bench) outcome(table string, refusal bool) string {
	switch s := b.tableState(table).value; {
	case s.Phase == phaseParked && refusal:
		return refused
	case s.Phase == phaseParked:
		return parked
	case s.Phase != phaseReplicating:
		return string(s.Phase)
	case slices.ContainsFunc(s.Late, func(l lateLeaf) bool { return !l.Read }):
		return "read in part"
	case s.Ignored > 0:
		return ignored
	case s.Generation > 1:
		return anew
	}
	return followed
}

// checkSemanticsPage holds the page against what was just seen, or writes it.
func checkSemanticsPage(t *testing.T) {
	var p strings.Builder
	p.WriteString(`# Semantics

What an open mirror makes of what happens to a table. This page is written by ` + "`go test ./internal/mirror -run TestSemantics -update`" + `, and the same test fails when it is no longer true:
it does all of it to a real PostgreSQL under a running mirror, and then compares every table with the source, value for value. On the other versions it proves the same
(` + "`PGMIRROR_PGBIN=$(make -s postgres-17) go test ./internal/mirror -run TestSemantics`" + `, and 14, 16, 18).

- *followed*: row by row, in place.
- *built anew*: the table is copied again at a new boundary while the others go on. In Fabric it is dropped and comes again.
- *parked*: the table isn't followed any more, and says why; ` + "`tables resync`" + ` builds it anew. The others go on.

| In PostgreSQL | In the mirror | |
|---|---|---|
`)
	for _, s := range semantics {
		want := s.want
		if want == "" {
			want = followed
		}
		fmt.Fprintf(&p, "| %s | %s | %s |\n", s.what, want, s.note)
	}
	p.WriteString(`
## What holds, and the tests that fail without it

` + "`mirror.TestSoak`" + ` kills the mirror at random and before and after its writes to OneLake and PostgreSQL, while all of this goes on, the network is cut, PostgreSQL crashes and OneLake fails; ` + "`make soak KILLS=1000`" + `.

| | |
|---|---|
`)
	for _, h := range held {
		fmt.Fprintf(&p, "| %s | %s |\n", h.what, "`"+strings.ReplaceAll(h.tests, " ", "`, `")+"`")
		for _, name := range strings.Fields(h.tests) {
			if !testExists(t, name) {
				t.Errorf("there is no test %s", name)
			}
		}
	}
	if *update {
		if err := os.WriteFile(semanticsPage, []byte(p.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(semanticsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != p.String() {
		t.Errorf("docs/semantics.md is not what the test saw; with -update it is written anew")
	}
}

// testExists looks for a test, given as package.TestName.
func testExists(t *testing.T, name string) bool {
	pkg, test, _ := strings.Cut(name, ".")
	files, err := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	is := regexp.MustCompile(`(?m)^func ` + test + `\(`)
	return slices.ContainsFunc(files, func(f string) bool {
		body, err := os.ReadFile(f)
		return err == nil && is.Match(body)
	})
}
