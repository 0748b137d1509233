package lease

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Tags carry a lease on the resource itself, so that any machine can find and
// close it: the key is tagPrefix and the id, the value is JSON. ARM's values
// hold 256 characters; what is longer goes on in tags with a number behind.
const (
	tagPrefix  = "pgmirror-lease-"
	tagLength  = 256
	tagVersion = 1
	whoLength  = 80
)

type tagValue struct {
	Version int               `json:"v"`
	Kind    Kind              `json:"kind"`
	Run     string            `json:"run"`
	Who     string            `json:"by,omitempty"`
	Until   int64             `json:"until"` // Unix seconds
	Params  map[string]string `json:"undo,omitempty"`
}

// withTag is tags with those of l added. Others stay as they are.
func withTag(tags map[string]string, l Lease) (map[string]string, error) {
	value, err := json.Marshal(tagValue{tagVersion, l.Kind, l.Run, clip(l.Who), l.Until.Unix(), l.Params})
	if err != nil {
		return nil, err
	}
	out := withoutTag(tags, l.ID)
	for i := 1; len(value) > 0; i++ {
		n := cutAt(value, tagLength)
		out[tagKey(l.ID, i)], value = string(value[:n]), value[n:]
	}
	return out, nil
}

// clip keeps a name short, at a whole character.
func clip(s string) string { return s[:cutAt([]byte(s), whoLength)] }

// cutAt is the longest start of b of at most n bytes that ends with a character.
func cutAt(b []byte, n int) int {
	if len(b) <= n {
		return len(b)
	}
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return n
}

func tagKey(id string, part int) string {
	if part == 1 {
		return tagPrefix + id
	}
	return fmt.Sprintf("%s%s-%d", tagPrefix, id, part)
}

// withoutTag is tags without those of the lease.
func withoutTag(tags map[string]string, id string) map[string]string {
	out := maps.Clone(tags)
	if out == nil {
		out = map[string]string{}
	}
	maps.DeleteFunc(out, func(key, _ string) bool {
		have, _, ok := parseKey(key)
		return ok && have == id
	})
	return out
}

// parseKey splits a lease's tag key; ARM doesn't promise to keep its case.
func parseKey(key string) (id string, part int, ok bool) {
	rest, ok := strings.CutPrefix(strings.ToLower(key), tagPrefix)
	if !ok {
		return "", 0, false
	}
	id, number, more := strings.Cut(rest, "-")
	part = 1
	if more {
		if _, err := fmt.Sscanf(number, "%d", &part); err != nil {
			return "", 0, false
		}
	}
	return id, part, id != ""
}

// leasesIn are the leases that a resource's tags tell of, by id. One that can't
// be read is there with its id and no kind: somebody else's version wrote it, or
// lost half of it.
func leasesIn(resource string, tags map[string]string) []Lease {
	parts := map[string]map[int]string{}
	for key, value := range tags {
		if id, part, ok := parseKey(key); ok {
			if parts[id] == nil {
				parts[id] = map[int]string{}
			}
			parts[id][part] = value
		}
	}
	var out []Lease
	for _, id := range slices.Sorted(maps.Keys(parts)) {
		out = append(out, leaseOf(resource, id, parts[id]))
	}
	return out
}

func leaseOf(resource, id string, parts map[int]string) Lease {
	var whole strings.Builder
	for _, n := range slices.Sorted(maps.Keys(parts)) {
		whole.WriteString(parts[n])
	}
	l := Lease{ID: id, Resource: resource}
	var v tagValue
	if json.Unmarshal([]byte(whole.String()), &v) != nil || v.Version != tagVersion {
		return l
	}
	l.Kind, l.Run, l.Who, l.Until, l.Params = v.Kind, v.Run, v.Who, time.Unix(v.Until, 0).UTC(), v.Params
	return l
}
