package bench_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

const password = "bench"

// server is a private PostgreSQL with as many databases as there are shapes.
type server struct {
	*localpg.Cluster
	b   *testing.B
	bin string
}

// startServer runs it for the duration of the benchmark.
func startServer(b *testing.B) *server {
	bin, _, err := localpg.Find("")
	if err != nil {
		b.Fatal(err)
	}
	c := localpgtest.Start(b, localpg.Options{Superuser: "postgres", Password: password, Settings: map[string]string{
		"wal_level": "logical", "max_replication_slots": "100", "max_wal_senders": "20", "shared_buffers": "512MB", "max_wal_size": "16GB",
		"checkpoint_timeout": "1h", "autovacuum": "off", "synchronous_commit": "off"}})
	return &server{Cluster: c, b: b, bin: bin}
}

// client is a role on one of its databases.
func (s *server) client(do, db, slot string) role {
	return role{Do: do, Host: s.Host, Port: s.Port, Database: db, Slot: slot, Workers: 2}
}

func (s *server) exec(db string, sql ...string) {
	s.b.Helper()
	localpgtest.Exec(s.b, s.URL("postgres", password, db), sql...)
}

func (s *server) ask(db, sql string) string {
	s.b.Helper()
	conn, err := pgx.Connect(context.Background(), s.URL("postgres", password, db))
	if err != nil {
		s.b.Fatal(err)
	}
	defer conn.Close(context.Background())
	var out string
	if err := conn.QueryRow(context.Background(), sql).Scan(&out); err != nil {
		s.b.Fatalf("%s: %v", sql, err)
	}
	return out
}

// tool runs one of PostgreSQL's own programs and measures it.
func (s *server) tool(db, name string, args ...string) usage {
	path := filepath.Join(s.bin, name)
	if _, err := os.Stat(path); err != nil {
		path = name // some distributions keep the client's programs elsewhere
	}
	cmd := exec.CommandContext(s.b.Context(), path, args...)
	cmd.Env = append(os.Environ(), "PGHOST="+s.Host, fmt.Sprintf("PGPORT=%d", s.Port), "PGDATABASE="+db, "PGUSER=postgres", "PGPASSWORD="+password, "PGOPTIONS=-c max_parallel_workers_per_gather=0 -c jit=off")
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.b.Errorf("%s: %v\n%s", name, err, out)
	}
	return usage{Wall: time.Since(begin), CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
}

// copyOut copies the table to nowhere in PostgreSQL's binary format, over some
// connections at once: no client can do it faster.
func (s *server) copyOut(sh shape, connections int) usage {
	blocks := 0
	if _, err := fmt.Sscan(s.ask(sh.name, fmt.Sprintf("SELECT (pg_relation_size('%s') / 8192)::text", sh.name)), &blocks); err != nil {
		s.b.Fatal(err)
	}
	part := blocks/connections + 1
	var wg sync.WaitGroup
	sum := make([]usage, connections)
	begin := time.Now()
	for i := range connections {
		wg.Go(func() {
			sum[i] = s.tool(sh.name, "psql", "-qX", "-c", fmt.Sprintf(`\copy (SELECT * FROM %s WHERE ctid >= '(%d,0)' AND ctid < '(%d,0)') TO '%s' (FORMAT binary)`,
				sh.name, i*part, (i+1)*part, os.DevNull))
		})
	}
	wg.Wait()
	u := usage{Rows: int64(sh.rows), Wall: time.Since(begin)}
	for _, x := range sum {
		u.CPU += x.CPU
	}
	return u
}

// receive reads a slot to nowhere with PostgreSQL's own client.
func (s *server) receive(db, slot string, end postgres.LSN, rows int) usage {
	u := s.tool(db, "pg_recvlogical", "--start", "-d", db, "-S", slot, "-f", os.DevNull, "-E", end.String(), "--no-loop",
		"-o", "proto_version=1", "-o", "publication_names=p", "-o", "binary=true")
	u.Rows = int64(rows)
	return u
}

// end is where the log ends now. What is written next lies beyond.
func (s *server) end() postgres.LSN {
	lsn, err := postgres.ParseLSN(s.ask("postgres", "SELECT pg_current_wal_insert_lsn()::text"))
	if err != nil {
		s.b.Fatal(err)
	}
	return lsn
}

