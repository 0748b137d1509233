package admin

import (
	"context"
	"fmt"
	"strings"
)

// Principal is a role that stands for somebody in Entra.
type Principal struct {
	Role     string
	ObjectID string // "" at creation: found by the role's name
	Type     string // user, group, service
	MFA      bool
}

// Principal reads whom a role stands for; ok is false when it is a plain role.
func (s *Session) Principal(ctx context.Context, role string) (p Principal, ok bool, err error) {
	labels, err := many[string](ctx, s, `SELECT l.label FROM pg_catalog.pg_shseclabel l JOIN pg_catalog.pg_roles r ON r.oid = l.objoid
		WHERE l.classoid = 'pg_authid'::regclass AND l.provider = 'pgaadauth' AND r.rolname = $1`, role)
	if err != nil {
		return Principal{}, false, fmt.Errorf("read the Entra principal of %s: %w", role, err)
	}
	if len(labels) == 0 {
		return Principal{}, false, nil
	}
	p.Role = role
	for part := range strings.SplitSeq(labels[0], ",") { // aadauth,oid=…,type=…[,mfa][,admin]
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch key {
		case "oid":
			p.ObjectID = value
		case "type":
			p.Type = value
		case "mfa":
			p.MFA = true
		}
	}
	return p, true, nil
}

// CreatePrincipal makes a role of an Entra principal. Only a session of an Entra
// administrator may, in the database postgres.
func CreatePrincipal(p Principal) Statement {
	what := "create Entra role " + p.Role
	if p.ObjectID == "" {
		return Statement{what, fmt.Sprintf("SELECT pg_catalog.pgaadauth_create_principal(%s, false, %t)", literal(p.Role), p.MFA)}
	}
	return Statement{what, fmt.Sprintf("SELECT pg_catalog.pgaadauth_create_principal_with_oid(%s, %s, %s, false, %t)", literal(p.Role), literal(p.ObjectID), literal(p.Type), p.MFA)}
}

// LetAct is what lets the session's user act for a role that somebody else makes:
// nothing before 16, where CREATEROLE is enough, nor where it may already. It is
// for another session to run, whatever this one is for.
func (s *Session) LetAct(ctx context.Context, role string, exists bool) ([]Statement, error) {
	self, err := s.Self(ctx)
	if err != nil || self.Version < 16 || self.Super {
		return nil, err
	}
	if exists {
		if can, err := NewSession(s.conn, s.cut).CanAct(ctx, role); err != nil || can {
			return nil, err
		}
	}
	return []Statement{{"let " + self.User + " act for " + role, "GRANT " + ident(role) + " TO " + ident(self.User) + " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"}}, nil
}

// LabelPrincipal makes an existing role stand for an Entra principal.
func LabelPrincipal(p Principal) Statement {
	label := "aadauth,oid=" + p.ObjectID + ",type=" + p.Type
	if p.MFA {
		label += ",mfa"
	}
	return Statement{"label Entra role " + p.Role, `SECURITY LABEL FOR "pgaadauth" ON ROLE ` + ident(p.Role) + " IS " + literal(label)}
}
