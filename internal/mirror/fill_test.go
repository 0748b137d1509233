package mirror

import (
	"testing"
	"time"
)

// Commits become visible in any order: here the later one does not wait for the
// standby. A key that a change of the earlier one made is not in the table for a
// snapshot that sees only the later one; taken for gone, its row would be lost.
func TestFillSeesEveryTransaction(t *testing.T) {
	b := newBench(t, tables...)
	b.settle()
	free := b.standby()
	defer free()
	done := make(chan error, 1)
	go func() { done <- b.try("UPDATE toast SET id = 1001 WHERE id = 1") }()
	eventually(t, "the first commit waits", func() bool {
		return b.holds("EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep')")
	})
	b.exec("SET synchronous_commit = local", "UPDATE toast SET small = 9 WHERE id = 2")
	cfg := b.config(b.landing)
	cfg.Freshness = time.Second // both are in one file
	stop := b.start(cfg)
	eventually(t, "the mirror has looked for the rows", func() bool {
		return b.holds("EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND (query LIKE '%pg_visible_in_snapshot%' OR query = 'ROLLBACK') AND pid <> pg_backend_pid())")
	})
	if b.target("toast")["1001"] != "" {
		t.Error("a row was filled that nobody could see yet")
	}
	free()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.caughtUp()
	stop()
	b.same()
}
