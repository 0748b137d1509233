package bench_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// table is what all of it comes to.
type table struct {
	rows    []row
	latency string
}

// row is one measurement: ours and, taken in turns with it, somebody else's with
// the same data.
type row struct {
	name, unit           string
	ours, raw            []usage
	read                 []usage // our reader alone, of a stream
	base                 []usage // an older build of ours, if there is one
	gateCPU, goalCPU     float64 // µs a row
	gateShare, goalShare float64 // of the raw rate
}

func (t *table) add(r row) {
	t.rows = append(t.rows, r)
	fmt.Fprintln(os.Stderr, strings.ReplaceAll(r.line(), "\t", "  ")) // a long wait is easier with news
}

func (r row) line() string {
	share := "-\t-\t-"
	if r.raw != nil {
		share = fmt.Sprintf("%.2f\t%.2f\t%.2f", medianOf(r.ours, usage.perSecond)/medianOf(r.raw, usage.perSecond), r.gateShare, r.goalShare)
	}
	return fmt.Sprintf("%s\t%.2f\t%.1f\t%.1f\t%.0fk\t%s\t%s\t%s\t%.3f\t%.0f\t%s\t%s", r.name,
		medianOf(r.ours, usage.perRow), r.gateCPU, r.goalCPU, medianOf(r.ours, usage.perSecond)/1e3, share, r.unit, cpu(r.raw),
		medianOf(r.ours, func(u usage) float64 { return float64(u.Mallocs) / float64(u.Rows) }),
		medianOf(r.ours, func(u usage) float64 { return float64(u.Peak) / (1 << 20) }), cpu(r.read), cpu(r.base))
}

// cpu is the CPU time a row, if it was measured.
func cpu(u []usage) string {
	if u == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", medianOf(u, usage.perRow))
}

func (t *table) print(b *testing.B) {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nmedians of turns\tCPU µs/row\tgate\tgoal\trows/s\tshare\tgate\tgoal\tof\tits µs\tallocs/row\tpeak MiB\treader alone, µs\tBENCH_BASE, µs")
	for _, r := range t.rows {
		fmt.Fprintln(w, r.line())
		b.ReportMetric(medianOf(r.ours, usage.perRow), strings.NewReplacer(" ", "-", ",", "").Replace(r.name)+"-µs/row")
	}
	w.Flush()
	fmt.Fprintf(os.Stdout, "%speak memory of all: %.0f MiB (gate %d, goal 244)\n%s\n\n", &out, t.peak(), budget>>20+192, t.latency)
}

// peak is the most resident memory that any client of ours had, in MiB.
func (t *table) peak() float64 {
	most := int64(0)
	for _, r := range t.rows {
		for _, u := range r.ours {
			most = max(most, u.Peak)
		}
	}
	return float64(most) / (1 << 20)
}

func medianOf(all []usage, of func(usage) float64) float64 {
	v := make([]float64, len(all))
	for i, u := range all {
		v[i] = of(u)
	}
	return median(v)
}

func median[T cmp.Ordered](v []T) T {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}
