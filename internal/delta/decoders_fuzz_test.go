package delta

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/store"
)

// FuzzSchema: what is taken for a table's schema is written so that it is read
// the same.
func FuzzSchema(f *testing.F) {
	f.Add(SchemaString(people))
	f.Add(`{"type":"struct","fields":[{"name":"a","type":"long"},{"name":"A","type":"long"}]}`)
	f.Add(`{"type":"struct","fields":[{"name":"a","type":{"type":"array"}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSchema(text)
		if err != nil {
			return
		}
		written := SchemaString(s)
		if again, err := parseSchema(written); err != nil || SchemaString(again) != written {
			t.Errorf("%s is written as %s, which is read as %v, %v", text, written, again, err)
		}
	})
}

// FuzzStats: statistics that are loosened tell as many rows as before.
func FuzzStats(f *testing.F) {
	for _, s := range []string{RowStats(7), "null", "{}", `{"numRecords":3,"minValues":{"a":1},"tightBounds":true}`, `{"numRecords":1e400}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, stats string) {
		rows, err := RowCount(stats)
		loose, looseErr := Loosen(stats)
		if err != nil || looseErr != nil {
			return
		}
		if again, err := RowCount(loose); err != nil || again != rows {
			t.Errorf("%s has %d rows, and loosened, %s, %d (%v)", stats, rows, loose, again, err)
		}
	})
}

// FuzzInterval: an interval of whole seconds is written so that it is read the
// same.
func FuzzInterval(f *testing.F) {
	for _, s := range []string{"interval 1 week 2 days", "interval 0 seconds", "1 hours", "interval 1 month", "interval -1 days", "interval 99999999999 weeks"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseInterval(text)
		if err != nil || d%time.Second != 0 || d/time.Second > 1<<31-1 {
			return
		}
		if again, err := parseInterval(Interval(d)); d < 0 || err != nil || again != d {
			t.Errorf("%q is %s, and that %s (%v)", text, d, again, err)
		}
	})
}

// FuzzListing reads a log's folder of files with any names: a checkpoint is of a
// version that isn't beyond the newest, and every part of it is there.
func FuzzListing(f *testing.F) {
	f.Add("00000000000000000000.json\n00000000000000000002.checkpoint.parquet\n_last_checkpoint")
	f.Add("00000000000000000007.checkpoint.0000000001.0000000002.parquet\n00000000000000000007.checkpoint.0000000002.0000000002.parquet")
	f.Add("00000000000000000007.checkpoint.0000000001.0000000001.parquet\n99999999999999999999.json\n-0000000000000000001.json")
	f.Fuzz(func(t *testing.T, names string) {
		var infos []store.Info
		for name := range strings.SplitSeq(names, "\n") {
			infos = append(infos, store.Info{Name: "_delta_log/" + name})
		}
		l := readListing(infos)
		for v := range l.commits {
			if v < 0 || v > l.newest {
				t.Errorf("commit %d, and the newest is %d", v, l.newest)
			}
		}
		for v, parts := range l.checkpoints {
			if v < 0 || v > l.newest || len(parts) == 0 {
				t.Errorf("checkpoint %d of %d parts, and the newest is %d", v, len(parts), l.newest)
			}
		}
	})
}
