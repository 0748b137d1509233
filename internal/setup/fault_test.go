package setup_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// TestFaults: each fault gives one coded finding with the next command to type,
// apply refuses, and nothing is changed.
func TestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret(t, "wrong-password", "not the one")
	before := w.end(t)
	for _, tt := range []struct {
		name, file string
		env        []string
		step, code string
	}{
		{"wrong password", "admin: {secret: wrong-password}\n" + nativeFile, nil, "admin-login", "AdminPasswordWrong"},
		{"no secret", "admin: {secret: no-such-secret}\n" + nativeFile, nil, "admin-login", "AdminSecretMissing"},
		{"unreachable", nativeFile, []string{"POSTGRES_PORT=1"}, "admin-login", "ServerUnreachable"},
		{"no database", nativeFile, []string{"POSTGRES_DATABASE_NAME=nowhere"}, "admin-login", "DatabaseNotFound"},
		{"no workspace", nativeFile, []string{"FABRIC_WORKSPACE_ID=11111111-2222-3333-4444-555555555555"}, "workspace", "WorkspaceNotFound"},
		{"no server", nativeFile, []string{"POSTGRES_SERVER_ID=" + w.serverID() + "x"}, "server", "ServerNotFound"},
		{"somebody else's table", strings.Replace(nativeFile, "restart, change-owner", "restart", 1), nil, "ownership", "TableNotOwned"},
		{"no table", strings.Replace(nativeFile, "public.loose", "public.lost", 1), nil, "tables", "TableNotFound"},
		{"only refused tables", "mirror: {tables: [public.events]}\nallow: [restart, change-owner]\n", nil, "tables", "TableRefused"},
		{"no connection", "connection: {id: 11111111-2222-3333-4444-555555555555}\n" + nativeFile, nil, "connection", "ConnectionNotFound"},
		{"manual connection", "connection: {manual: true}\n" + nativeFile, nil, "connection", "ConnectionManual"},
		{"open, unreachable", openFile + "allow: [restart]\n", []string{"POSTGRES_PORT=1"}, "admin-login", "ServerUnreachable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := w.config(t, tt.file, tt.env...)
			coded := slices.DeleteFunc(plan(t, cfg), func(f setup.Finding) bool { return f.Code == "" || f.Allowed })
			if len(coded) != 1 || coded[0].Step != tt.step || coded[0].Code != tt.code || coded[0].Hint == "" {
				t.Errorf("got coded findings %+v, want one: %s of step %s, with a hint", coded, tt.code, tt.step)
			}
			if _, ok := setup.Explain(tt.code); !ok {
				t.Errorf("no explanation of %s", tt.code)
			}
			r := &run{}
			err := r.apply(t, cfg)
			var blocked *setup.BlockedError
			var consent *setup.ConsentError
			if !errors.As(err, &blocked) && !errors.As(err, &consent) {
				t.Errorf("apply: got %v, want a refusal", err)
			}
			if len(r.writes) > 0 {
				t.Errorf("apply wrote %q", r.writes)
			}
			if strings.Contains(fmt.Sprintf("%v %+v", err, coded), "not the one") {
				t.Error("a password is in a finding")
			}
		})
	}
	if diff := cmp.Diff(before, w.end(t)); diff != "" {
		t.Errorf("the database changed:\n%s", diff)
	}
}

// TestRestartNeedsConsent: the plan names the consent, apply asks before anything
// is written.
func TestRestartNeedsConsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, openFile)
	if f := find(t, plan(t, cfg), "restart"); f.Action != setup.Restart || f.Consent != config.Restart || f.Allowed {
		t.Errorf("got %+v", f)
	}
	r := &run{}
	var consent *setup.ConsentError
	if err := r.apply(t, cfg); !errors.As(err, &consent) || !slices.Equal(consent.Missing(), []string{config.Restart}) || len(r.writes) > 0 {
		t.Errorf("got %v and writes %q, want a refusal for want of consent to restart", err, r.writes)
	}
}

// secret writes a secret into the vault.
func (w *world) secret(t *testing.T, name, value string) {
	t.Helper()
	c, err := setup.NewClients(t.Context(), w.config(t, nativeFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Vault.SetSecret(t.Context(), name, value); err != nil {
		t.Fatal(err)
	}
}

func (w *world) serverID() string {
	for _, kv := range w.env {
		if id, ok := strings.CutPrefix(kv, "POSTGRES_SERVER_ID="); ok {
			return id
		}
	}
	return ""
}
