package setup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
)

// Saved is a plan in a file: what was shown, for which configuration, with which
// consents. It holds no secret.
type Saved struct {
	Mirror   string    `json:"mirror"`
	Config   string    `json:"config"` // what the configuration said, as a digest
	Allow    []string  `json:"allow"`
	Findings []Finding `json:"findings"`
}

// SavedPlans is the file: one plan a database.
type SavedPlans struct {
	Format string  `json:"format"` // "pgmirror plan"
	V      int     `json:"v"`
	Until  string  `json:"until,omitempty"`
	Plans  []Saved `json:"plans"`
}

const (
	savedFormat  = "pgmirror plan"
	savedVersion = 1
)

// NewSavedPlans begins a file.
func NewSavedPlans(until string) *SavedPlans {
	return &SavedPlans{Format: savedFormat, V: savedVersion, Until: until}
}

// Add takes a plan in.
func (p *SavedPlans) Add(c *config.Config, plan []Finding) {
	p.Plans = append(p.Plans, Saved{c.MirrorName(), digest(c), slices.Clone(c.Allow), plan})
}

// ReadSavedPlans reads a file; it refuses versions that it doesn't know.
func ReadSavedPlans(data []byte) (*SavedPlans, error) {
	var p SavedPlans
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	if p.Format != savedFormat {
		return nil, errors.New("read the plan: this is no plan of pgmirror's")
	}
	if p.V != savedVersion {
		return nil, fmt.Errorf("read the plan: it has version %d, and this program knows %d", p.V, savedVersion)
	}
	return &p, nil
}

// StaleError says that a saved plan isn't what would be done now.
type StaleError struct{ What string }

func (e *StaleError) Error() string { return "the saved plan is stale: " + e.What }

// SameConfig refuses a configuration other than the plan was made for.
func (s Saved) SameConfig(c *config.Config) error {
	if s.Mirror != c.MirrorName() {
		return &StaleError{fmt.Sprintf("it is for %s, not for %s", s.Mirror, c.MirrorName())}
	}
	if s.Config != digest(c) {
		return &StaleError{"the configuration has changed"}
	}
	return nil
}

// SameWorld refuses a world that has moved since the plan was made, also where
// less is to be done now: who approved it saw something else.
func (s Saved) SameWorld(now []Finding) error {
	if len(s.Findings) != len(now) {
		return &StaleError{"it has other steps"}
	}
	for i, f := range s.Findings {
		if a, b := essence(f), essence(now[i]); !reflect.DeepEqual(a, b) {
			return &StaleError{fmt.Sprintf("%s was %s (%s), now it is %s (%s)", f.Step, f.Action, f.Reason, now[i].Action, now[i].Reason)}
		}
	}
	return nil
}

// essence is what of a finding has to stay as it was: not the words for a state
// that needs nothing, such as a number of rows.
func essence(f Finding) Finding {
	f.passing, f.unready, f.Allowed, f.Hint = false, "", false, ""
	if f.Action == None || f.Action == Wait {
		f.Have = ""
	}
	if len(f.Items) == 0 {
		f.Items = nil
	}
	f.Notes = slices.DeleteFunc(slices.Clone(f.Notes), func(n Note) bool { return n.Code == snapshotSize || n.Code == freeStorage })
	if len(f.Notes) == 0 {
		f.Notes = nil
	}
	return f
}

// digest is of every value, with its path; secrets are masked in it, and consents
// stand beside it.
func digest(c *config.Config) string {
	var lines []string
	for _, v := range c.Explain() {
		if v.Path != "allow" && !strings.HasPrefix(v.Path, "tokens.") {
			lines = append(lines, v.Path+"="+v.Value)
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:])
}
