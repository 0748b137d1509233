package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestIsTerminal: what goes nowhere is no terminal, also by another name.
func TestIsTerminal(t *testing.T) {
	link := filepath.Join(t.TempDir(), "stderr")
	if err := os.Symlink(os.DevNull, link); err != nil {
		t.Skip(err)
	}
	for _, name := range []string{os.DevNull, link} {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if isTerminal(f) {
			t.Errorf("%s is taken for a terminal", name)
		}
		f.Close()
	}
}

// TestPaint: colour on one stream says nothing of the other.
func TestPaint(t *testing.T) {
	s := streams{Colour: true}
	if got := s.paint(red, "x") + s.paintOut(red, "y"); got != "\x1b[31mx\x1b[0my" {
		t.Errorf("got %q", got)
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                       "0 ms",
		340 * time.Millisecond:  "340 ms",
		1500 * time.Millisecond: "1.5 s",
		125 * time.Second:       "2m05s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -12345: "-12,345"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestMoment(t *testing.T) {
	if got, want := moment(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), "2026-01-02 03:04:05Z"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
