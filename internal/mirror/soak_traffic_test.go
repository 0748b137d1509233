package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// soakTypes are columns of one table, each with an expression that gives a value
// of its own every time. text says that the type can't be streamed in binary, by
// which the whole stream is text.
var soakTypes = []struct {
	typ, value string
	text       bool
}{
	{"boolean", "random() < 0.5", false},
	{"smallint", "(random() * 65535 - 32768)::int2", false},
	{"integer", "(random() * 4294967295 - 2147483648)::int", false},
	{"bigint", "(random() * 1e18)::bigint - 5e17::bigint", false},
	{"oid", "(random() * 4294967295)::bigint::oid", false},
	{"real", "(ARRAY['NaN','Infinity','-Infinity','-0','1e-45'])[1 + (random()*7)::int]::real + random()::real", false},
	{"double precision", "(ARRAY['NaN','Infinity','-Infinity','-0','5e-324', random()::text])[1 + (random()*5)::int]::float8", false},
	{"numeric(12,2)", "(random() * 1e10 - 5e9)::numeric(12,2)", false},
	{"numeric(38,10)", "(random() * 1e15)::numeric(38,10) * 1e10", false},
	{"numeric", "(ARRAY['NaN', 'Infinity', '1e500', random()::text, '0.00'])[1 + (random()*4)::int]::numeric", false},
	{"money", "(random() * 1e6)::numeric::money", false},
	{"date", "(ARRAY['infinity', '0044-03-15 BC', '2024-02-29', '99999-01-01'])[1 + (random()*3)::int]::date", false},
	{"timestamp", "(ARRAY['-infinity', '2024-02-29 23:59:59.999999', '294276-12-31 23:59:59.999999'])[1 + (random()*2)::int]::timestamp", false},
	{"timestamptz", "now() + random() * interval '1000 days'", false},
	{"time", "(now() + random() * interval '1 day')::time", false},
	{"timetz", "(now() + random() * interval '1 day')::timetz", false},
	{"interval", "random() * interval '1000 days 13 hours'", false},
	{"uuid", "gen_random_uuid()", false},
	{"text", "chr(200 + (random() * 20000)::int) || repeat(md5(random()::text), (random() * 3)::int)", false},
	{"varchar(20)", "left(md5(random()::text), (random() * 20)::int)", false},
	{"char(5)", "left(md5(random()::text), (random() * 5)::int)", false},
	{`"char"`, "chr(33 + (random() * 90)::int)::\"char\"", false},
	{"name", "md5(random()::text)::name", false},
	{"bytea", "decode(md5(random()::text), 'hex')", false},
	{"json", "json_build_object('a', random(), 'b', NULL)", false},
	{"jsonb", "jsonb_build_object('a', random(), 'b', ARRAY[1, NULL])", false},
	{"bit(3)", "(random() * 7)::int::bit(3)", false},
	{"varbit", "(random() * 7)::int::bit(8)::varbit", false},
	{"macaddr", "'08:00:2b:01:02:03'::macaddr", false},
	{"pg_lsn", "'16/B374D848'::pg_lsn", false},
	{"soak_mood", "(ARRAY['sad', 'it''s ok'])[1 + (random())::int]::soak_mood", false},
	{"soak_price", "(random() * 1e5)::numeric(10,2)", false},
	{"integer[]", "ARRAY[1, NULL, (random() * 100)::int]", false},
	{"text[]", `ARRAY[['a b', '"'], [NULL, md5(random()::text)]]`, false},
	{"numeric[]", "ARRAY['NaN', random()::text::numeric]", false},
	{"timestamptz[]", "ARRAY['infinity', now()]", false},
	{"inet", "('10.0.0.' || (random() * 255)::int)::inet", true},
	{"cidr", "'10.1.0.0/16'::cidr", true},
	{"int4range", "int4range(1, 2 + (random() * 9)::int)", true},
	{"tstzrange", "tstzrange(now(), 'infinity')", true},
	{"int4multirange", "int4multirange(int4range(1, 2), int4range(5, 6 + (random() * 9)::int))", true},
	{"point", "point(random(), random())", true},
	{"polygon", "polygon '((0,0),(0,1),(1,1))'", true},
	{"tsvector", "to_tsvector('simple', 'a b ' || md5(random()::text))", true},
	{"soak_pair", "ROW(1, 'a \"b')::soak_pair", true},
	{"soak_pair[]", "ARRAY[ROW(1, 'x'), NULL]::soak_pair[]", true},
}