// await polls until the answer is as wanted.
func (s *server) await(sql, want string) {
	s.b.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); s.ask("postgres", sql) != want; <-tick.C {
		if time.Now().After(deadline) {
			s.b.Fatalf("waited 60 s in vain until %s is %s", sql, want)
		}
	}
}

func (s *server) dropSlots() {
	s.b.Helper()
	s.await("SELECT count(*)::text FROM pg_replication_slots WHERE active", "0")
	s.ask("postgres", "SELECT count(pg_drop_replication_slot(slot_name))::text FROM pg_replication_slots")
}

// shape is a table and how its rows are made.
type shape struct {
	name    string
	columns string
	row     string // of i
	rows    int
}

func (sh shape) insert(from, to int) string {
	return fmt.Sprintf("INSERT INTO %s SELECT %s FROM generate_series(%d, %d) i", sh.name, sh.row, from, to)
}

const text = "furiously sly careful blithe quick fluffy slow quiet ruthless thin close dogged daring brave stealthy permanent enticing idle busy regular final ironic even bold silent foxes ideas theodolites pinto beans instructions dependencies excuses platelets asymptotes courts dolphins multipliers sauternes warthogs frets dinos attainments somas Tiresias patterns forges braids hockey players frays warhorses dugouts notornis epitaphs pearls tithes waters orbits gifts sheaves depths sentiments decoys realms pains grouches escapades"

// fire has sixteen columns of which none repeats much: the shape that others
// measure with. lineitem is TPC-H's: much repeats.
var (
	fire = shape{name: "fire",
		columns: "id bigint PRIMARY KEY, n int, f1 float8, f2 float8, f3 float8, f4 float8, s1 varchar(32), s2 varchar(32), s3 varchar(32), s4 varchar(32), s5 varchar(32), d1 date, d2 date, d3 date, at timestamptz, price numeric(12,2)",
		row: `i, (random()*1e9)::int, random(), random()*100, i/3.0, random(), md5(i::text), md5('b'||i), md5('c'||i), substr(md5('d'||i), 1, 16), 'kind ' || i%50,
		'2020-01-01'::date + i%3000, '2020-01-01'::date + (random()*3000)::int, '2024-05-05', '2020-01-01'::timestamptz + i * interval '1 second', i%100000/100.0`}
	lineitem = shape{name: "lineitem",
		columns: "l_orderkey bigint, l_partkey int, l_suppkey int, l_linenumber int, l_quantity numeric(15,2), l_extendedprice numeric(15,2), l_discount numeric(15,2), l_tax numeric(15,2), l_returnflag char(1), l_linestatus char(1), l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct varchar(25), l_shipmode varchar(10), l_comment varchar(44), PRIMARY KEY (l_orderkey, l_linenumber)",
		row: `i/4*8, (random()*2e6)::int, (random()*1e5)::int, i%4, (random()*50)::int, (random()*1e7)::int/100.0, (random()*10)::int/100.0, (random()*8)::int/100.0,
		substr('ANR', 1+i%3, 1), substr('FO', 1+i%2, 1), '1992-01-01'::date + (random()*2500)::int, '1992-01-01'::date + (random()*2500)::int, '1992-01-01'::date + (random()*2500)::int,
		(ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[1+i%4], (ARRAY['REG AIR','AIR','RAIL','SHIP','TRUCK','MAIL','FOB'])[1+i%7],
		substr('` + text + `', 1+(random()*480)::int, 10+(random()*33)::int)`}
	big     = shape{name: "big", columns: "id bigint PRIMARY KEY, n int", row: "i, i%1000"}
	pgbench = shape{name: "pgbench", columns: "id int PRIMARY KEY, bid int, abalance int, filler char(84)", row: "i, i/100000, 0, ''"}
)

// create makes the shape's database, with an empty table.
func (s *server) create(sh shape) {
	s.exec("postgres", "CREATE DATABASE "+sh.name)
	s.exec(sh.name, fmt.Sprintf("CREATE TABLE %s (%s); CREATE PUBLICATION p FOR TABLE %s", sh.name, strings.TrimSpace(sh.columns), sh.name))
}
