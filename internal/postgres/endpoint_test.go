package postgres_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

const secret = "s3cr3t'%"

// No form of an endpoint and no error shows the password.
func TestNoPasswordAnywhere(t *testing.T) {
	e := postgres.Endpoint{Host: "127.0.0.1", Port: 1, Database: "d", User: "u", Password: secret, SSLMode: "disable"}
	_, err := e.Connect(t.Context())
	if err == nil {
		t.Fatal("somebody listens on port 1")
	}
	_, err2 := e.ConnectReplication(t.Context())
	data, err3 := json.Marshal(e)
	if err3 != nil {
		t.Fatal(err3)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "endpoint", e)
	for _, s := range []string{e.String(), fmt.Sprintf("%v %+v %#v %s", e, e, &e, e), err.Error(), err2.Error(), string(data), log.String()} {
		if strings.Contains(s, "s3cr3t") {
			t.Errorf("the password is in %q", s)
		}
	}
	if got, want := e.String(), "u at 127.0.0.1:1/d"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWrongPassword(t *testing.T) {
	e := database(t, "")
	e.Password = secret
	_, err := e.Connect(t.Context())
	if err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("got %v", err)
	}
}

func TestEndpointRefuses(t *testing.T) {
	for name, e := range map[string]postgres.Endpoint{
		"plain text to a far host": {Host: "db.example.com", Database: "d", User: "u", SSLMode: "disable"},
		"a mode that checks less":  {Host: "db.example.com", Database: "d", User: "u", SSLMode: "require"},
		"no host":                  {Database: "d", User: "u"},
		"no database":              {Host: "h", User: "u"},
		"a port that can't be":     {Host: "h", Port: 70000, Database: "d", User: "u"},
		"roots that aren't PEM":    {Host: "h", Database: "d", User: "u", RootCAs: []byte("x")},
	} {
		if _, err := e.Connect(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "connection: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Settings that decide how values look don't come from the role or database.
func TestPinnedSettings(t *testing.T) {
	e := database(t, "")
	run(t, e, fmt.Sprintf(`ALTER DATABASE %[1]q SET datestyle = 'German'; ALTER DATABASE %[1]q SET intervalstyle = 'sql_standard'; ALTER DATABASE %[1]q SET timezone = 'Asia/Kolkata';
		ALTER DATABASE %[1]q SET extra_float_digits = 0; ALTER DATABASE %[1]q SET bytea_output = 'escape'; ALTER DATABASE %[1]q SET statement_timeout = 1000`, e.Database))
	const show = `SELECT string_agg(current_setting(n), '|') FROM unnest('{datestyle,intervalstyle,timezone,extra_float_digits,bytea_output,statement_timeout,idle_session_timeout,application_name,client_encoding}'::text[]) n`
	const want = "ISO, MDY|iso_8601|UTC|3|hex|0|0|pgmirror|UTF8"
	var got string
	if err := connect(t, e).QueryRow(t.Context(), show).Scan(&got); err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
	repl, err := e.ConnectReplication(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer repl.Close(t.Context())
	results, err := repl.Exec(t.Context(), show).ReadAll()
	if err != nil || string(results[0].Rows[0][0]) != want {
		t.Errorf("replication: got %v, %v", results, err)
	}
}

func TestSocket(t *testing.T) {
	c := cluster(t)
	if c.Socket == "" {
		t.Skip("no unix socket here")
	}
	e := postgres.Endpoint{Host: c.Socket, Port: c.Port, Database: "postgres", User: c.Superuser, Password: c.Password}
	run(t, e, "SELECT 1")
}

func TestLSN(t *testing.T) {
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"} {
		if l, err := postgres.ParseLSN(s); err != nil || l.String() != s {
			t.Errorf("%s: got %s, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "1", "/", "1/", "1/2/3", "100000000/0", "x/1", "-1/1"} {
		if l, err := postgres.ParseLSN(s); err == nil {
			t.Errorf("%q is taken for %s", s, l)
		}
	}
}
