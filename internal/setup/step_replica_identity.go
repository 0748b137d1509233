package setup

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// replicaIdentityStep tells which tables have no key, and by consent takes a
// unique index as one. FULL is never set: it makes every update dearer.
type replicaIdentityStep struct{ *Clients }

func (replicaIdentityStep) Name() string { return "replica-identity" }

func (s replicaIdentityStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	offers, notes, err := s.offers(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	if len(offers) == 0 || !s.Config.Allows(config.ReplicaIdentity) {
		found := asWanted("tables without a key: " + or(subjects(notes), "none"))
		found.Notes = notes
		return found, nil
	}
	return Finding{Action: Update, Reason: "IdentityMissing", Have: subjects(notes), Want: whats(offers), Notes: notes,
		Consent: config.ReplicaIdentity, Allowed: true}, nil
}

func (s replicaIdentityStep) Apply(ctx context.Context, f *Facts) error {
	return s.runScript(ctx, f, s)
}

// Script is what Apply runs.
func (s replicaIdentityStep) Script(ctx context.Context, f *Facts) ([]admin.Statement, error) {
	out, _, err := s.offers(ctx, f)
	return out, err
}

// offers are the statements that would give keyless tables a replica identity.
func (s replicaIdentityStep) offers(ctx context.Context, f *Facts) ([]admin.Statement, []Note, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	if _, err := s.pick(ctx, f); err != nil {
		return nil, nil, err
	}
	var out []admin.Statement
	var notes []Note
	for i := range f.Joined {
		t := &f.Joined[i]
		if Keyed(t) {
			continue
		}
		if t.Kind == 'p' { // an index as its replica identity would be no new partition's
			if len(t.Key) > 0 && slices.Contains(f.publishedIn(t), s.Config.Publication()) {
				continue
			}
			notes = append(notes, Note{"NoKey", t.String(), "has no primary key, which every partition would have: only its inserts are mirrored"})
			continue
		}
		offer, index, err := session.IdentityByIndex(ctx, t.Schema, t.Name, t.Owner)
		if err != nil {
			return nil, nil, err
		}
		text := "has no key: only its inserts are mirrored"
		if index != "" {
			text += "; its unique index " + index + " could be its replica identity (--allow replica-identity)"
		}
		out, notes = append(out, offer...), append(notes, Note{"NoKey", t.String(), text})
	}
	return out, notes, nil
}

func subjects(notes []Note) string {
	var out []string
	for _, n := range notes {
		out = append(out, n.Subject)
	}
	return strings.Join(out, ", ")
}