// valueLists are the columns and a list of new values; now and then NULL.
func valueLists(binary bool) (columns, values []string) {
	for i, t := range soakTypes {
		if binary && t.text {
			continue
		}
		columns = append(columns, fmt.Sprintf("c%d", i))
		values = append(values, fmt.Sprintf("CASE WHEN random() < 0.1 THEN NULL ELSE %s END", t.value))
	}
	return columns, values
}

// soakTables makes the tables, and the publications as setup makes them.
func soakTables(binary bool) []string {
	columns, values := valueLists(binary)
	var defs []string
	for i, t := range soakTypes {
		if !binary || !t.text {
			defs = append(defs, fmt.Sprintf("c%d %s", i, t.typ))
		}
	}
	return []string{
		`CREATE TYPE soak_mood AS ENUM ('sad', 'it''s ok')`, `CREATE DOMAIN soak_price AS numeric(10,2)`, `CREATE TYPE soak_pair AS (a int, b text)`,
		`CREATE TABLE types (id int PRIMARY KEY, ` + strings.Join(defs, ", ") + `)`,
		`INSERT INTO types (id, ` + strings.Join(columns, ", ") + `) SELECT i, ` + strings.Join(values, ", ") + ` FROM generate_series(1, 150) i`,
		`CREATE TABLE plain (id bigint PRIMARY KEY, note text, n int)`,
		`INSERT INTO plain SELECT i, 'note ' || i, i % 7 FROM generate_series(1, 2000) i`,
		`CREATE TABLE pair (a int, b text, v text, PRIMARY KEY (a, b))`,
		`INSERT INTO pair SELECT i % 10, 'b' || i, 'v' FROM generate_series(1, 300) i`,
		`CREATE TABLE ids (id uuid PRIMARY KEY, v text, n int)`,
		`INSERT INTO ids SELECT md5(i::text)::uuid, 'v', i FROM generate_series(1, 300) i`,
		`CREATE TABLE toast (id int PRIMARY KEY, small int, big text, other text)`,
		`ALTER TABLE toast ALTER big SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL`,
		`INSERT INTO toast SELECT i, 0, repeat(md5(i::text), 150), repeat(md5(i::text), 90) FROM generate_series(1, 60) i`,
		`CREATE TABLE moving (k int PRIMARY KEY, v text)`,
		`INSERT INTO moving SELECT i, 'm' || i FROM generate_series(1, 60) i`,
		`CREATE TABLE whole (id int PRIMARY KEY, v text, big text)`, `ALTER TABLE whole REPLICA IDENTITY FULL, ALTER big SET STORAGE EXTERNAL`,
		`INSERT INTO whole SELECT i, 'v', repeat(md5(i::text), 100) FROM generate_series(1, 60) i`,
		`CREATE TABLE byindex (id int, code text NOT NULL, v text)`, `CREATE UNIQUE INDEX byindex_code ON byindex (code)`, `ALTER TABLE byindex REPLICA IDENTITY USING INDEX byindex_code`,
		`INSERT INTO byindex SELECT i, 'c' || i, 'v' FROM generate_series(1, 100) i`,
		`CREATE TABLE parted (id int, at int, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)`,
		`CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (0) TO (100)`,
		`CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (100) TO (200)`,
		`CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (200) TO (300)`,
		`INSERT INTO parted SELECT i, i % 300, 'v' || i FROM generate_series(1, 900) i`,
		`CREATE TABLE churn (id int PRIMARY KEY, v text)`,
		`INSERT INTO churn SELECT i, 'v' FROM generate_series(1, 200) i`,
		`CREATE TABLE empty (id int PRIMARY KEY)`,
		`CREATE TABLE log (w int, v text)`,
		`INSERT INTO log SELECT i, 'v' FROM generate_series(1, 500) i`,
		`CREATE PUBLICATION p FOR TABLE types, plain, pair, ids, toast, moving, whole, byindex, parted, churn, empty`,
		`CREATE PUBLICATION p_log FOR TABLE log WITH (publish = 'insert, truncate')`,
	}
}

