package mirror

import (
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// chosen gives columns named v, and the keys of keyed, other types.
func chosen(typ batch.Type) postgres.Choices {
	return postgres.Choices{Numeric: func(_, table, column string) (batch.Type, bool) {
		return typ, column == "v" || table == "keyed"
	}}
}

// A numeric that was given another type is mirrored as that, from the snapshot, the
// stream, a partition that is attached and a row that is read by its key. A value that
// doesn't fit parks its table and no other; text takes all. Another choice, made
// between two runs, builds the tables that it is about anew, and only those.
func TestChosenTypes(t *testing.T) {
	b := newBench(t,
		`CREATE TABLE prices (id int PRIMARY KEY, v numeric(10,2), w numeric); INSERT INTO prices VALUES (1, 1.5, 1.50), (2, NULL, NULL)`,
		`CREATE TABLE keyed (k numeric PRIMARY KEY, big text); ALTER TABLE keyed ALTER big SET STORAGE EXTERNAL; INSERT INTO keyed SELECT i + 0.5, repeat('x', 5000) FROM generate_series(1, 9) i`,
		`CREATE TABLE parted (id int PRIMARY KEY, v numeric) PARTITION BY RANGE (id); CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (0) TO (10); INSERT INTO parted VALUES (1, 7.25)`,
		`CREATE TABLE plain (id int PRIMARY KEY, n int); INSERT INTO plain VALUES (1, 1)`)
	b.exec(`ALTER PUBLICATION p SET TABLE prices, keyed, parted, plain`)
	fabric := newTaker(t, b.landing, 1)
	b.types = chosen(batch.Type{Kind: batch.Decimal, Precision: 20, Scale: 4})
	stop := b.run(b.landing, nil)
	b.caughtUp()
	b.exec(`UPDATE prices SET v = 99999999.99 WHERE id = 1; INSERT INTO prices VALUES (3, -0.01, 'NaN')`,
		`UPDATE keyed SET k = 1.50 WHERE k = 1.5; UPDATE keyed SET k = 100.25 WHERE k = 2.5; DELETE FROM keyed WHERE k = 3.500`,
		`INSERT INTO parted VALUES (2, 0.0001)`,
		`CREATE TABLE parted_1 (v numeric, id int NOT NULL); INSERT INTO parted_1 VALUES (3.5, 11); ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES FROM (10) TO (20)`)
	b.caughtUp()
	eventually(t, "the new partition is read", func() bool { return b.read(2) })
	b.caughtUp()
	b.equal(fabric, "prices", "keyed", "parted", "plain")
	if got := b.tableState("prices").value.Columns; got[1].Type != "decimal(20,4)" || got[2].Type != "string" {
		t.Errorf("the columns are %+v, want v alone as decimal(20,4)", got)
	}

	b.exec(`INSERT INTO prices VALUES (4, 'NaN', 0)`, `INSERT INTO keyed VALUES (0.00001, '')`)
	for table, why := range map[string]string{"prices": `column "v": NaN`, "keyed": `column "k": a value doesn't fit`} {
		b.reaches(table, phaseParked, 1)
		if got := b.tableState(table).value.Reason; !strings.Contains(got, why) || !strings.Contains(got, "run.types") {
			t.Errorf("%s is parked: %q, want %q and what to do", table, got, why)
		}
	}
	b.exec(`UPDATE parted SET v = 8 WHERE id = 1`)
	b.caughtUp()
	b.equal(fabric, "parted")
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	b.types = chosen(batch.Type{Kind: batch.String})
	for _, table := range []string{"prices", "keyed"} {
		if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: table}); err != nil {
			t.Fatal(err)
		}
	}
	stop = b.run(b.landing, nil)
	for _, table := range []string{"prices", "keyed", "parted"} {
		b.reaches(table, phaseReplicating, 2)
	}
	b.exec(`UPDATE prices SET v = 'NaN' WHERE id = 1`, `INSERT INTO parted VALUES (3, 'Infinity')`, `UPDATE keyed SET k = 100.250 WHERE k = 100.25`)
	b.caughtUp()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.equal(newTaker(t, b.landing, 2), "prices", "keyed", "parted") // from their first files on
	b.equal(fabric, "plain")
	if got := b.tableState("plain").value.Generation; got != 1 {
		t.Errorf("a table that nothing was chosen for was copied %d times", got)
	}
}

// A timestamp without time zone is one in the mirror, too, if asked for; as a key it is
// looked up by.
func TestTimestampNTZ(t *testing.T) {
	b := newBench(t, `CREATE TABLE log (at timestamp PRIMARY KEY, z timestamptz, big text); ALTER TABLE log ALTER big SET STORAGE EXTERNAL;
		INSERT INTO log SELECT '2024-02-29 12:00:00.000001'::timestamp + i * interval '1 day', '2024-02-29 12:00Z', repeat('x', 5000) FROM generate_series(1, 9) i`)
	fabric := newTaker(t, b.landing, 1)
	b.types.NTZ = true
	stop := b.run(b.landing, nil)
	b.caughtUp()
	b.exec(`UPDATE log SET z = NULL WHERE at < '2024-03-03'; UPDATE log SET at = '0001-01-01' WHERE at > '2024-03-09'; DELETE FROM log WHERE at BETWEEN '2024-03-05' AND '2024-03-06'`)
	b.caughtUp()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.equal(fabric, "log")
	if got := b.tableState("log").value.Columns; got[0].Type != "timestamp_ntz" || got[1].Type != "timestamp" {
		t.Errorf("the columns are %+v, want at as timestamp_ntz and z as timestamp", got)
	}
}
