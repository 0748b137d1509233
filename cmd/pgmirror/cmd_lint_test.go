package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// A code means one thing, whichever command says it.
func TestLintCodesAreNoOthers(t *testing.T) {
	for _, r := range landing.Rules() {
		if x, ok := setup.Explain(r.Code); ok && x.Sentence != r.Sentence {
			t.Errorf("%s is a code of set-up as well", r.Code)
		}
	}
}

func TestLint(t *testing.T) {
	zone := t.TempDir()
	put := func(name, body string) {
		t.Helper()
		name = filepath.Join(zone, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("_partnerEvents.json", `{"partnerName":"p","sourceInfo":{"sourceType":"PostgreSQL"}}`)
	lint := func(wantExit int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		got := execute(t.Context(), append([]string{"lint", zone}, args...), streams{Out: &out, Err: &errs})
		if got != wantExit {
			t.Fatalf("lint %v: exit %d, want %d\n%s%s", args, got, wantExit, &out, &errs)
		}
		return out.String(), errs.String()
	}
	if out, _ := lint(0); out != "  0 tables, 0 files, 0 rows: 0 errors, 0 warnings\n" {
		t.Errorf("of a sound zone it says %q", out)
	}

	if got := execute(t.Context(), []string{"lint", zone}, streams{Out: full{}, Err: &bytes.Buffer{}}); got != int(exitError) {
		t.Errorf("with a full disk behind stdout: exit %d", got)
	}

	put("public.schema/orders/_metadata.json", `{"keyColumns":["id"],"isUpsertDefaultMode":true}`)
	put("public.schema/orders/00000000000000000001.parquet", "")
	out, errs := lint(5)
	for _, want := range []string{"x FileEmpty              public.schema/orders/00000000000000000001.parquet\n", "UpsertNameWrong", "isUpsertDefaultRowMarker", "2 errors, 0 warnings"} {
		if !strings.Contains(out, want) {
			t.Errorf("it says\n%s\nwant %q", out, want)
		}
	}
	if !strings.Contains(errs, "error[LandingZoneFaulty]") {
		t.Errorf("stderr is %q", errs)
	}

	out, _ = lint(5, "--json")
	var types []string
	for line := range strings.Lines(out) {
		var v struct{ Type, Code, Remedy string }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		types = append(types, v.Type+" "+v.Code)
		if v.Type == "finding" && v.Remedy == "" {
			t.Errorf("%s comes without a remedy", v.Code)
		}
	}
	if got, want := strings.Join(types, ", "), "header , finding UpsertNameWrong, finding FileEmpty, summary "; got != want {
		t.Errorf("lines are %q, want %q", got, want)
	}

	lint(0, "--ignore", "FileEmpty,UpsertNameWrong")
	if _, errs := lint(1, "--ignore", "Nonsense"); !strings.Contains(errs, "Nonsense") {
		t.Errorf("stderr is %q", errs)
	}
	zone = filepath.Join(zone, "nowhere")
	lint(1)
}

// full is a disk that takes nothing more.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
