package replicator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// source is a private PostgreSQL with a published table of orders.
type source struct {
	*testing.B
	*localpg.Cluster
}

const sourcePassword = "bench"

func newSource(b *testing.B) *source {
	s := &source{B: b, Cluster: localpgtest.Start(b, localpg.Options{Superuser: "postgres", Password: sourcePassword, Settings: map[string]string{
		"wal_level": "logical", "max_wal_size": "8GB", "autovacuum": "off", "synchronous_commit": "off"}})}
	s.exec(`CREATE TABLE orders (id bigint PRIMARY KEY, customer int, placed timestamptz, total numeric(12,2), status text, note text);
		CREATE PUBLICATION p FOR TABLE orders`)
	return s
}

func (s *source) exec(sql ...string) {
	localpgtest.Exec(s.B, s.URL("postgres", sourcePassword, "postgres"), sql...)
}

const orderRow = `i, i % 1000, now() - i * interval '1 second', i % 10000 / 100.0, (ARRAY['new','paid','sent'])[i % 3 + 1], 'an order''s note ' || i`

// mirror runs a mirror into a zone until ctx ends or done says so of an event.
func (s *source) mirror(ctx context.Context, zone store.Store, slot string, done func(mirror.Event) bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := mirror.Run(ctx, mirror.Config{Landing: zone, Slot: slot, Publications: []string{"p"}, Workers: 2, Freshness: time.Second,
		Source: postgres.Endpoint{Host: s.Host, Port: s.Port, Database: "postgres", User: "postgres", Password: sourcePassword, SSLMode: "disable"},
		Events: func(e mirror.Event) {
			if done(e) {
				cancel()
			}
		}})
	if err != nil {
		s.Fatal(err)
	}
}

// BenchmarkFollow has a mirror copy a table and follow 200,000 changes of it into
// a folder, and the replicator apply both, in turns: "apply-share" is the rate of
// applying by the stream's own, "adopt-share" that of adopting by the snapshot's,
// medians of 3. Upkeep is left out, it runs beside.
func BenchmarkFollow(b *testing.B) {
	const rows, changes, turns = 500_000, 200_000, 3
	s := newSource(b)
	s.exec(fmt.Sprintf("INSERT INTO orders SELECT %s FROM generate_series(1, %d) i", orderRow, rows), "VACUUM ANALYZE orders")
	var snapshot, adopt, stream, apply []time.Duration
	last := rows
	for turn := range turns {
		dir := b.TempDir()
		zone, lake := openDir(b, dir, "zone"), openDir(b, dir, "lake")
		slot := fmt.Sprintf("turn%d", turn)
		var began time.Time
		s.mirror(b.Context(), zone, slot, func(e mirror.Event) bool {
			switch e.Kind {
			case mirror.SnapshotStarted:
				began = e.Time
			case mirror.SnapshotDone:
				snapshot = append(snapshot, e.Time.Sub(began))
			}
			return e.Kind == mirror.Streaming
		})
		r := New(Config{Landing: zone, Tables: lake, AppID: "bench", KeyCache: filepath.Join(dir, "keys")})
		adopt = append(adopt, s.apply(r))
		if err := r.Once(b.Context()); err != nil { // into shape
			b.Fatal(err)
		}
		// Half updates of random rows, half inserts, in transactions of 1,000.
		s.exec(fmt.Sprintf(`DO $$ BEGIN FOR k IN 0..%d LOOP
			INSERT INTO orders SELECT %s FROM generate_series(%d + k * 500 + 1, %d + k * 500 + 500) i;
			UPDATE orders SET status = 'back', total = total + 1 WHERE id IN (SELECT (random() * %d)::bigint + 1 FROM generate_series(1, 500));
			COMMIT; END LOOP; END $$`, changes/1000-1, orderRow, last, last, rows-2))
		last += changes / 2
		s.exec(fmt.Sprintf("INSERT INTO orders SELECT %s FROM generate_series(%d, %d) i", orderRow, last+1, last+1)) // by its file the end is known
		last++
		published := int64(0)
		s.mirror(b.Context(), zone, slot, func(e mirror.Event) bool {
			switch e.Kind {
			case mirror.Streaming:
				began = e.Time
			case mirror.Published:
				if published += e.Rows; published > changes*9/10 { // a row updated twice in a file is in it once
					stream = append(stream[:turn], e.Time.Sub(began))
				}
			}
			return e.Kind == mirror.Confirmed && published > changes*9/10
		})
		apply = append(apply, s.apply(r))
		s.exec(fmt.Sprintf("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '%s' AND NOT active", slot))
	}
	report := func(what string, d []time.Duration, n int) float64 {
		rate := float64(n) / median(d).Seconds()
		b.Logf("%s: %.0f rows/s %v", what, rate, d)
		return rate
	}
	b.ReportMetric(report("adoption", adopt, rows)/report("snapshot", snapshot, rows), "adopt-share")
	b.ReportMetric(report("apply", apply, changes)/report("stream", stream, changes), "apply-share")
}

