package emulator

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// entraAdministrator is one of the server's Microsoft Entra administrators: a role
// in PostgreSQL whose password is the token of whoever it is.
type entraAdministrator struct {
	Name   string `json:"principalName"`
	Type   string `json:"principalType"`
	Tenant string `json:"tenantId"`
}

var entraTypes = []string{"User", "Group", "ServicePrincipal", "Unknown"}

func (a *arm) listAdministrators(*call) (reply, error) {
	list := []any{}
	a.state.look(func(s *state) {
		for _, id := range slices.Sorted(maps.Keys(s.Server.Administrators)) {
			list = append(list, administratorBody(s, id))
		}
	})
	return reply{http.StatusOK, map[string]any{"value": list}}, nil
}

func (a *arm) getAdministrator(c *call) (reply, error) {
	var body map[string]any
	id := strings.ToLower(c.vars["id"])
	err := a.state.read(func(s *state) error {
		if _, ok := s.Server.Administrators[id]; !ok {
			return resourceNotFound(serverType+"/administrators", s.Server.Name+"/"+id, s.Group)
		}
		body = administratorBody(s, id)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

// putAdministrator wants sign-in by Entra to be on.
func (a *arm) putAdministrator(c *call) (reply, error) {
	var in struct {
		Properties entraAdministrator `json:"properties"`
	}
	if f := c.decode(&in, badRequest); f != nil {
		return reply{}, f
	}
	id, p := strings.ToLower(c.vars["id"]), in.Properties
	var path string
	err := a.state.read(func(s *state) error {
		path = serverID(s) + "/administrators/" + id
		p.Tenant = firstNonEmpty(p.Tenant, s.Tenant)
		_, err := uuid.Parse(id)
		switch {
		case err != nil:
			return invalidValue("objectId", id)
		case p.Name == "":
			return invalidValue("principalName", p.Name)
		case !slices.Contains(entraTypes, p.Type):
			return invalidValue("principalType", p.Type)
		case s.Server.EntraAuth != "Enabled":
			return faultf(http.StatusBadRequest, "OperationNotAllowed", "Microsoft Entra administrators need activeDirectoryAuth to be Enabled.")
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return a.begin(c, "Updating", path, func(ctx context.Context) error {
		if err := a.db.putAdministrator(ctx, a.state, id, p); err != nil {
			return err
		}
		return a.state.change(func(s *state) error {
			if s.Server.Administrators == nil {
				s.Server.Administrators = map[string]entraAdministrator{}
			}
			s.Server.Administrators[id] = p
			return nil
		})
	})
}

// putAdministrators gives every administrator the token that is good now.
func (c *cluster) putAdministrators(ctx context.Context, f *stateFile) error {
	var all map[string]entraAdministrator
	f.look(func(s *state) { all = maps.Clone(s.Server.Administrators) })
	for id, p := range all {
		if err := c.putAdministrator(ctx, f, id, p); err != nil {
			return err
		}
	}
	return nil
}

// putAdministrator makes an administrator's role. It signs in with the token that
// this emulator gives out, when that is its own or that of a member of its group.
func (c *cluster) putAdministrator(ctx context.Context, f *stateFile, id string, p entraAdministrator) error {
	var token string
	f.look(func(s *state) {
		if equalFold(id, s.User) || slices.ContainsFunc(s.World.Groups, func(g string) bool { return equalFold(g, id) }) {
			token = s.Tokens.value(audiencePostgres)
		}
	})
	return c.with(ctx, "postgres", func(conn *pgx.Conn) error {
		kind := map[string]string{"Group": "group", "ServicePrincipal": "service"}[p.Type]
		var made bool
		err := conn.QueryRow(ctx, `SELECT emulator_put_administrator($1, $2, $3, $4)`, p.Name, id, firstNonEmpty(kind, "user"), scramVerifier(token)).Scan(&made)
		if err == nil && !made {
			err = invalidValue("principalName", p.Name)
		}
		return err
	})
}

// scramVerifier is what PostgreSQL keeps of a password (RFC 5803), so that no
// statement holds it; "" of none.
func scramVerifier(password string) string {
	if password == "" {
		return ""
	}
	const iterations = 4096
	salt := make([]byte, 16)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		panic(err) // only for sizes that no hash has
	}
	sign := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(sign("Server Key")))
}

func (a *arm) deleteAdministrator(c *call) (reply, error) {
	id := strings.ToLower(c.vars["id"])
	var there bool
	var name string
	a.state.look(func(s *state) {
		p, ok := s.Server.Administrators[id]
		there, name = ok, p.Name
	})
	if !there {
		return reply{status: http.StatusNoContent}, nil
	}
	return a.begin(c, "Updating", "", func(ctx context.Context) error {
		err := a.db.with(ctx, "postgres", func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SELECT emulator_remove_administrator($1)`, name)
			return err
		})
		if err != nil {
			return err
		}
		return a.state.change(func(s *state) error {
			delete(s.Server.Administrators, id)
			return nil
		})
	})
}

func administratorBody(s *state, id string) map[string]any {
	p := s.Server.Administrators[id]
	return map[string]any{
		"id": serverID(s) + "/administrators/" + id, "name": id, "type": serverType + "/administrators",
		"properties": map[string]any{"objectId": id, "principalName": p.Name, "principalType": p.Type, "tenantId": p.Tenant},
	}
}
