package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// proofStep waits until Fabric says that every table replicates and has processed
// rows: a mirror that is Running and empty is a failure. That the rows are the
// right ones is proved by verify.
type proofStep struct{ *Clients }

func (proofStep) Name() string { return "proof" }

// Patience is for the snapshot of a small database; a larger one is waited for
// by applying again.
func (proofStep) Patience() time.Duration { return 30 * time.Minute }

func (s proofStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if step := f.waitsFor("mirrored-database", "start"); step != "" || f.Mirror.ID == "" {
		return after(or(step, "mirrored-database")), nil
	}
	status, err := s.Fabric.TablesStatus(ctx, s.Config.Workspace, f.Mirror.ID)
	if err != nil {
		return Finding{}, err
	}
	by := map[string]fabric.TableStatus{}
	for _, t := range status {
		by[t.Schema+"."+t.Table] = t
	}
	var behind []string
	rows := int64(0)
	for i := range f.Picked {
		t := &f.Picked[i]
		now, known := by[t.String()]
		if now.Status == "Failed" {
			return blocked("TableFailed", t.String()+": "+strings.TrimSpace(now.ErrorCode+" "+now.ErrorMessage), "pgmirror status"), nil
		}
		ok, err := s.proved(ctx, f, t, now)
		if err != nil {
			return Finding{}, err
		}
		if !known || !ok {
			behind = append(behind, t.String()+" "+or(now.Status, "unknown to Fabric"))
		}
		rows += now.ProcessedRows
	}
	if len(behind) > 0 || len(status) == 0 {
		return s.behind(ctx, f, or(strings.Join(behind, ", "), "no table yet"))
	}
	return asWanted(fmt.Sprintf("%d tables Replicating, %d rows processed", len(f.Picked), rows)), nil
}

// behind waits, and says what azure_cdc itself complains of. That the identity may
// not write passes when a role is minutes young; where a person has to give it,
// the person is asked at once.
func (s proofStep) behind(ctx context.Context, f *Facts, have string) (Finding, error) {
	found := Finding{Action: Wait, Reason: "NotReplicating", Have: have, Want: "every table Replicating, with rows"}
	session, err := s.reader(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	complaints, err := session.Complaints(ctx)
	if admin.IsForbidden(err) || admin.IsUnknownFunction(err) || len(complaints) == 0 { // who may not ask knows no more
		return found, nil
	}
	if err != nil {
		return Finding{}, err
	}
	found.Have += "; azure_cdc says " + strings.Join(complaints, ", ")
	if slices.Contains(complaints, "CDC_ERR_SYS_ONELAKE_PERMISSION_DENIED") {
		found.Code, found.Hint = "OneLakeForbidden", s.workspacePage()
		if f.ByHand {
			return blocked(found.Code, f.Server.PrincipalID+": "+byHand, found.Hint), nil
		}
	}
	return found, nil
}

// reader is who may look into the tables: nobody of ours signs in as an Entra role.
func (s proofStep) reader(ctx context.Context, f *Facts) (*admin.Session, error) {
	if s.Config.Role.SignIn == "entra" {
		return s.asAdmin(ctx, f)
	}
	return s.asRole(ctx, f)
}

// proved is Replicating with rows; without rows only when the source has none.
func (s proofStep) proved(ctx context.Context, f *Facts, t *postgres.Table, now fabric.TableStatus) (bool, error) {
	if now.Status != "Replicating" {
		return false, nil
	}
	if now.ProcessedRows > 0 {
		return true, nil
	}
	role, err := s.reader(ctx, f)
	if err != nil {
		return false, err
	}
	has, err := role.HasRows(ctx, t.Schema, t.Name)
	return !has, err
}

func (proofStep) Apply(context.Context, *Facts) error { return nil }
