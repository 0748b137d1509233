package main

import (
	"context"
	"encoding/json"
	"os"
	"slices"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// planned are the sessions of all databases of a configuration, looked at.
type planned []*session

// planAll looks at every database. Close what it gives.
func planAll(ctx context.Context, s streams, cfg *config.Config, how looking) (planned, error) {
	var all planned
	for _, one := range cfg.Each() {
		ses, err := openSession(ctx, s, one, how)
		if err != nil {
			all.close(ctx)
			return nil, err
		}
		all = append(all, ses)
	}
	return all, nil
}

func (p planned) close(ctx context.Context) {
	for _, ses := range p {
		ses.close(ctx)
	}
}

// findings are all plans in one list.
func (p planned) findings() []setup.Finding {
	var out []setup.Finding
	for _, ses := range p {
		out = append(out, ses.plan...)
	}
	return out
}

// save writes the plans to a file, for apply FILE.
func (p planned) save(path, until string) error {
	file := setup.NewSavedPlans(until)
	for _, ses := range p {
		file.Add(ses.cfg, ses.plan)
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	return writeSecret(path, string(text)+"\n")
}

// same refuses a file that is for something else, or for a world that has moved.
func (p planned) same(file *setup.SavedPlans) error {
	if len(file.Plans) != len(p) {
		return &setup.StaleError{What: "it is for other databases"}
	}
	for i, ses := range p {
		if err := file.Plans[i].SameConfig(ses.cfg); err != nil {
			return err
		}
		if err := file.Plans[i].SameWorld(ses.plan); err != nil {
			return err
		}
	}
	return nil
}

// readPlan reads a plan file, and the consents that it was made with.
func readPlan(path string) (file *setup.SavedPlans, allow []string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, &failure{Exit: exitError, Code: "PlanUnreadable", Err: err, Next: setup.ShellLine("pgmirror", "plan", "--out", path)}
	}
	if file, err = setup.ReadSavedPlans(data); err != nil {
		return nil, nil, &failure{Exit: exitError, Code: "PlanUnreadable", Err: err, Next: setup.ShellLine("pgmirror", "plan", "--out", path)}
	}
	for _, p := range file.Plans {
		allow = append(allow, p.Allow...)
	}
	slices.Sort(allow)
	return file, slices.Compact(allow), nil
}
