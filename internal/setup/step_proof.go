package setup

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/postgres"
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
		return Finding{Action: Wait, Reason: "NotReplicating", Have: or(strings.Join(behind, ", "), "no table yet"), Want: "every table Replicating, with rows"}, nil
	}
	return asWanted(fmt.Sprintf("%d tables Replicating, %d rows processed", len(f.Picked), rows)), nil
}

// proved is Replicating with rows; without rows only when the source has none.
func (s proofStep) proved(ctx context.Context, f *Facts, t *postgres.Table, now fabric.TableStatus) (bool, error) {
	if now.Status != "Replicating" {
		return false, nil
	}
	if now.ProcessedRows > 0 {
		return true, nil
	}
	ask := s.asRole
	if s.Config.Role.SignIn == "entra" {
		ask = s.asAdmin
	}
	role, err := ask(ctx, f)
	if err != nil {
		return false, err
	}
	has, err := role.HasRows(ctx, t.Schema, t.Name)
	return !has, err
}

func (proofStep) Apply(context.Context, *Facts) error { return nil }
