package setup

import (
	"context"
	"strings"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// checkEntra is the role of an Entra principal. Nobody of ours can sign in as it;
// that its connection works is Fabric's to prove.
func (s roleStep) checkEntra(ctx context.Context, f *Facts, session *admin.Session) (Finding, error) {
	found, err := s.principal(ctx, f, session)
	if err != nil || found.Action != Create && found.Action != Update {
		return found, err
	}
	if _, nobody, err := s.asEntra(ctx, f); err != nil || nobody.Action != "" {
		return nobody, err
	}
	return found, nil
}

func (s roleStep) principal(ctx context.Context, f *Facts, session *admin.Session) (Finding, error) {
	want := s.wanted()
	have, exists, err := session.Role(ctx, want.Name)
	if err != nil {
		return Finding{}, err
	}
	f.RoleExists = exists
	missing := have.Missing(want)
	p, labelled, err := session.Principal(ctx, want.Name)
	if err != nil {
		return Finding{}, err
	}
	let, err := session.LetAct(ctx, want.Name, exists)
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
	case len(let) > 0:
		return Finding{Action: Update, Reason: "AdminOptionMissing", Have: s.Config.Admin.User + " may not act for " + want.Name, Want: let[0].What}, nil
	}
	return asWanted(want.Name + " of Entra object " + p.ObjectID), nil
}

// applyEntra works in a session of an Entra administrator: it makes the role, and
// lets pgmirror's administrator do the rest.
func (s roleStep) applyEntra(ctx context.Context, f *Facts) error {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	todo, err := s.entraStatements(ctx, session)
	if err != nil {
		return err
	}
	entra, nobody, err := s.asEntra(ctx, f)
	if err != nil {
		return err
	}
	if nobody.Action != "" {
		nobody.Step = s.Name()
		return &BlockedError{[]Finding{nobody}}
	}
	return entra.Run(ctx, todo...)
}

// elsewhere: what Script gives for an Entra role is nothing for a DBA's session.
func (s roleStep) elsewhere() (as, database string) {
	if s.Config.Role.SignIn != "entra" {
		return "", ""
	}
	return "an Entra administrator of the server", entraDatabase
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
		out = append(out, admin.CreatePrincipal(principal), admin.MarkRole(want.Name))
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
	let, err := session.LetAct(ctx, want.Name, exists)
	return append(out, let...), err
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
