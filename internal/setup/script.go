package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// Part is what one step would run in SQL. A step that has nothing to say in SQL
// has no statements: it is done elsewhere.
type Part struct {
	Finding    Finding
	SQL        bool // the step works in SQL
	Statements []admin.Statement

	As, Database string // who has to run them, and where; "": a DBA, in the mirrored database
}

// scripter is a step that works in SQL.
type scripter interface {
	Script(context.Context, *Facts) ([]admin.Statement, error)
}

// runScript runs as the administrator what a step's Script says.
func (c *Clients) runScript(ctx context.Context, f *Facts, s scripter) error {
	statements, err := s.Script(ctx, f)
	if err != nil {
		return err
	}
	session, err := c.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	return session.Run(ctx, statements...)
}

// Script is what a DBA would run instead of apply, after Plan has filled facts.
// It reads only, and presumes a DBA with the rights: nobody is made a member of
// anything. It fails when the database can't be looked into.
func (c *Clients) Script(ctx context.Context, steps []Step, facts *Facts, plan []Finding) ([]Part, error) {
	c.script = true
	defer func() { c.script = false }()
	var parts []Part
	for i, f := range plan {
		if f.Action == None {
			continue
		}
		p := Part{Finding: f}
		if s, ok := steps[i].(scripter); ok {
			p.SQL = true
			if s, ok := s.(interface{ elsewhere() (as, database string) }); ok {
				p.As, p.Database = s.elsewhere()
			}
			var err error
			if p.Statements, err = s.Script(ctx, facts); err != nil {
				return nil, &StepError{f.Step, "script", err}
			}
		}
		parts = append(parts, p)
	}
	return parts, nil
}
