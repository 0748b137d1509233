package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/mirror"
)

func TestWALGuard(t *testing.T) {
	type look struct {
		after  time.Duration
		safe   int64
		status string
	}
	const mib = 1 << 20
	for _, test := range []struct {
		name  string
		looks []look
		want  []string
	}{
		{"nothing is used", []look{{0, 1000 * mib, "reserved"}, {30 * time.Second, 1000 * mib, "reserved"}}, nil},
		{"no limit is set", []look{{0, -1, "reserved"}, {30 * time.Second, -1, "extended"}}, nil},
		{"one look says nothing of a rate", []look{{0, 1, "reserved"}}, nil},
		{"slowly: 10 MiB in 30 s leave 50 minutes of 1,000 MiB", []look{{0, 1010 * mib, "reserved"}, {30 * time.Second, 1000 * mib, "reserved"}}, []string{"WALRunsOut 50m0s"}},
		{"too slowly to warn", []look{{0, 2010 * mib, "reserved"}, {30 * time.Second, 2000 * mib, "reserved"}}, nil},
		{"once a change", []look{{0, 1010 * mib, "reserved"}, {30 * time.Second, 1000 * mib, "reserved"}, {time.Minute, 900 * mib, "extended"}}, []string{"WALRunsOut 50m0s"}},
		{"again after it was better", []look{{0, 1010 * mib, "reserved"}, {30 * time.Second, 1000 * mib, "reserved"}, {time.Minute, 1010 * mib, "reserved"}, {90 * time.Second, 1000 * mib, "reserved"}},
			[]string{"WALRunsOut 50m0s", "WALRunsOut 50m0s"}},
		{"looks too near", []look{{0, 1010 * mib, "reserved"}, {time.Second, 500 * mib, "reserved"}}, nil},
		{"beyond the limit, then lost", []look{{0, 0, "unreserved"}, {30 * time.Second, 0, "unreserved"}, {time.Minute, 0, "lost"}}, []string{"WALUnreserved 0s", "SlotLost 0s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			g := &walGuard{warn: func(w runWarning) { got = append(got, w.Code+" "+w.In.String()) }}
			begin := time.Unix(1_700_000_000, 0)
			for _, l := range test.looks {
				g.event(mirror.Event{Time: begin.Add(l.after), Kind: mirror.SlotHealth, Slot: &mirror.Slot{WALStatus: l.status, SafeWALSize: l.safe}})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
