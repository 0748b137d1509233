package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDemo is the whole walk: it ends by itself, with every proof passed.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the demo takes a minute")
	}
	if raceDetector {
		t.Skip("the demo measures, and the race detector makes it ten times slower: .ci/run runs it without")
	}
	dir := t.TempDir()
	var out, told bytes.Buffer
	args := []string{"demo", "--dir", filepath.Join(dir, "demo"), "--export", filepath.Join(dir, "export"), "--trade", "1s"}
	if code := execute(context.Background(), args, streams{In: strings.NewReader(""), Out: &out, Err: &told}); code != 0 {
		t.Fatalf("exit code %d:\n%s\n%s", code, told.String(), out.String())
	}
	for _, want := range []string{
		`Plan for pg-mirror-shop \(native\): nothing to do`,
		`public.products\b`,
		`public.orders +Replicating`,
		`public.orders +[0-9,]+ rows +equal`,
		`changed: id=4711  differs in email`,
	} {
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("the output has no %q", want)
		}
	}
	if want := "Nothing was written: pg-mirror-shop is as wanted"; !strings.Contains(told.String(), want) {
		t.Errorf("stderr has no %q", want)
	}
	if strings.Contains(out.String()+told.String(), shopPassword) {
		t.Error("a password was shown")
	}
	if _, err := os.Stat(filepath.Join(dir, "export", "tables.json")); err != nil {
		t.Error(err)
	}
}

func TestDemoDirMustBeEmpty(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	if code := execute(context.Background(), []string{"demo", "--dir", dir}, streams{Out: &told, Err: &told}); code != 1 || !strings.Contains(told.String(), "error[DirNotEmpty]") {
		t.Errorf("exit code %d, said %q", code, told.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "mine")); err != nil {
		t.Errorf("what was there was touched: %v", err)
	}
}