// soakTraffic writes until stop is called. Its errors are those that restarts and
// its own DDL bring; any other one, such as an UPDATE that PostgreSQL refuses
// because of a publication, fails the test.
func soakTraffic(t testing.TB, url string, seed uint64, binary bool) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	run := func(w int, step func(*soakWriter) error) {
		wg.Go(func() {
			s := &soakWriter{r: rand.New(rand.NewPCG(seed, uint64(w))), w: w, binary: binary, parts: 3}
			for ctx.Err() == nil {
				if s.conn == nil {
					conn, err := pgx.Connect(context.Background(), url)
					if err != nil {
						continue // it is being restarted
					}
					s.conn = conn
				}
				if err := step(s); err != nil && !expected(err) {
					t.Errorf("traffic: %v", err)
					return
				}
				if s.conn.IsClosed() {
					s.conn = nil
				}
			}
			if s.conn != nil {
				_ = s.conn.Close(context.Background())
			}
		})
	}
	for w := range writers {
		run(w, (*soakWriter).transaction)
	}
	run(writers, (*soakWriter).define)
	return func() {
		cancel()
		wg.Wait()
	}
}

// expected says that an error is one of a restart, of a lock, or of something
// that the DDL has just removed or added.
func expected(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true // the connection
	}
	switch pg.Code {
	case "40P01", "55P03", "42P01", "42703", "42704", "42701", "42P07", "42P17", "23505", "23514", "22P02", "25P02", "42710", "0A000", "XX000":
		return true
	}
	return pg.Code[:2] == "57" || pg.Code[:2] == "08"
}

const writers = 3

type soakWriter struct {
	conn   *pgx.Conn
	r      *rand.Rand
	w      int
	binary bool
	parts  int // partitions made so far
	oldest int // of those that are left
	made   int
}

