package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
)

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

// paint colours text on Err, if that is a terminal that wants it.
func (s streams) paint(sgr, text string) string { return painted(s.Colour, sgr, text) }

// paintOut colours text on Out, if that is one.
func (s streams) paintOut(sgr, text string) string { return painted(s.Painted, sgr, text) }

func painted(yes bool, sgr, text string) string {
	if !yes {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// say writes one line for people.
func (s streams) say(format string, args ...any) { fmt.Fprintf(s.Err, format+"\n", args...) }

// seconds is a duration as people read it: "0.4 s", "12.0 s", "2m05s".
func seconds(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}

// count is a number with thousands apart: 1,234,567.
func count[N int | int64 | uint64](n N) string {
	digits := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// plural is "1 table", "2 tables".
func plural[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// bytesText is a size as people read it.
func bytesText(n int64) string { return config.Bytes(n).About() }

// moment is a time in UTC; "-" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func latency(s *int) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%d s", *s)
}

// prefixed is prefix and text, or nothing when there is no text.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
