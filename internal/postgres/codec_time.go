package postgres

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// PostgreSQL counts from 2000-01-01, batches from 1970-01-01. Inside this file
// days and microseconds are PostgreSQL's: the year 294276 overflows the other.
const (
	epochDays = 10957
	dayMicros = 86_400_000_000
	minDay    = -719162 - epochDays // 0001-01-01
	maxDay    = 2932896 - epochDays // 9999-12-31
	minMicros = minDay * dayMicros
	maxMicros = (maxDay+1)*dayMicros - 1

	noBegin32, noEnd32 = math.MinInt32, math.MaxInt32 // -infinity, infinity
	noBegin64, noEnd64 = math.MinInt64, math.MaxInt64
)

func (n *counter) putDate(c *batch.Column, v []byte) error {
	if len(v) != 4 {
		return errMalformed
	}
	return n.appendDay(c, int64(int32(binary.BigEndian.Uint32(v))))
}

func (n *counter) putDateText(c *batch.Column, v []byte) error {
	d, ok := parseDate(v)
	if !ok {
		return errMalformed
	}
	return n.appendDay(c, d)
}

func (n *counter) appendDay(c *batch.Column, d int64) error {
	if d < minDay || d > maxDay {
		if err := n.change(); err != nil {
			return err
		}
		d = min(max(d, minDay), maxDay)
	}
	c.AppendInt32(int32(d + epochDays))
	return nil
}

func (n *counter) putTimestamp(c *batch.Column, v []byte) error {
	if len(v) != 8 {
		return errMalformed
	}
	return n.appendMicros(c, int64(binary.BigEndian.Uint64(v)))
}

func (n *counter) putTimestampText(c *batch.Column, v []byte) error {
	t, ok := parseTimestamp(v)
	if !ok {
		return errMalformed
	}
	return n.appendMicros(c, t)
}

func (n *counter) appendMicros(c *batch.Column, t int64) error {
	if t < minMicros || t > maxMicros {
		if err := n.change(); err != nil {
			return err
		}
		t = min(max(t, minMicros), maxMicros)
	}
	c.AppendInt64(t + epochDays*dayMicros)
	return nil
}

// cutInfinity recognises the words that stand for no date.
func cutInfinity(v []byte) (negative, ok bool) {
	switch string(v) {
	case "infinity":
		return false, true
	case "-infinity":
		return true, true
	}
	return false, false
}

// parseDate reads an ISO date, as "2024-02-29" or "0044-03-15 BC".
func parseDate(v []byte) (int64, bool) {
	if negative, ok := cutInfinity(v); ok && negative {
		return noBegin32, true
	} else if ok {
		return noEnd32, true
	}
	v, bc := cutBC(v)
	d, rest, ok := cutDate(v, bc)
	return d, ok && len(rest) == 0 && d > noBegin32 && d < noEnd32
}

func cutBC(v []byte) ([]byte, bool) {
	if n := len(v); n > 3 && string(v[n-3:]) == " BC" {
		return v[:n-3], true
	}
	return v, false
}

// cutDate reads a date off the front of v. Before Christ year 1 is year 0.
func cutDate(v []byte, bc bool) (day int64, rest []byte, ok bool) {
	digits := 0
	for digits < len(v) && v[digits] >= '0' && v[digits] <= '9' {
		digits++
	}
	if digits < 4 || digits > 7 || len(v) < digits+6 || v[digits] != '-' || v[digits+3] != '-' {
		return 0, nil, false
	}
	year, _ := parseInt(v[:digits]) // only digits, and few
	month, ok1 := two(v[digits+1:])
	dom, ok2 := two(v[digits+4:])
	if bc {
		year = 1 - year
	}
	if !ok1 || !ok2 || month < 1 || month > 12 || dom < 1 || dom > 31 {
		return 0, nil, false
	}
	return daysFromCivil(year, month, dom), v[digits+6:], true
}

func two(v []byte) (int64, bool) {
	if len(v) < 2 || v[0] < '0' || v[0] > '9' || v[1] < '0' || v[1] > '9' {
		return 0, false
	}
	return int64(v[0]-'0')*10 + int64(v[1]-'0'), true
}