// apply applies what the zone holds, without upkeep.
func (s *source) apply(r *Replicator) time.Duration {
	start := time.Now()
	var wg sync.WaitGroup
	err := r.scan(s.Context(), &wg)
	wg.Wait()
	took := time.Since(start)
	if err != nil {
		s.Fatal(err)
	}
	for _, t := range r.Status() {
		if t.Error != "" {
			s.Fatal(t.Error)
		}
	}
	return took
}

func openDir(b *testing.B, elem ...string) store.Store {
	s, err := store.OpenDir(filepath.Join(elem...))
	if err != nil {
		b.Fatal(err)
	}
	return s
}

type anyToken struct{}

func (anyToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "a-token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// BenchmarkVisible has 500 transactions a second mirrored into the emulator's
// OneLake, freshness 1 s, and applied by a replicator that looks every 100 ms;
// it tells how long it takes from a transaction's beginning until a Delta reader
// sees it.
func BenchmarkVisible(b *testing.B) {
	const rate, seconds = 500, 20
	s := newSource(b)
	root := b.TempDir()
	item := filepath.Join("ws", "item")
	if err := os.MkdirAll(filepath.Join(root, item, "Files", "LandingZone"), 0o755); err != nil {
		b.Fatal(err)
	}
	service, err := onelake.New(onelake.Options{Root: root})
	if err != nil {
		b.Fatal(err)
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(service.ServeHTTP))
	defer service.Close()
	defer srv.Close()
	lake, err := fabric.NewOneLake(fabric.OneLakeOptions{Endpoint: srv.URL, Credential: anyToken{}, HTTP: srv.Client(), Workspace: "ws", Item: "item", Path: "Files/LandingZone"})
	if err != nil {
		b.Fatal(err)
	}
	type seen struct{ at, upTo time.Time }
	var mu sync.Mutex
	var commits []seen
	last := func() (t time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if n := len(commits); n > 0 {
			t = commits[n-1].upTo
		}
		return t
	}
	r := New(Config{Landing: openDir(b, root, item, "Files", "LandingZone"), Tables: openDir(b, root, item, "Tables"), AppID: "bench", ScanInterval: 100 * time.Millisecond,
		Events: func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case e.Err != nil:
				b.Error(e.Err)
			case e.Version > 0 && !e.CommitTime.IsZero():
				commits = append(commits, seen{time.Now(), e.CommitTime})
			}
		}})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	streaming := make(chan struct{})
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	wg.Go(func() {
		s.mirror(ctx, lake, "visible", func(e mirror.Event) bool {
			if e.Kind == mirror.Streaming {
				close(streaming)
			}
			return false
		})
	})
	<-streaming
	began := s.write(rate, seconds)
	for deadline := time.Now().Add(time.Minute); last().Before(began[len(began)-1]); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal("the last transaction is not in the table after a minute")
		}
	}
	cancel()
	var waits []time.Duration
	for _, at := range began {
		i := slices.IndexFunc(commits, func(c seen) bool { return !c.upTo.Before(at) })
		waits = append(waits, commits[i].at.Sub(at))
	}
	slices.Sort(waits)
	b.ReportMetric(waits[len(waits)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(waits[len(waits)*99/100].Seconds()*1000, "p99-ms")
}

// write inserts a row a transaction, so many a second, and says when each began.
func (s *source) write(rate, seconds int) (began []time.Time) {
	conn, err := pgx.Connect(s.Context(), s.URL("postgres", sourcePassword, "postgres"))
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(context.Background())
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range rate * seconds {
		<-tick.C
		began = append(began, time.Now())
		_, err := conn.Exec(s.Context(), "INSERT INTO orders VALUES ($1, 1, now(), 1.5, 'new', 'a note')", i)
		if err != nil && !errors.Is(err, context.Canceled) {
			s.Fatal(err)
		}
	}
	return began
}
