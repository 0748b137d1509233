package mirror

import (
	"strings"
	"testing"
)

// A value that can't be one of its type parks its table, and the others go on.
func TestCodecFaultParks(t *testing.T) {
	b := newBench(t, `CREATE EXTENSION hstore`, `CREATE TABLE odd (id int PRIMARY KEY, v hstore, ip inet)`, `CREATE TABLE other (id int PRIMARY KEY, v text)`)
	stop := b.run(b.landing, nil)
	b.caughtUp()
	b.exec(`CREATE OR REPLACE FUNCTION hstore_out(hstore) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout'`,
		`INSERT INTO odd VALUES (1, 'a=>1', NULL)`, `INSERT INTO other VALUES (1, 'x')`)
	b.caughtUp()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s := b.tableState("odd").value; s.Phase != phaseParked || !strings.Contains(s.Reason, `column "v"`) {
		t.Errorf("the table is %s: %q, want it parked", s.Phase, s.Reason)
	}
	if b.target("other")["1"] == "" {
		t.Error("a table that isn't parked was not followed")
	}
}
