// Package rulestest holds the emulator's tests to the table of its rules: every
// rule has a test that provokes it, and every refusal that a test sees is a rule.
package rulestest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
)

// Rule is an entry of rules.json. One with a code is a refusal, which is seen in
// an answer; one without is a behaviour, which a test says it has proved.
type Rule struct {
	ID      string `json:"id"`
	Service string `json:"service"` // fabric, arm, vault, onelake, control; table: an error in the table status
	Status  int    `json:"status"`  // 0: not an answer's own: a failed operation, a failed table
	Code    string `json:"code"`
	Says    string `json:"says"`   // in the message, where a code stands for several rules
	Rule    string `json:"rule"`   // what makes it so
	Source  string `json:"source"` // where that is written
	Proof   string `json:"proof"`  // spec, recorded, documented, field, assumed
}

// Book is the table and what the tests of one package saw of it.
type Book struct {
	mu       sync.Mutex
	services []string
	rules    []Rule
	seen     map[string]bool
	unlisted map[string]bool
}

// Open reads the rules of some services. It panics when it can't: no test could
// run.
func Open(path string, services ...string) *Book {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	var file struct{ Rules []Rule }
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		panic(path + ": " + err.Error())
	}
	b := &Book{services: services, seen: map[string]bool{}, unlisted: map[string]bool{}}
	for _, r := range file.Rules {
		if slices.Contains(services, r.Service) {
			b.rules = append(b.rules, r)
		}
	}
	return b
}

// Saw notes a refusal. Of the rules whose words the message has the first one
// counts, and goes before one that stands for its code as a whole. What another package holds is left to it.
func (b *Book) Saw(service string, status int, code, message string) {
	if !slices.Contains(b.services, service) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	found := ""
	for _, r := range b.rules {
		if r.Code == "" || r.Service != service || r.Status != status || r.Code != code || !strings.Contains(message, r.Says) {
			continue
		}
		if r.Says != "" {
			b.seen[r.ID] = true
			return
		}
		found = r.ID
	}
	if found == "" {
		b.unlisted[fmt.Sprintf("%s %d %s: %.120s", service, status, code, message)] = true
		return
	}
	b.seen[found] = true
}

// Proved notes a behaviour.
func (b *Book) Proved(ids ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if !slices.ContainsFunc(b.rules, func(r Rule) bool { return r.ID == id && r.Code == "" }) {
			b.unlisted["behaviour "+id] = true
		}
		b.seen[id] = true
	}
}

// Finish is the end of TestMain: it gives the exit code. Only a run of all tests
// has to have seen every rule.
func (b *Book) Finish(code int) int {
	if !whole() {
		return code
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var faults []string
	for _, r := range b.rules {
		if !b.seen[r.ID] {
			faults = append(faults, fmt.Sprintf("rules.json: no test provokes %s (%s %d %s)", r.ID, r.Service, r.Status, r.Code))
		}
		if r.ID == "" || r.Rule == "" || r.Source == "" || !slices.Contains([]string{"spec", "recorded", "documented", "field", "assumed"}, r.Proof) {
			faults = append(faults, fmt.Sprintf("rules.json: %q lacks its rule, its source or a known proof", r.ID))
		}
	}
	for what := range b.unlisted {
		faults = append(faults, "not in rules.json: "+what)
	}
	slices.Sort(faults)
	for _, f := range faults {
		fmt.Fprintln(os.Stderr, f)
	}
	if code == 0 && len(faults) > 0 {
		code = 1
	}
	return code
}

// whole says whether all tests were run.
func whole() bool {
	for _, name := range []string{"test.run", "test.skip", "test.fuzz", "test.list", "test.short"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" && f.Value.String() != "false" {
			return false
		}
	}
	return true
}

// Transport notes what answers say on their way. service names the service that
// a request goes to.
func (b *Book) Transport(next http.RoundTripper, service func(*http.Request) string) http.RoundTripper {
	return transport{b, next, service}
}

type transport struct {
	book    *Book
	next    http.RoundTripper
	service func(*http.Request) string
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	p := strings.ToLower(r.URL.Path)
	if resp.StatusCode < 400 && !strings.Contains(p, "operation") && !strings.HasSuffix(p, "mirroringstatus") {
		return resp, nil
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if err == nil {
		t.book.Answer(t.service(r), resp, body)
	}
	return resp, nil
}

// CloseIdleConnections is http.Client's.
func (t transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Answer notes what an answer says: a refusal, a failed operation, failed tables.
func (b *Book) Answer(service string, resp *http.Response, body []byte) {
	if resp.Header.Get("X-Emulator-Fault") != "" {
		return // asked for by the test
	}
	type problem struct {
		Code, ErrorCode, Message string
		Inner                    struct{ Code string } `json:"innererror"`
	}
	var a struct {
		problem
		Status json.RawMessage
		Error  *problem
		Data   []struct{ Error *problem }
	}
	_ = json.Unmarshal(body, &a) // what is no JSON says nothing but its headers
	code, message := a.ErrorCode, a.Message
	if a.Error != nil {
		code, message = firstOf(a.Error.Inner.Code, a.Error.Code, a.Error.ErrorCode), a.Error.Message
	}
	if h := resp.Header.Get("x-ms-error-code"); h != "" {
		code = h
	}
	if resp.StatusCode >= 400 || resp.StatusCode == http.StatusNotModified {
		b.Saw(service, resp.StatusCode, code, message)
		return
	}
	if string(a.Status) == `"Failed"` && a.Error != nil {
		b.Saw(service, 0, code, message)
	}
	for _, t := range a.Data {
		if t.Error != nil {
			b.Saw("table", 0, t.Error.ErrorCode, t.Error.Message)
		}
	}
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
