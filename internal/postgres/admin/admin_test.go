package admin_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

func connect(t *testing.T, c *localpg.Cluster, user, password string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL(user, password, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// TestVerifierSignsIn proves the verifier against the server, for passwords that
// need preparation or quoting, too.
func TestVerifierSignsIn(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{HBA: []string{"host all r_scram 127.0.0.1/32 scram-sha-256"}})
	s := admin.NewSession(connect(t, c, c.Superuser, c.Password), nil)
	for i, password := range []string{"plain", `quote ' " \ $$`, "pässwörd \u00a0 ﬁ", strings.Repeat("long", 60)} {
		v, err := admin.Verifier(password)
		if err != nil {
			t.Fatal(err)
		}
		set := admin.SetPassword("r_scram", admin.Verified(v))
		if i == 0 {
			set = admin.CreateRole(admin.Role{Name: "r_scram", Login: true}, admin.Verified(v))
		}
		if err := s.Run(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(set.SQL, password) || strings.Contains(set.What, password) {
			t.Error("the statement holds the password")
		}
		cfg, err := pgx.ParseConfig(c.URL("r_scram", "", "postgres"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Password = password
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Errorf("password %d: %v", i, err)
			continue
		}
		conn.Close(t.Context())
		cfg.Password = "wrong"
		if _, err := pgx.ConnectConfig(t.Context(), cfg); !admin.IsWrongPassword(err) {
			t.Errorf("a wrong password: got %v", err)
		}
	}
}

const hostile = `we"ird'na me`

// TestTakeOver moves a table as an administrator that is no superuser, under
// names that have to be quoted, and looks that nothing is lost on the way and no
// membership is left behind.
func TestTakeOver(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{})
	q := pgx.Identifier{hostile}.Sanitize()
	localpgtest.Exec(t, c.URL(c.Superuser, c.Password, "postgres"),
		"CREATE ROLE boss LOGIN CREATEROLE PASSWORD 'boss'; GRANT CREATE ON DATABASE postgres TO boss; SET ROLE boss; CREATE ROLE "+q+"; CREATE ROLE mirror; RESET ROLE; CREATE ROLE reader",
		"CREATE SCHEMA "+q+" AUTHORIZATION "+q+"; SET ROLE "+q+"; CREATE TABLE "+q+"."+q+" (id serial PRIMARY KEY, v text); COMMENT ON TABLE "+q+"."+q+" IS 'users'' own'; GRANT SELECT ON "+q+"."+q+" TO reader",
	)
	conn := connect(t, c, "boss", "boss")
	s := admin.NewSession(conn, nil)
	for _, step := range []func() ([]admin.Statement, error){
		func() ([]admin.Statement, error) {
			return s.OnSchema(t.Context(), hostile, "mirror", "USAGE", "CREATE")
		},
		func() ([]admin.Statement, error) { return s.TakeOver(t.Context(), hostile, hostile, hostile, "mirror") },
	} {
		st, err := step()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context(), st...); err != nil {
			t.Fatal(err)
		}
	}
	super := connect(t, c, c.Superuser, c.Password)
	var owner, comment string
	var dml, seq, truncate, read bool
	var left int
	err := super.QueryRow(t.Context(), `SELECT relowner::regrole::text, obj_description(oid, 'pg_class'),
		has_table_privilege($2, oid, 'INSERT') AND has_table_privilege($2, oid, 'UPDATE') AND has_table_privilege($2, oid, 'DELETE') AND has_table_privilege($2, oid, 'SELECT'),
		has_sequence_privilege($2, pg_get_serial_sequence($1, 'id'), 'USAGE'), has_table_privilege($2, oid, 'TRUNCATE'), has_table_privilege('reader', oid, 'SELECT'),
		(SELECT count(*) FROM pg_auth_members WHERE member = 'boss'::regrole AND grantor = 'boss'::regrole)
		FROM pg_class WHERE oid = $1::regclass`, q+"."+q, hostile).Scan(&owner, &comment, &dml, &seq, &truncate, &read, &left)
	if err != nil {
		t.Fatal(err)
	}
	if owner != "mirror" || !dml || !seq || truncate || !read || left != 0 {
		t.Errorf("owner %s, dml %t, sequence %t, truncate %t, reader %t, memberships left %d", owner, dml, seq, truncate, read, left)
	}
	if users, former := admin.OwnerRecord(comment); users != "users' own" || former != hostile {
		t.Errorf("comment %q: got %q and %q", comment, users, former)
	}
}

// TestPublications: updates of tables without a key stay possible, and leaves are
// published as themselves.
func TestPublications(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{Settings: map[string]string{"wal_level": "logical"}})
	url := c.URL(c.Superuser, c.Password, "postgres")
	localpgtest.Exec(t, url, "CREATE TABLE keyed (id int PRIMARY KEY); CREATE TABLE loose (v int); INSERT INTO loose VALUES (1); CREATE TABLE indexed (a int NOT NULL); CREATE UNIQUE INDEX indexed_a ON indexed (a)")
	s := admin.NewSession(connect(t, c, c.Superuser, c.Password), nil)
	for name, tables := range map[string][]admin.Member{"p": {{Schema: "public", Table: "keyed"}}, "p_insert": {{Schema: "public", Table: "loose"}}} {
		st, err := s.CreatePublication(t.Context(), name, name == "p_insert", tables)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context(), st...); err != nil {
			t.Fatal(err)
		}
	}
	localpgtest.Exec(t, url, "UPDATE loose SET v = 2", "DELETE FROM loose") // refused, were it published with updates
	p, ok, err := s.Publication(t.Context(), "p")
	if want := (admin.Publication{Name: "p", Updates: true, Tables: []string{"public.keyed"}}); err != nil || !ok || !cmp.Equal(want, p) {
		t.Errorf("got %+v, %t, %v", p, ok, err)
	}
	offer, index, err := s.IdentityByIndex(t.Context(), "public", "indexed", c.Superuser)
	if err != nil || index != "indexed_a" || len(offer) != 1 {
		t.Errorf("got %v, %q, %v", offer, index, err)
	}
	if offer, _, err := s.IdentityByIndex(t.Context(), "public", "loose", c.Superuser); err != nil || len(offer) != 0 {
		t.Errorf("a table without an index: got %v, %v", offer, err)
	}
}

// TestRunIsOneTransaction: a run that is cut at any statement leaves nothing.
func TestRunIsOneTransaction(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{})
	conn := connect(t, c, c.Superuser, c.Password)
	died := errors.New("died")
	for at, want := range []bool{false, false, false, false, false, true} {
		n := 0
		s := admin.NewSession(conn, func(what string, do func() error) error {
			n++
			if n == at/2+1 {
				if at%2 == 1 {
					if err := do(); err != nil {
						return err
					}
				}
				return died
			}
			return do()
		})
		if err := s.Run(t.Context(), admin.CreateSeed("public", "seed")...); !errors.Is(err, died) {
			t.Fatalf("cut %d: got %v", at, err)
		}
		seed, err := admin.NewSession(conn, nil).Seed(t.Context(), "public", "seed")
		if err != nil || seed.Exists != want || seed.Rows != want {
			t.Errorf("cut %d: got %+v, %v, want it there: %t", at, seed, err, want)
		}
	}
}

func TestMissingAttributes(t *testing.T) {
	got := admin.Role{Login: true, CreateDB: true}.Missing(admin.Role{Login: true, Replication: true, CreateRole: true})
	if want := []string{"CREATEROLE", "REPLICATION"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
