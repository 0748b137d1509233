package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// jsonVersion is the version of every line that --json writes. A field may be
// added within a version; one that changes or goes is a new version.
const jsonVersion = 1

// header is the first line of every NDJSON output.
type header struct {
	Type    string `json:"type"` // "header"
	V       int    `json:"v"`
	Command string `json:"command"`
	Mirror  string `json:"mirror,omitempty"`
	Mode    string `json:"mode,omitempty"`
}

func newHeader(command string, c *config.Config) header {
	return header{"header", jsonVersion, command, c.MirrorName(), string(c.Mode)}
}

// typed puts a type before the fields of a value, as every NDJSON line has it.
func typed(kind string, v any) (json.RawMessage, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	head := `{"type":"` + kind + `"`
	if len(body) > 2 {
		head += ","
	}
	return append([]byte(head), body[1:]...), nil
}

// writeLines writes values as NDJSON.
func writeLines(w io.Writer, lines ...any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	return nil
}

// planSummary is the last line of a plan.
type planSummary struct {
	Changes  int      `json:"changes"`  // steps that would write
	Restarts int      `json:"restarts"` // of which restart the server
	Waiting  int      `json:"waiting"`  // steps that can be judged only after others
	Blocked  int      `json:"blocked"`
	Consents []string `json:"consentsMissing"`
	Later    int      `json:"later,omitempty"` // steps left for a later run: somebody else has to give something first
}

// todo is the number of steps that aren't as wanted.
func (s planSummary) todo() int { return s.Changes + s.Waiting + s.Blocked }

func summarize(plan []setup.Finding) planSummary {
	s := planSummary{Consents: []string{}}
	for _, f := range plan {
		switch f.Action {
		case setup.None:
			continue
		case setup.Blocked:
			s.Blocked++
			continue
		case setup.Await:
			s.Later++
			continue
		case setup.Wait:
			s.Waiting++
			continue
		case setup.Restart:
			s.Restarts++
		}
		s.Changes++
	}
	s.Consents = append(s.Consents, missingConsents(plan)...)
	return s
}

// missingConsents are the consents that the plan needs and doesn't have.
func missingConsents(plan []setup.Finding) []string {
	var needs []setup.Finding
	for _, f := range plan {
		if f.Consent != "" && !f.Allowed {
			needs = append(needs, f)
		}
	}
	return (&setup.ConsentError{Findings: needs}).Missing()
}

// writePlanJSON writes a plan as NDJSON.
func writePlanJSON(w io.Writer, command string, c *config.Config, plan []setup.Finding) error {
	lines := []any{newHeader(command, c)}
	for _, f := range plan {
		line, err := typed("finding", f)
		if err != nil {
			return err
		}
		lines = append(lines, line)
	}
	end, err := typed("summary", summarize(plan))
	if err != nil {
		return err
	}
	return writeLines(w, append(lines, end)...)
}

// signs stand before a step, as in other tools that plan.
var signs = map[setup.Action]string{
	setup.None:    "=",
	setup.Create:  "+",
	setup.Update:  "~",
	setup.Restart: "!",
	setup.Delete:  "-",
	setup.Wait:    "…",
	setup.Blocked: "x",
	setup.Await:   ">",
}

