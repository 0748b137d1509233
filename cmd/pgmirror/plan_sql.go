package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/pgmirror/pgmirror/internal/setup"
)

// writeSQL writes what a DBA runs with psql instead of apply. It is one
// transaction a step, stops at the first error, and holds no password.
func writeSQL(ctx context.Context, w io.Writer, ses *session) error {
	parts, err := ses.clients.Script(ctx, ses.steps, &ses.facts, ses.plan)
	if err != nil {
		return setupFailure(err)
	}
	var b strings.Builder
	c := ses.cfg
	fmt.Fprintf(&b, "-- %s (%s): run it as a superuser or the tables' owner, then: pgmirror plan\n", c.MirrorName(), c.Mode)
	fmt.Fprintf(&b, "--   psql -h %s -p %d -d %s -f FILE\n", ses.facts.Host, c.Server.Port, c.Server.Database)
	fmt.Fprintf(&b, "\\set ON_ERROR_STOP on\n")
	if usesPassword(parts) {
		fmt.Fprintf(&b, "-- The role's password, or better its SCRAM verifier, is read from the environment\n")
		fmt.Fprintf(&b, "-- variable ROLE_PASSWORD: it is what the vault's secret %s holds.\n", c.Role.Secret)
		fmt.Fprintf(&b, "\\getenv role_password ROLE_PASSWORD\n")
	}
	for _, p := range parts {
		if p.As != "" && len(p.Statements) > 0 {
			writeApart(&b, ses, p)
		}
	}
	for _, p := range parts {
		if p.As == "" {
			writePart(&b, p)
		}
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// writeApart writes a part that another session has to run first, in another
// database. Neither session runs what is the other's.
func writeApart(b *strings.Builder, ses *session, p setup.Part) {
	c := ses.cfg
	fmt.Fprintf(b, "\n-- %s: has to be run first, in a session of %s, in the database %s:\n", p.Finding.Step, p.As, p.Database)
	fmt.Fprintf(b, "--   export PGPASSWORD=\"$(az account get-access-token --resource-type oss-rdbms --query accessToken -o tsv)\"\n")
	fmt.Fprintf(b, "--   psql -h %s -p %d -d %s -U ADMINISTRATOR -v %s=1 -f FILE\n", ses.facts.Host, c.Server.Port, p.Database, p.Finding.Step)
	fmt.Fprintf(b, "\\if :{?%s}\n", p.Finding.Step)
	writeStatements(b, p)
	fmt.Fprintf(b, "\\quit\n\\endif\n")
}

func writePart(b *strings.Builder, p setup.Part) {
	if !p.SQL {
		fmt.Fprintf(b, "\n-- %s: not SQL, left to pgmirror apply: %s\n", p.Finding.Step, oneLine(intent(p.Finding)))
		return
	}
	fmt.Fprintf(b, "\n-- %s\n", p.Finding.Step)
	if len(p.Statements) == 0 {
		fmt.Fprintf(b, "-- nothing to run\n")
		return
	}
	writeStatements(b, p)
}

func writeStatements(b *strings.Builder, p setup.Part) {
	fmt.Fprintf(b, "BEGIN;\n")
	for _, st := range p.Statements {
		fmt.Fprintf(b, "%s;\n", st.SQL)
	}
	fmt.Fprintf(b, "COMMIT;\n")
}

// oneLine keeps a text within one comment.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func usesPassword(parts []setup.Part) bool {
	for _, p := range parts {
		for _, st := range p.Statements {
			if strings.Contains(st.SQL, ":'role_password'") {
				return true
			}
		}
	}
	return false
}
