package postgres_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
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
		ALTER DATABASE %[1]q SET extra_float_digits = 0; ALTER DATABASE %[1]q SET bytea_output = 'escape'; ALTER DATABASE %[1]q SET statement_timeout = 1000;
		ALTER DATABASE %[1]q SET search_path = 'other'; ALTER DATABASE %[1]q SET quote_all_identifiers = on`, e.Database))
	const show = `SELECT string_agg(current_setting(n), '|') FROM unnest('{datestyle,intervalstyle,timezone,extra_float_digits,bytea_output,statement_timeout,idle_session_timeout,application_name,client_encoding,search_path,quote_all_identifiers}'::text[]) n`
	const want = "ISO, MDY|iso_8601|UTC|3|hex|0|0|pgmirror|UTF8|public|off"
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

// authority makes a certificate authority, and a server's certificate by it for
// one name.
func authority(t *testing.T, name string) (ca, cert, key []byte) {
	t.Helper()
	sign := func(tmpl, parent *x509.Certificate, k *ecdsa.PrivateKey, by *ecdsa.PrivateKey) []byte {
		tmpl.NotAfter = time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, k.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rootKey, leafKey := newKey(), newKey()
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca = sign(root, root, rootKey, rootKey)
	cert = sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}, root, leafKey, rootKey)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return ca, cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// By default a server has to show a certificate for its name by an authority
// that is trusted; a stream works over it, also interrupted in the middle.
func TestTLS(t *testing.T) {
	ca, cert, key := authority(t, "localhost")
	c := localpgtest.Start(t, localpg.Options{CertPEM: cert, KeyPEM: key, HBA: []string{"hostnossl all all all reject"}, Settings: map[string]string{"wal_level": "logical"}})
	e := postgres.Endpoint{Host: "localhost", Port: c.Port, Database: "postgres", User: c.Superuser, Password: c.Password, RootCAs: ca}
	other, _, _ := authority(t, "localhost")
	for name, wrong := range map[string]func(*postgres.Endpoint){
		"an authority that isn't trusted": func(e *postgres.Endpoint) { e.RootCAs = nil },
		"another authority":               func(e *postgres.Endpoint) { e.RootCAs = other },
		"another name":                    func(e *postgres.Endpoint) { e.Host = "127.0.0.1" },
		"no TLS":                          func(e *postgres.Endpoint) { e.SSLMode = "disable" },
	} {
		bad := e
		wrong(&bad)
		if conn, err := bad.Connect(t.Context()); err == nil {
			conn.Close(t.Context())
			t.Errorf("%s: connected", name)
		}
	}
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE PUBLICATION p FOR TABLE a")
	newSlot(t, e, "tls")
	s := startStream(t, e, postgres.StreamOptions{Slot: "tls", Publications: []string{"p"}})
	run(t, e, "INSERT INTO a SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i")
	for rows, cut := 0, 0; rows < 20000; {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Microsecond)
		for err := error(nil); err == nil && rows < 20000; {
			var ev *postgres.Event
			if ev, err = s.Next(ctx); err == nil && ev.Kind == postgres.EventMessage && ev.Msg.Kind == pgoutput.Insert {
				rows++
			} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("after %d rows and %d interruptions: %v", rows, cut, err)
			}
		}
		cancel()
		cut++
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
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
