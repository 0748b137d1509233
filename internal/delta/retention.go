package delta

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Properties of a table that say how long what is superseded stays
// (https://docs.delta.io/latest/table-properties.html).
const (
	FileRetentionProperty = "delta.deletedFileRetentionDuration" // data files and deletion vectors
	LogRetentionProperty  = "delta.logRetentionDuration"         // commits and checkpoints
)

// How long without the properties.
const (
	Retention    = 7 * 24 * time.Hour
	LogRetention = 30 * 24 * time.Hour
)

// FileRetention is how long a removed file stays for readers of older versions.
func (s *Snapshot) FileRetention() (time.Duration, error) {
	return s.duration(FileRetentionProperty, Retention)
}

// LogRetention is how long a superseded commit stays.
func (s *Snapshot) LogRetention() (time.Duration, error) {
	return s.duration(LogRetentionProperty, LogRetention)
}

func (s *Snapshot) duration(property string, def time.Duration) (time.Duration, error) {
	text, ok := s.Metadata.Configuration[property]
	if !ok {
		return def, nil
	}
	d, err := parseInterval(text)
	if err != nil {
		return 0, fmt.Errorf("table property %s: %w", property, err)
	}
	return d, nil
}

// Interval is a duration as table properties hold it, in whole seconds.
func Interval(d time.Duration) string {
	return fmt.Sprintf("interval %d seconds", int64(d/time.Second))
}

var intervalUnits = map[string]time.Duration{"week": 7 * 24 * time.Hour, "day": 24 * time.Hour, "hour": time.Hour, "minute": time.Minute,
	"second": time.Second, "millisecond": time.Millisecond, "microsecond": time.Microsecond}

// parseInterval reads "interval 1 week 2 days"; months and years have no length.
func parseInterval(text string) (time.Duration, error) {
	f := strings.Fields(strings.ToLower(text))
	if len(f) > 0 && f[0] == "interval" {
		f = f[1:]
	}
	total := time.Duration(0)
	for ; len(f) >= 2; f = f[2:] {
		n, err := strconv.ParseInt(f[0], 10, 32)
		unit := intervalUnits[strings.TrimSuffix(f[1], "s")]
		if err != nil || unit == 0 || n < 0 || float64(total)+float64(n)*float64(unit) > float64(1<<62) {
			return 0, fmt.Errorf("%q is no interval of weeks, days, hours, minutes or seconds", text)
		}
		total += time.Duration(n) * unit
	}
	if len(f) != 0 || total == 0 && !strings.Contains(text, "0") {
		return 0, fmt.Errorf("%q is no interval", text)
	}
	return total, nil
}
