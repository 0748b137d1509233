package setup

import (
	"context"
	"strings"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// checkEntra is the role of an Entra principal. Nobody of ours can sign in as it;
// that its connection works is Fabric's to prove.
func (s roleStep) checkEntra(ctx context.Context, f *Facts, session *admin.Session) (Finding, error) {
	want := s.wanted()
	have, exists, err := session.Role(ctx, want.Name)
	if err != nil {
		return Finding{}, err
	}
	f.RoleExists = exists
	missing := have.Missing(want)
	p, labelled, err := session.Principal(ctx, want.Name)
	switch {
	case err != nil:
		return Finding{}, err
	case !exists:
		return Finding{Action: Create, Reason: "RoleMissing", Have: "none", Want: want.Name + " of an Entra " + s.Config.Role.Entra.Type}, nil
	case !labelled && s.Config.Role.Entra.ObjectID == "":
		return blocked("RoleNotEntra", want.Name+" exists as a plain role, and no object id says whose it should be", "pgmirror plan --set role.name="+want.Name+"_entra"), nil
	case !labelled:
		return Finding{Action: Update, Reason: "PrincipalMissing", Have: want.Name + " is a plain role", Want: "of Entra object " + s.Config.Role.Entra.ObjectID}, nil
	case s.Config.Role.Entra.ObjectID != "" && !strings.EqualFold(p.ObjectID, s.Config.Role.Entra.ObjectID):
		return blocked("RoleNotEntra", want.Name+" stands for Entra object "+p.ObjectID, "pgmirror plan --set role.entra.objectId="+p.ObjectID), nil
	case len(missing) > 0:
		return Finding{Action: Update, Reason: "AttributesMissing", Have: want.Name, Want: want.Name + " " + strings.Join(missing, " ")}, nil
	}
	return asWanted(want.Name + " of Entra object " + p.ObjectID), nil
}

// entraStatements are what checkEntra found to be missing.
func (s roleStep) entraStatements(ctx context.Context, session *admin.Session) ([]admin.Statement, error) {
	want := s.wanted()
	e := s.Config.Role.Entra
	principal := admin.Principal{Role: want.Name, ObjectID: e.ObjectID, Type: e.Type, MFA: e.MFA}
	have, exists, err := session.Role(ctx, want.Name)
	if err != nil {
		return nil, err
	}
	var out []admin.Statement
	if !exists {
		out = append(out, admin.CreatePrincipal(principal))
	} else if _, labelled, err := session.Principal(ctx, want.Name); err != nil {
		return nil, err
	} else if !labelled {
		out = append(out, admin.LabelPrincipal(principal))
	}
	if missing := have.Missing(want); len(missing) > 0 {
		if !exists {
			missing = without(missing, "LOGIN") // a principal's role has it
		}
		out = append(out, admin.AddAttributes(want.Name, missing))
	}
	return out, nil
}

func without(list []string, drop string) []string {
	var out []string
	for _, s := range list {
		if s != drop {
			out = append(out, s)
		}
	}
	return out
}
