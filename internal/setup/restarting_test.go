package setup

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
)

// restartingARM is one whose server is in the middle of a restart for some looks.
type restartingARM struct{ looks int }

func (r *restartingARM) RoundTrip(q *http.Request) (*http.Response, error) {
	state := "Restarting"
	if r.looks--; r.looks < 0 {
		state = "Ready"
	}
	body := fmt.Sprintf(`{"name": "pg", "sku": {"tier": "GeneralPurpose"}, "properties": {"administratorLogin": "pgadmin", "version": "17", "state": %q,
		"replicationRole": "Primary", "authConfig": {"passwordAuth": "Enabled"}, "highAvailability": {"mode": "Disabled"}}}`, state)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: q}, nil
}

// A server that has been told to restart still lets us in, and hangs up in the middle of
// a plan: nobody signs in before it is back.
func TestRestartIsAwaited(t *testing.T) {
	const arm = "https://127.0.0.1:1"
	cred, err := azure.Token("token", arm)
	if err != nil {
		t.Fatal(err)
	}
	r := &restartingARM{looks: 3}
	id := "/subscriptions/s/resourceGroups/g/providers/Microsoft.DBforPostgreSQL/flexibleServers/pg"
	server, err := azure.NewServer(id, azure.Options{Endpoint: arm, Credential: cred, HTTP: &http.Client{Transport: r}})
	if err != nil {
		t.Fatal(err)
	}
	c := &Clients{Config: &config.Config{Mode: config.Open}, Server: server}
	c.Config.Server.ID = id
	c.Config.Server.Host = "127.0.0.1"
	found, err := Plan(t.Context(), []Step{serverStep{c}, adminStep{c}}, &Facts{})
	if err != nil || found[1].Code != "AdminSecretMissing" || r.looks >= 0 {
		t.Errorf("got %+v, %v, with %d looks left in which it restarts", found, err, r.looks)
	}
}
