package mirror

import (
	"strings"
	"sync"
	"testing"
)

// What changes all rows of a table without a change of a row in the stream, and
// without another name or type of a column, builds it anew; what looks like it does
// not.
func TestStored(t *testing.T) {
	type shift struct {
		table       string
		changes     []string // a look lies between them
		generations []int64  // after each
	}
	shifts := []shift{
		{"cased", []string{`ALTER TABLE cased DROP "A"; UPDATE cased SET a = 99 WHERE id = 1`}, []int64{2}}, // "a" has the name of "A" in the mirror now
		{"spaced", []string{`ALTER TABLE spaced DROP "a b"; UPDATE spaced SET a_b = 'z' WHERE id = 1`}, []int64{2}},
		{"again", []string{`ALTER TABLE again DROP "a b"; ALTER TABLE again ADD a_b int; INSERT INTO again VALUES (5, 7)`}, []int64{2}},
		{"again2", []string{`ALTER TABLE again2 DROP "a b"; UPDATE again2 SET id = 3 WHERE id = 1`, `ALTER TABLE again2 ADD a_b text; INSERT INTO again2 VALUES (5, 'new')`}, []int64{1, 2}},
		{"recast", []string{`ALTER TABLE recast ALTER v TYPE text USING lower(v)`}, []int64{2}},
		{"parted", []string{`ALTER TABLE parted ALTER v TYPE text USING lower(v)`}, []int64{2}},
		{"packed", []string{`ALTER TABLE packed ALTER v SET NOT NULL`, `VACUUM FULL packed`, `ALTER TABLE packed ALTER v DROP NOT NULL`}, []int64{1, 1, 1}},
		{"parts", []string{`ALTER TABLE parts ALTER v SET NOT NULL`, `VACUUM FULL parts_0`, `ALTER TABLE parts ALTER v DROP NOT NULL`}, []int64{1, 2, 2}}, // it might have been unlogged
		{"moods", []string{`ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; UPDATE moods SET v = 9 WHERE m = 'blue'; DELETE FROM moods WHERE m = 'ok'`}, []int64{2}},
		{"inner", []string{`ALTER TYPE inner_ ADD VALUE 'new' BEFORE 'a'`, `INSERT INTO "inner" VALUES (3, '{new}')`}, []int64{1, 1}},
		{"later", []string{`ALTER TYPE later_ ADD VALUE 'new'`, `INSERT INTO later VALUES (3, '[new,new]')`, `ALTER TYPE later_ RENAME VALUE 'new' TO 'old'`}, []int64{1, 1, 2}},
		{"pair", []string{`ALTER TYPE pair_ ADD ATTRIBUTE x int`, `UPDATE pair SET m = '{"(1,a,3)"}' WHERE id = 2; ALTER TYPE pair_ DROP ATTRIBUTE s`}, []int64{2, 3}},
		{"unsent", []string{`UPDATE unsent SET n = 2; ALTER TYPE unsent_ RENAME VALUE 'sad' TO 'blue'`}, []int64{2}}, // 'sad' can't be looked up any more
	}
	b := newBench(t,
		`CREATE TABLE cased (id int PRIMARY KEY, "A" int, a int); INSERT INTO cased VALUES (1, 10, 20), (2, 11, 21)`,
		`CREATE TABLE spaced (id int PRIMARY KEY, "a b" text, a_b text); INSERT INTO spaced VALUES (1, 'x', 'y'), (2, 'x', 'y')`,
		`CREATE TABLE again (id int PRIMARY KEY, "a b" text); INSERT INTO again VALUES (1, 'old'), (2, 'old')`,
		`CREATE TABLE again2 (id int PRIMARY KEY, "a b" text); INSERT INTO again2 VALUES (1, 'old'), (2, 'old')`,
		`CREATE TABLE recast (id int PRIMARY KEY, v text); INSERT INTO recast VALUES (1, 'A'), (2, 'B')`,
		`CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE parted_0 PARTITION OF parted DEFAULT; INSERT INTO parted VALUES (1, 'A'), (2, 'B')`,
		`CREATE TABLE packed (id int PRIMARY KEY, v text); INSERT INTO packed VALUES (1, 'A'), (2, 'B')`,
		`CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE parts_0 PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1, 'A'), (2, 'B')`,
		`CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE moods (m mood PRIMARY KEY, v int); INSERT INTO moods VALUES ('sad', 1), ('ok', 2)`,
		`CREATE TYPE inner_ AS ENUM ('a', 'b'); CREATE TABLE "inner" (id int PRIMARY KEY, m inner_[]); INSERT INTO "inner" VALUES (1, '{a}')`,
		`CREATE TYPE later_ AS ENUM ('a', 'b'); CREATE TYPE later_range AS RANGE (subtype = later_); CREATE TABLE later (id int PRIMARY KEY, m later_range); INSERT INTO later VALUES (1, '[a,b]')`,
		`CREATE TYPE pair_ AS (n int, s text); CREATE DOMAIN pairs AS pair_[]; CREATE TABLE pair (id int PRIMARY KEY, m pairs); INSERT INTO pair VALUES (1, '{"(1,a)"}'), (2, '{"(2,b)"}')`,
		`CREATE TYPE unsent_ AS ENUM ('sad', 'ok'); CREATE TABLE unsent (m unsent_ PRIMARY KEY, n int, big text); ALTER TABLE unsent ALTER big SET STORAGE EXTERNAL; INSERT INTO unsent VALUES ('sad', 1, repeat('x', 10000))`)
	var names []string
	for _, s := range shifts {
		names = append(names, `"`+s.table+`"`)
	}
	b.exec(`ALTER PUBLICATION p SET TABLE ` + strings.Join(names, ", "))
	fabric := newTaker(t, b.landing, 1)
	var h heard
	stop := b.hear(b.landing, &h)
	b.caughtUp()
	for round := range 3 {
		h.looked(t)
		for _, s := range shifts {
			if round < len(s.changes) {
				b.exec(s.changes[round])
			}
		}
		h.looked(t)
		for _, s := range shifts { // a copy of before the next change
			b.reaches(s.table, phaseReplicating, s.generations[min(round, len(s.changes)-1)])
		}
	}
	b.caughtUp()
	stop()
	for i, s := range shifts {
		names[i] = s.table
		if got, want := b.tableState(s.table).value, s.generations[len(s.generations)-1]; got.Generation != want {
			t.Errorf("%s was copied %d times, want %d: %s", s.table, got.Generation, want, got.Reason)
		}
	}
	b.equal(fabric, names...)
}