func (s *soakWriter) exec(sql string) error {
	if _, err := s.conn.PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// own is one of n ids that no other writer has, so that there are no deadlocks.
func (s *soakWriter) own(n int) int { return 1 + s.r.IntN(n)*writers + s.w }

// transaction is a random one; some have parts that are rolled back, some are
// rolled back, some are large.
func (s *soakWriter) transaction() error {
	sql := []string{"SELECT pg_sleep(0.01)", "BEGIN"} // or the log would grow faster than a mirror that always dies can follow
	if s.r.IntN(60) == 0 {
		id := 100000 + s.own(1000)*10000
		sql = append(sql, fmt.Sprintf(`INSERT INTO plain SELECT i, repeat('x', 100), 1 FROM generate_series(%d, %d) i; UPDATE plain SET note = 'again' WHERE id BETWEEN %d AND %d; DELETE FROM plain WHERE id BETWEEN %d AND %d`,
			id, id+5000, id, id+500, id+10, id+4990))
	}
	for range 1 + s.r.IntN(6) {
		change := s.change()
		switch s.r.IntN(12) {
		case 0:
			sql = append(sql, "SAVEPOINT s", change, "ROLLBACK TO s")
		case 1:
			sql = append(sql, "SAVEPOINT s", change, "RELEASE s")
		default:
			sql = append(sql, change)
		}
	}
	end := "COMMIT"
	if s.r.IntN(10) == 0 {
		end = "ROLLBACK"
	}
	if err := s.exec(strings.Join(append(sql, end), "; ")); err != nil {
		if !s.conn.IsClosed() {
			_ = s.exec("ROLLBACK")
		}
		return err
	}
	return nil
}

func (s *soakWriter) change() string {
	r := s.r
	columns, values := valueLists(s.binary)
	at := func() int { return r.IntN(s.parts*100 + 300) }
	switch id := s.own(700); r.IntN(20) {
	case 0, 1:
		return fmt.Sprintf("INSERT INTO plain VALUES (%d, 'new', %d) ON CONFLICT (id) DO UPDATE SET n = plain.n + 1, note = NULL", id, r.IntN(9))
	case 2:
		return fmt.Sprintf("DELETE FROM plain WHERE id = %d", id)
	case 3:
		return fmt.Sprintf("INSERT INTO pair VALUES (%d, 'w%d', 'x') ON CONFLICT (a, b) DO UPDATE SET b = gen_random_uuid()", r.IntN(20), s.w)
	case 4:
		return fmt.Sprintf("UPDATE ids SET n = n + 1 WHERE id = md5('%d')::uuid", s.own(100))
	case 5:
		return fmt.Sprintf("UPDATE ids SET id = md5(id::text)::uuid WHERE n %% %d = %d AND n < 40", writers, s.w)
	case 6, 7:
		return fmt.Sprintf("UPDATE toast SET small = small + 1 WHERE id = %d", s.own(20))
	case 8:
		return fmt.Sprintf("UPDATE toast SET big = repeat(md5('%d'), 150) WHERE id = %d", r.IntN(99999), s.own(20))
	case 9: // the key of a row with TOASTed values that are left alone
		return fmt.Sprintf("UPDATE toast SET id = CASE WHEN id > 1000 THEN id - 1000 ELSE id + 1000 END WHERE id %% 1000 = %d", s.own(19))
	case 10: // two keys change places
		a, c := s.own(19), s.own(19)
		if a == c {
			return "SELECT 1"
		}
		return fmt.Sprintf("UPDATE moving SET k = -1 - %d WHERE k = %d; UPDATE moving SET k = %d WHERE k = %d; UPDATE moving SET k = %d WHERE k = -1 - %d", s.w, a, a, c, c, s.w)
	case 11:
		return fmt.Sprintf("UPDATE whole SET v = md5('%d') WHERE id = %d", r.IntN(999), s.own(20))
	case 12:
		return fmt.Sprintf("UPDATE byindex SET code = 'k' || md5(code) WHERE id = %d", s.own(30))
	case 13:
		return fmt.Sprintf("INSERT INTO parted VALUES (%d, %d, 'n') ON CONFLICT DO NOTHING", id, at())
	case 14:
		return fmt.Sprintf("UPDATE parted SET at = %d WHERE id = %d", at(), id)
	case 15:
		return fmt.Sprintf("DELETE FROM parted WHERE id = %d", id)
	case 16:
		return fmt.Sprintf("INSERT INTO log VALUES (%d, md5('%d'))", s.w, r.IntN(99))
	case 17:
		return fmt.Sprintf("INSERT INTO churn VALUES (%d, 'x') ON CONFLICT (id) DO UPDATE SET v = md5('%d')", s.own(200), r.IntN(999))
	case 18:
		return fmt.Sprintf("INSERT INTO types (id, %s) VALUES (%d, %s) ON CONFLICT (id) DO UPDATE SET c1 = EXCLUDED.c1", strings.Join(columns, ", "), s.own(200), strings.Join(values, ", "))
	default:
		return fmt.Sprintf("UPDATE types SET (%s) = (SELECT %s) WHERE id = %d", strings.Join(columns, ", "), strings.Join(values, ", "), s.own(50))
	}
}

// define changes definitions, partitions and what is truncated, and then rests.
func (s *soakWriter) define() error {
	if err := s.exec(fmt.Sprintf("SELECT pg_sleep(%f)", 0.05+0.4*s.r.Float64())); err != nil {
		return err
	}
	if err := s.exec("SET lock_timeout = '2s'"); err != nil {
		return err
	}
	s.made++
	n := s.made
	switch s.r.IntN(16) {
	case 0:
		return s.exec(fmt.Sprintf("ALTER TABLE plain ADD COLUMN extra%d text; UPDATE plain SET extra%d = 'e' WHERE id %% 50 = 0", n, n))
	case 1:
		return s.dropColumn("plain", "extra")
	case 2:
		return s.exec(fmt.Sprintf("ALTER TABLE churn ADD COLUMN filled%d int DEFAULT %d", n, n))
	case 3:
		return s.dropColumn("churn", "filled")
	case 4:
		return s.exec("TRUNCATE churn; INSERT INTO churn SELECT i, 'again' FROM generate_series(1, 50) i")
	case 5: // in one transaction with changes around it
		return s.exec("BEGIN; UPDATE churn SET v = 'before'; TRUNCATE churn; INSERT INTO churn VALUES (1, 'after'); COMMIT")
	case 6:
		return s.exec("DROP TABLE empty; CREATE TABLE empty (id int PRIMARY KEY, v int); INSERT INTO empty VALUES (1); ALTER PUBLICATION p ADD TABLE empty")
	case 7:
		return s.exec("VACUUM FULL plain")
	case 8: // the newest partition comes
		s.parts++
		return s.exec(fmt.Sprintf("CREATE TABLE parted_%d PARTITION OF parted FOR VALUES FROM (%d) TO (%d)", s.parts-1, (s.parts-1)*100, s.parts*100))
	case 9: // retention: the oldest go
		var old []string
		for ; s.parts-s.oldest > 3; s.oldest++ {
			old = append(old, fmt.Sprintf("parted_%d", s.oldest))
		}
		if old == nil {
			return nil
		}
		return s.exec("DROP TABLE IF EXISTS " + strings.Join(old, ", "))
	case 10: // one that is filled is attached, and perhaps one is detached
		s.parts++
		sql := fmt.Sprintf(`CREATE TABLE parted_%d (id int NOT NULL, at int NOT NULL, v text, PRIMARY KEY (id, at)); INSERT INTO parted_%d SELECT i, %d, 'before' FROM generate_series(1, 50) i;
			ALTER TABLE parted ATTACH PARTITION parted_%d FOR VALUES FROM (%d) TO (%d)`, s.parts-1, s.parts-1, (s.parts-1)*100, s.parts-1, (s.parts-1)*100, s.parts*100)
		if s.r.IntN(3) == 0 && s.parts-s.oldest > 3 {
			sql += fmt.Sprintf("; ALTER TABLE parted DETACH PARTITION parted_%d", s.oldest)
			s.oldest++
		}
		return s.exec(sql)
	case 11:
		return s.exec(fmt.Sprintf("TRUNCATE parted_%d", s.parts-2))
	case 12:
		return s.exec("TRUNCATE log; INSERT INTO log VALUES (-1, 'first')")
	case 13:
		return s.exec(fmt.Sprintf("ALTER TABLE churn REPLICA IDENTITY %s", []string{"FULL", "DEFAULT"}[s.r.IntN(2)]))
	case 14:
		return s.exec(fmt.Sprintf("CREATE TABLE late%d (id int PRIMARY KEY, v text); INSERT INTO late%d SELECT i, 'late' FROM generate_series(1, 300) i; ALTER PUBLICATION p ADD TABLE late%d; UPDATE late%d SET v = 'x' WHERE id < 9", n%3, n%3, n%3, n%3))
	default:
		return s.exec(fmt.Sprintf("ALTER TABLE ids ALTER v TYPE varchar(%d)", 20+s.r.IntN(3)))
	}
}

func (s *soakWriter) dropColumn(table, prefix string) error {
	var name string
	err := s.conn.QueryRow(context.Background(), "SELECT coalesce(min(attname::text), '') FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname LIKE $2 || '%'", table, prefix).Scan(&name)
	if err != nil || name == "" {
		return err
	}
	return s.exec(fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", table, name))
}
