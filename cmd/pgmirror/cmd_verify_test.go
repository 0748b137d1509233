package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/setup"
	"github.com/pgmirror/pgmirror/internal/verify"
)

func TestVerifyFlags(t *testing.T) {
	for _, args := range []string{"--settle -1s", "--workers 0", "--memory 0", "--resume"} {
		var errs bytes.Buffer
		got := execute(t.Context(), append([]string{"verify"}, strings.Fields(args)...), streams{Out: &bytes.Buffer{}, Err: &errs})
		if got != int(exitError) || !strings.Contains(errs.String(), "error[UsageInvalid]") {
			t.Errorf("%s: exit %d, %q", args, got, &errs)
		}
	}
}

func TestWhatToTypeAfterVerify(t *testing.T) {
	o := verifyOptions{receipt: "my receipt.json", tables: []string{"public.orders", "Odd; name"}}
	open, native := &config.Config{Mode: config.Open}, &config.Config{Mode: config.Native}
	for _, tt := range []struct{ got, want string }{
		{o.again("--resume", "--receipt", o.receipt), "pgmirror verify --resume --receipt 'my receipt.json' public.orders 'Odd; name'"},
		{o.mendBy(open, nil), "pgmirror verify --repair public.orders 'Odd; name'"},
		{verifyOptions{repairs: true}.mendBy(open, []string{"public.orders", "public.Odd; name"}), "pgmirror tables resync public.orders 'public.Odd; name'"},
		{o.mendBy(native, nil), "pgmirror status"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

// Partitions of a table that can't be mirrored needn't be there.
func TestWantedOfVerify(t *testing.T) {
	ses := &session{facts: setup.Facts{
		Picked: []postgres.Table{{Schema: "public", Name: "events"}},
		Within: map[string]string{"public.events_1": "public.events", "public.broken_1": "public.broken"},
	}}
	for name, want := range map[string]bool{"events": true, "events_1": true, "named": true, "other": false, "broken_1": false} {
		if got := (verifyOptions{tables: []string{"named"}}).wanted(ses)(verify.TableResult{Schema: "public", Name: name}); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// Rows that could not be mended still differ, for the exit code as well.
func TestOutcomeOfVerify(t *testing.T) {
	differ := fail(exitMismatch, "RowsDiffer", "pgmirror tables resync TABLE", "public.a: the mirror differs from its source")
	late := fail(exitTimeout, "TimedOut", "", "not within 2m")
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name              string
		ctx               context.Context
		verdict, unmended error
		exit              exitCode
		text              string
	}{
		{"differs", t.Context(), differ, nil, exitMismatch, "public.a: the mirror differs from its source"},
		{"not mended", t.Context(), differ, late, exitMismatch, "public.a: the mirror differs from its source; not repaired: not within 2m"},
		{"stopped", stopped, differ, context.Canceled, exitInterrupted, "stopped as asked"},
		{"mended, and not looked at to the end", t.Context(), nil, late, exitTimeout, "not within 2m"},
	} {
		f := asFailure(tt.ctx, "verify", outcome(tt.ctx, tt.verdict, tt.unmended))
		if f.Exit != tt.exit || f.Error() != tt.text {
			t.Errorf("%s: got exit %d, %s, want %d, %s", tt.name, f.Exit, f, tt.exit, tt.text)
		}
	}
	if err := outcome(t.Context(), nil, nil); err != nil {
		t.Errorf("all is well: got %v", err)
	}
}

// A receipt that can't be written is told before anything is compared.
func TestReceiptUnwritable(t *testing.T) {
	for _, name := range []string{t.TempDir(), filepath.Join(t.TempDir(), "nowhere", "receipt.json")} {
		var errs bytes.Buffer
		got := execute(t.Context(), []string{"verify", "--receipt", name}, streams{Out: &bytes.Buffer{}, Err: &errs})
		if got != int(exitError) || !strings.Contains(errs.String(), "error[ReceiptUnwritable]") {
			t.Errorf("%s: exit %d, %q", name, got, &errs)
		}
	}
}

func TestReceiptFile(t *testing.T) {
	dir := t.TempDir()
	o := verifyOptions{receipt: filepath.Join(dir, "receipt.json"), resume: true}
	if r, err := o.former(); r != nil || err != nil {
		t.Errorf("without a file: %v, %v", r, err)
	}
	for _, source := range []string{"one", "two"} { // the second takes the first one's place
		if err := o.writeReceipt(&verify.Receipt{Format: verify.ReceiptFormat, Source: source, Started: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if r, err := o.former(); err != nil || r.Source != source || !r.Finished.IsZero() {
			t.Errorf("got %+v, %v, want the receipt of %s", r, err, source)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v, want the receipt alone", left, err)
	}
	if err := os.WriteFile(o.receipt, []byte(`{"format":99}`), 0o644); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	got := execute(t.Context(), []string{"verify", "--resume", "--receipt", o.receipt}, streams{Out: &bytes.Buffer{}, Err: &errs})
	if got != int(exitError) || !strings.Contains(errs.String(), "error[ReceiptUnusable]") || !strings.Contains(errs.String(), "format 99") {
		t.Errorf("a receipt of another format: exit %d, %q", got, &errs)
	}
	o.resume = false
	if r, err := o.former(); r != nil || err != nil {
		t.Errorf("without --resume the file is not read: %v, %v", r, err)
	}
}