// writePlan shows a plan to people: what would be done, and what they should
// know before they say yes. next is a command line as they have to type it.
func writePlan(w io.Writer, next func(string) string, command string, c *config.Config, plan []setup.Finding) {
	title, wanted := "Plan for", "as wanted"
	if command == "destroy" {
		title, wanted = "Plan to take down", "gone or left"
	}
	if !setup.Pending(plan) && summarize(plan).Later == 0 {
		fmt.Fprintf(w, "%s %s (%s): nothing to do, all %d steps are %s.\n", title, c.MirrorName(), c.Mode, len(plan), wanted)
		writeNotes(w, plan)
		return
	}
	s := summarize(plan)
	fmt.Fprintf(w, "%s %s (%s): %d of %d steps to do.\n\n", title, c.MirrorName(), c.Mode, s.todo(), len(plan))
	width := 0
	for _, f := range plan {
		width = max(width, len(f.Step))
	}
	for _, f := range plan {
		if f.Action != setup.None {
			writeFinding(w, next, f, width)
		}
	}
	writeNotes(w, plan)
	if s.Later > 0 {
		fmt.Fprintf(w, "\n%s left for a later run.", plural(s.Later, "step"))
	}
	fmt.Fprintf(w, "\n%s, %s; %d waiting for an earlier step, %d blocked; %d %s already.\n", plural(s.Changes, "change"), plural(s.Restarts, "restart"),
		s.Waiting, s.Blocked, len(plan)-s.todo()-s.Later, wanted)
	if len(s.Consents) > 0 {
		fmt.Fprintf(w, "To apply it you have to consent to: %s\n", strings.Join(s.Consents, ", "))
	}
}

func writeFinding(w io.Writer, next func(string) string, f setup.Finding, width int) {
	if f.Action == setup.Delete && len(f.Items) == 1 { // Have says it better
		f.Items = nil
	}
	fmt.Fprintf(w, "  %s %-*s  %s\n", signs[f.Action], width, f.Step, intent(f))
	indent := strings.Repeat(" ", width+6)
	for _, line := range fold(f.Items, 100-len(indent)) {
		fmt.Fprintf(w, "%s%s\n", indent, line)
	}
	if f.Consent != "" {
		given := "not given"
		if f.Allowed {
			given = "given"
		}
		fmt.Fprintf(w, "%sneeds consent: %s (%s)\n", indent, f.Consent, given)
	}
	if (f.Action == setup.Blocked || f.Action == setup.Await || f.Action == setup.Wait) && f.Hint != "" {
		fmt.Fprintf(w, "%snext: %s\n", indent, next(f.Hint))
	}
}

// maxHave is how long the state of many things may be told in one line; a
// longer one is left to the items below it.
const maxHave = 60

// intent is what a step would do, in one line.
func intent(f setup.Finding) string {
	text := f.Want
	switch {
	case f.Action == setup.Blocked || f.Action == setup.Await && f.Code != "":
		text = strings.TrimSuffix(f.Code+": "+f.Have, ": ")
	case f.Have != "" && f.Want != "" && (len(f.Items) == 0 || len(f.Have) < maxHave):
		text = f.Have + " → " + f.Want
	case f.Want == "":
		text = f.Have
	}
	if f.After != "" {
		text = strings.TrimSpace(text + " (after " + f.After + ")")
	}
	if text == "" {
		text = f.Reason
	}
	return text
}

// writeNotes tells what people should know, what is the same of many tables or
// columns once.
func writeNotes(w io.Writer, plan []setup.Finding) {
	subjects := map[setup.Note][]string{} // by the note without its subject
	var order []setup.Note
	for _, f := range plan {
		for _, n := range f.Notes {
			subject := n.Subject
			n.Subject = ""
			if _, known := subjects[n]; !known {
				order = append(order, n)
			}
			subjects[n] = append(subjects[n], subject)
		}
	}
	if len(order) == 0 {
		return
	}
	fmt.Fprintf(w, "\nGood to know:\n")
	for _, n := range order {
		fmt.Fprintf(w, "  %s [%s]\n", n.Text, n.Code)
		for _, line := range fold(subjects[n], 100) {
			fmt.Fprintf(w, "      %s\n", line)
		}
	}
}

// fold joins words with commas into lines of at most width characters.
func fold(words []string, width int) []string {
	var lines []string
	for _, word := range words {
		last := len(lines) - 1
		switch {
		case word == "":
		case last < 0 || len(lines[last])+2+len(word) > width:
			lines = append(lines, word)
		default:
			lines[last] += ", " + word
		}
	}
	return lines
}