// daysFromCivil and civilFromDays convert in the proleptic Gregorian calendar
// (https://howardhinnant.github.io/date_algorithms.html).
func daysFromCivil(y, m, d int64) int64 {
	if m <= 2 {
		y--
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	doy := (153*((m+9)%12)+2)/5 + d - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468 - epochDays
}

func civilFromDays(days int64) (y, m, d int64) {
	z := days + epochDays + 719468
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = doy - (153*mp+2)/5 + 1
	m = mp + 3
	if mp >= 10 {
		m = mp - 9
	}
	y = yoe + era*400
	if m <= 2 {
		y++
	}
	return y, m, d
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// parseTimestamp reads an ISO timestamp with or without an offset, as
// "2024-02-29 13:14:15.123456+00" or "0044-03-15 12:00:00 BC".
func parseTimestamp(v []byte) (int64, bool) {
	if negative, ok := cutInfinity(v); ok && negative {
		return noBegin64, true
	} else if ok {
		return noEnd64, true
	}
	v, bc := cutBC(v)
	day, rest, ok := cutDate(v, bc)
	if !ok || len(rest) < 9 || rest[0] != ' ' || day < -2451545 || day > 106751991 { // the range of timestamps
		return 0, false
	}
	micros, rest, ok := cutTime(rest[1:])
	if !ok {
		return 0, false
	}
	offset, ok := parseOffset(rest)
	t := day*dayMicros + micros - offset
	return t, ok && t > noBegin64 && t < noEnd64
}

// cutTime reads "13:14:15.123456" off the front of v, as microseconds.
func cutTime(v []byte) (micros int64, rest []byte, ok bool) {
	if len(v) < 8 || v[2] != ':' || v[5] != ':' {
		return 0, nil, false
	}
	h, ok1 := two(v)
	m, ok2 := two(v[3:])
	s, ok3 := two(v[6:])
	if !ok1 || !ok2 || !ok3 || h > 24 || m > 59 || s > 60 {
		return 0, nil, false
	}
	micros = ((h*60+m)*60 + s) * 1_000_000
	v = v[8:]
	if len(v) == 0 || v[0] != '.' {
		return micros, v, true
	}
	v = v[1:]
	unit := int64(100_000)
	for len(v) > 0 && v[0] >= '0' && v[0] <= '9' {
		micros += int64(v[0]-'0') * unit
		unit /= 10
		v = v[1:]
	}
	return micros, v, true
}

// parseOffset reads "+05", "-08:30", "+05:30:15" or nothing, as microseconds
// east of Greenwich.
func parseOffset(v []byte) (int64, bool) {
	if len(v) == 0 {
		return 0, true
	}
	if v[0] != '+' && v[0] != '-' {
		return 0, false
	}
	negative, unit, total := v[0] == '-', int64(3600), int64(0)
	for v = v[1:]; ; v = v[3:] {
		n, ok := two(v)
		if !ok || unit == 0 {
			return 0, false
		}
		total += n * unit
		unit /= 60
		if len(v) < 3 || v[2] != ':' {
			v = v[2:]
			break
		}
	}
	if negative {
		total = -total
	}
	return total * 1_000_000, len(v) == 0
}

// renderDate writes a date as PostgreSQL's ISO style does.
func renderDate(dst, v []byte) ([]byte, error) {
	if len(v) != 4 {
		return dst, errMalformed
	}
	switch d := int32(binary.BigEndian.Uint32(v)); d {
	case noBegin32:
		return append(dst, "-infinity"...), nil
	case noEnd32:
		return append(dst, "infinity"...), nil
	default:
		dst, bc := appendDate(dst, int64(d))
		return append(dst, bc...), nil
	}
}

// renderDateText checks a date in its text form, which is the canonical one.
func renderDateText(dst, v []byte) ([]byte, error) {
	if _, ok := parseDate(v); !ok {
		return dst, errMalformed
	}
	return append(dst, v...), nil
}

// appendDate writes a date and returns what belongs at its very end.
func appendDate(dst []byte, day int64) (out []byte, bc string) {
	y, m, d := civilFromDays(day)
	if y <= 0 {
		y, bc = 1-y, " BC"
	}
	if y < 10000 {
		dst = appendDigits(dst, uint64(y), 4)
	} else {
		dst = strconv.AppendInt(dst, y, 10)
	}
	dst = appendDigits(append(dst, '-'), uint64(m), 2)
	return appendDigits(append(dst, '-'), uint64(d), 2), bc
}

// renderTimestamp writes a timestamp inside JSON, where PostgreSQL puts a T
// between date and time and minutes into the offset.
func renderTimestamp(zone bool) render {
	return func(dst, v []byte) ([]byte, error) {
		if len(v) != 8 {
			return dst, errMalformed
		}
		return appendTimestamp(dst, int64(binary.BigEndian.Uint64(v)), zone), nil
	}
}

func renderTimestampText(zone bool) render {
	return func(dst, v []byte) ([]byte, error) {
		t, ok := parseTimestamp(v)
		if !ok {
			return dst, errMalformed
		}
		return appendTimestamp(dst, t, zone), nil
	}
}

func appendTimestamp(dst []byte, t int64, zone bool) []byte {
	switch t {
	case noBegin64:
		return append(dst, "-infinity"...)
	case noEnd64:
		return append(dst, "infinity"...)
	}
	day := floorDiv(t, dayMicros)
	dst, bc := appendDate(dst, day)
	dst = appendTime(append(dst, 'T'), t-day*dayMicros)
	if zone {
		dst = append(dst, "+00:00"...)
	}
	return append(dst, bc...)
}

// appendTime writes a time of day without the zeros at its end.
func appendTime(dst []byte, micros int64) []byte {
	seconds := uint64(micros / 1_000_000)
	dst = appendDigits(dst, seconds/3600, 2)
	dst = appendDigits(append(dst, ':'), seconds/60%60, 2)
	dst = append(dst, ':')
	return appendSeconds(dst, seconds%60, uint64(micros%1_000_000), 2)
}

// appendSeconds writes seconds, width digits wide, and the decimals needed.
func appendSeconds(dst []byte, s, micros uint64, width int) []byte {
	if width > 0 {
		dst = appendDigits(dst, s, width)
	} else {
		dst = strconv.AppendUint(dst, s, 10)
	}
	if micros == 0 {
		return dst
	}
	dst = appendDigits(append(dst, '.'), micros, 6)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func renderTime(dst, v []byte) ([]byte, error) {
	if len(v) != 8 {
		return dst, errMalformed
	}
	t := int64(binary.BigEndian.Uint64(v))
	if t < 0 || t > dayMicros {
		return dst, errMalformed
	}
	return appendTime(dst, t), nil
}

// renderTimetz writes a time with its offset, which is sent as seconds west.
func renderTimetz(dst, v []byte) ([]byte, error) {
	if len(v) != 12 {
		return dst, errMalformed
	}
	dst, err := renderTime(dst, v[:8])
	if err != nil {
		return dst, err
	}
	west := int64(int32(binary.BigEndian.Uint32(v[8:])))
	sign, east := byte('+'), uint64(-west)
	if west > 0 {
		sign, east = '-', uint64(west)
	}
	if east >= 100*3600 {
		return dst, errMalformed
	}
	dst = appendDigits(append(dst, sign), east/3600, 2)
	if east%3600 != 0 {
		dst = appendDigits(append(dst, ':'), east/60%60, 2)
	}
	if east%60 != 0 {
		dst = appendDigits(append(dst, ':'), east%60, 2)
	}
	return dst, nil
}

// renderInterval writes an interval in intervalstyle iso_8601
// (EncodeInterval in src/backend/utils/adt/datetime.c).
func renderInterval(dst, v []byte) ([]byte, error) {
	if len(v) != 16 {
		return dst, errMalformed
	}
	micros := int64(binary.BigEndian.Uint64(v))
	days := int64(int32(binary.BigEndian.Uint32(v[8:])))
	months := int64(int32(binary.BigEndian.Uint32(v[12:])))
	switch {
	case micros == noEnd64 && days == noEnd32 && months == noEnd32: // from PostgreSQL 17 on
		return append(dst, "infinity"...), nil
	case micros == noBegin64 && days == noBegin32 && months == noBegin32:
		return append(dst, "-infinity"...), nil
	case micros == 0 && days == 0 && months == 0:
		return append(dst, "PT0S"...), nil
	}
	dst = append(dst, 'P')
	dst = appendPart(dst, months/12, 'Y')
	dst = appendPart(dst, months%12, 'M')
	dst = appendPart(dst, days, 'D')
	if micros == 0 {
		return dst, nil
	}
	dst = append(dst, 'T')
	dst = appendPart(dst, micros/3_600_000_000, 'H')
	dst = appendPart(dst, micros/60_000_000%60, 'M')
	micros %= 60_000_000
	if micros == 0 {
		return dst, nil
	}
	if micros < 0 {
		dst, micros = append(dst, '-'), -micros
	}
	dst = appendSeconds(dst, uint64(micros/1_000_000), uint64(micros%1_000_000), 0)
	return append(dst, 'S'), nil
}

func appendPart(dst []byte, n int64, unit byte) []byte {
	if n == 0 {
		return dst
	}
	return append(strconv.AppendInt(dst, n, 10), unit)
}
