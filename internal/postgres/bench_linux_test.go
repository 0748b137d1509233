package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// largeRows is how many rows the large transaction has.
const largeRows = 2_000_000

// BenchmarkLargeTransaction decodes one transaction in the ways in which it can
// come; an op is a pass. CPU is of this process and of the server's.
func BenchmarkLargeTransaction(b *testing.B) {
	e := database(b, "")
	run(b, e, wideTable)
	newSlot(b, e, "large")
	run(b, e, makeRows(largeRows))
	tab := table(b, e, "wide")
	dst, d := batch.New(tab.MirrorSchema(), true), decoder(b, tab)
	for _, c := range []struct {
		name string
		o    postgres.StreamOptions
	}{
		{"v1", postgres.StreamOptions{}},
		{"v1_1GB", postgres.StreamOptions{DecodingMemory: 1 << 30}},
		{"v2", postgres.StreamOptions{Spill: &postgres.Spill{}}},
		{"v2_memory", postgres.StreamOptions{Spill: &postgres.Spill{MemoryBytes: 1 << 30}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.o.Spill != nil {
				c.o.Spill.Dir = b.TempDir()
			}
			c.o.Slot, c.o.Publications, c.o.Binary = "large", []string{"p"}, true
			for b.Loop() {
				passLarge(b, e, c.o, dst, d)
			}
		})
	}
}

func passLarge(b *testing.B, e postgres.Endpoint, o postgres.StreamOptions, dst *batch.Batch, d *postgres.Decoder) {
	ctx := context.Background()
	resetPeak()
	began, client := time.Now(), clientCPU(b)
	s := startStream(b, e, o)
	info, _, err := postgres.Slot(ctx, connect(b, e), "large")
	if err != nil {
		b.Fatal(err)
	}
	var first time.Duration
	for rows := 0; rows < largeRows; {
		ev, err := s.Next(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if ev.Kind != postgres.EventMessage || ev.Msg.Kind != pgoutput.Insert {
			continue
		}
		if rows++; rows == 1 {
			first = time.Since(began)
		}
		if err := d.AppendTuple(dst, ev.Msg.New); err != nil {
			b.Fatal(err)
		}
		if dst.EndMarkedRow(batch.Upsert); rows%1000 == 0 {
			dst.Truncate(0)
		}
	}
	b.ReportMetric(first.Seconds(), "s-to-first")
	b.ReportMetric(time.Since(began).Seconds(), "s")
	b.ReportMetric(float64((clientCPU(b)-client).Nanoseconds())/largeRows, "client-ns/row")
	b.ReportMetric(float64(processCPU(b, info.ActivePID).Nanoseconds())/largeRows, "server-ns/row")
	b.ReportMetric(peakMB(b, "self"), "peak-MB")
	b.ReportMetric(peakMB(b, fmt.Sprint(info.ActivePID)), "server-peak-MB")
	if err := s.Close(ctx); err != nil {
		b.Fatal(err)
	}
}

func clientCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processCPU is what a process has used since it began, in ticks of 10 ms.
func processCPU(b *testing.B, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip("no /proc here:", err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resetPeak lets the kernel forget the peak so far; where it can't, a later peak
// may be an earlier one's.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

func peakMB(b *testing.B, pid string) float64 {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		b.Skip("no /proc here:", err)
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(v)[0])
			return float64(kb) / 1024
		}
	}
	return 0
}
