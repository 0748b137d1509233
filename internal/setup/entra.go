package setup

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/uuid"
	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// entraDatabase is the only one that has the functions of Entra's roles.
const entraDatabase = "postgres"

// asEntra is a session of the server's Entra administrator that whoever is signed
// in to Azure is: nobody else makes roles of Entra's principals. The finding says
// why there is none.
func (c *Clients) asEntra(ctx context.Context, f *Facts) (*admin.Session, Finding, error) {
	if !f.Server.EntraSignIn {
		create := c.entraAdminCreate(claims{})
		return nil, blocked("EntraAdminMissing", "the server has no Entra administrator: sign-in by Entra is off", "pgmirror apply --until sign-in-modes && "+create), nil
	}
	all, err := c.Server.Administrators(ctx)
	if err != nil {
		return nil, Finding{}, err
	}
	token, err := c.postgresToken(ctx, f)
	if err != nil {
		return nil, Finding{}, err
	}
	who, _ := claimsOf(token)
	for _, a := range who.mayBe(all) {
		e := c.endpoint(f, a.Name, secret(token))
		e.Database = entraDatabase
		conn, err := alive(ctx, &c.sessions.entra, e)
		if admin.IsWrongPassword(err) { // no member of that group
			continue
		}
		if err != nil {
			return nil, Finding{}, fmt.Errorf("sign in as Entra administrator %s: %w", a.Name, err)
		}
		return admin.NewSession(conn, c.cut), Finding{}, nil
	}
	have := "the server has no Entra administrator"
	if len(all) > 0 {
		names := make([]string, len(all))
		for i, a := range all {
			names[i] = a.Name
		}
		have = cmp.Or(who.name(), "whoever is signed in") + " isn't one of the server's Entra administrators: " + strings.Join(names, ", ")
	}
	return nil, blocked("EntraAdminMissing", have, c.entraAdminCreate(who)), nil
}

// postgresToken is what signs in to PostgreSQL in place of a password.
func (c *Clients) postgresToken(ctx context.Context, f *Facts) (string, error) {
	cred, err := c.credential(c.Config.Tokens.Postgres, f.Host)
	if err != nil {
		return "", fmt.Errorf("postgres: %w", err)
	}
	t, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{azure.PostgresScope(c.Config.Cloud)}})
	return t.Token, err
}

// entraAdminCreate is how whoever may do so makes the one who is signed in an
// administrator.
func (c *Clients) entraAdminCreate(who claims) string {
	id, name, kind := `"$(az ad signed-in-user show --query id -o tsv)"`, `"$(az ad signed-in-user show --query userPrincipalName -o tsv)"`, "User"
	if _, err := uuid.Parse(who.OID); err == nil && who.name() != "" {
		id, name = who.OID, shellWord(who.name())
		if who.IDType == "app" {
			kind = "ServicePrincipal"
		}
	}
	return c.az("microsoft-entra-admin create", "--object-id", id, "--display-name", name, "--type", kind)
}

// claims are what a token says of whoever holds it. Nobody here proves them: they
// choose a name to try and a word to tell, and give no right.
type claims struct {
	OID     string   `json:"oid"`
	Groups  []string `json:"groups"` // often left out
	UPN     string   `json:"upn"`
	Unique  string   `json:"unique_name"`
	AppName string   `json:"app_displayname"`
	App     string   `json:"appid"`
	IDType  string   `json:"idtyp"` // app: no user
}

// claimsOf reads a token; ok is false when it says nothing that we can read.
func claimsOf(token string) (c claims, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(body, &c) != nil {
		return claims{}, false
	}
	return c, true
}

func (c claims) name() string { return cmp.Or(c.UPN, c.Unique, c.AppName, c.App) }

// mayBe are the administrators as whom the holder may be let in, the likeliest
// first: itself, the groups that the token names, the other groups.
func (c claims) mayBe(all []azure.Administrator) []azure.Administrator {
	rank := func(a azure.Administrator) int {
		switch {
		case strings.EqualFold(a.ObjectID, c.OID):
			return 0
		case slices.ContainsFunc(c.Groups, func(g string) bool { return strings.EqualFold(a.ObjectID, g) }):
			return 1
		case a.Type == "Group":
			return 2
		}
		return 3
	}
	out := slices.DeleteFunc(slices.Clone(all), func(a azure.Administrator) bool { return rank(a) == 3 })
	slices.SortStableFunc(out, func(a, b azure.Administrator) int { return rank(a) - rank(b) })
	return out
}