// How rows are stored is noted while nothing opens the tables anew: what changes next
// is compared with that.
func TestStoredIsNoted(t *testing.T) {
	b := newBench(t, `CREATE TABLE packed (id int PRIMARY KEY, v text)`, `INSERT INTO packed VALUES (1, 'A'), (2, 'B')`,
		`CREATE TYPE grown_ AS ENUM ('a')`, `CREATE TABLE grown (id int PRIMARY KEY, v grown_)`)
	var h heard
	stop := b.hear(b.landing, &h)
	b.caughtUp()
	for _, sql := range []string{`ALTER TABLE packed ALTER v SET NOT NULL`, `VACUUM FULL packed`, `ALTER TYPE grown_ ADD VALUE 'b'`, `INSERT INTO grown VALUES (1, 'b')`} {
		b.exec(sql)
		h.looked(t)
	}
	if e, n := h.last(Rebuilding); n > 0 {
		t.Errorf("%s was built anew: %s", e.Table, e.Reason)
	}
	b.exec(`ALTER TYPE grown_ RENAME VALUE 'b' TO 'c'`)
	b.reaches("grown", phaseReplicating, 2)
	b.caughtUp()
	stop()
	b.compare([][3]string{{"packed", "id, v", "id"}, {"grown", "id, v", "id"}})
}

// A table whose rows are rewritten while it is copied is built anew: the copy has the
// new values, over which the stream, from before, writes old ones.
func TestRecastUnderCopy(t *testing.T) {
	b := newBench(t, `CREATE TABLE first (id int PRIMARY KEY, v text); ALTER TABLE first ALTER v SET STORAGE EXTERNAL; INSERT INTO first SELECT i, repeat('x', 1500) FROM generate_series(1, 200) i`,
		`CREATE TABLE second (id int PRIMARY KEY, v text); INSERT INTO second VALUES (1, 'A'), (2, 'B')`)
	var once sync.Once
	cfg := b.config(b.landing)
	cfg.chunk, cfg.Workers = 1, 1
	cfg.Events = func(e Event) {
		if e.Kind == SnapshotProgress && e.Table == "public.first" {
			once.Do(func() {
				b.exec(`UPDATE second SET v = 'C' WHERE id = 1`, `ALTER TABLE second ALTER v TYPE text USING lower(v)`)
			})
		}
	}
	stop := b.start(cfg)
	b.reaches("second", phaseReplicating, 2)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "first", "second")
}
