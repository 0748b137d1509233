package setup_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pgmirror/pgmirror/internal/config"
)

// TestCut kills the run before and after every side effect there is, in both
// modes, and expects the next run to go on from there: to the same end, and then
// to no writes at all.
func TestCut(t *testing.T) {
	for name, file := range map[string]string{"native": nativeFile, "open": openFile + "allow: [restart]\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			whole := newWorld(t)
			cfg := func(w *world) *config.Config { return w.config(t, file) }
			mustApply(t, cfg(whole))

			cuts := cutEverywhere(t, func(r *run) error { return r.apply(t, cfg(w)) })
			t.Logf("%d cuts", cuts)
			clean(t, plan(t, cfg(w)))
			if again := mustApply(t, cfg(w)); len(again) != 0 {
				t.Errorf("an apply after the end wrote %q", again)
			}
			if diff := cmp.Diff(whole.end(t), w.end(t)); diff != "" {
				t.Errorf("the end differs from that of a run without cuts (-want +got):\n%s", diff)
			}
		})
	}
}

// cutEverywhere works until the end, each run being cut at the first write that
// is new: before its effect, then after it. What is rolled back is passed by in
// the next run, so that every statement of a transaction is cut at, too.
func cutEverywhere(t *testing.T, work func(*run) error) (cuts int) {
	t.Helper()
	for at := 1; ; {
		for _, late := range []bool{false, true} {
			r := &run{at: at, late: late}
			err := work(r)
			if len(r.writes) < at { // nothing left to cut
				if err != nil {
					t.Fatalf("after %d cuts: %v", cuts, err)
				}
				return cuts
			}
			if err == nil {
				t.Fatalf("the run went on after its death at %q", r.writes[at-1])
			}
			cuts++
			if len(r.writes) > at+1 {
				t.Errorf("after its death at %q the run wrote %q", r.writes[at-1], r.writes[at:])
			}
			if late && lasting(r.writes[at-1]) {
				at = 0
			}
		}
		at++
	}
}

// lasting writes stay when the process dies: requests and commits.
func lasting(write string) bool {
	method, _, _ := strings.Cut(write, " ")
	return strings.ToUpper(method) == method || method == "commit"
}

// end is the state that a run leaves in the database, without what is random.
func (w *world) end(t *testing.T) []string {
	t.Helper()
	return w.rows(t, `
		SELECT 'table ' || oid::regclass || ' of ' || relowner::regrole || ' ' || coalesce(relacl::text, '') || ' ' || coalesce(obj_description(oid, 'pg_class'), '')
			FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')
		UNION ALL SELECT format('role %s %s %s %s %s', rolname, rolcreatedb, rolcreaterole, rolreplication, rolpassword LIKE 'SCRAM%') FROM pg_authid WHERE rolname IN ('fabric_user', 'app')
		UNION ALL SELECT format('%s in %s', member::regrole, roleid::regrole) FROM pg_auth_members
		UNION ALL SELECT format('schema %s %s', nspname, nspacl) FROM pg_namespace WHERE nspname = 'public'
		UNION ALL SELECT format('default %s %s', defaclrole::regrole, defaclacl) FROM pg_default_acl
		UNION ALL SELECT format('publication %s %s %s', pubname, pubupdate, (SELECT array_agg(prrelid::regclass ORDER BY prrelid::regclass::text) FROM pg_publication_rel WHERE prpubid = p.oid)) FROM pg_publication p WHERE pubname LIKE 'pgmirror%'
		UNION ALL SELECT format('seed rows %s', (SELECT count(*) FROM pg_class WHERE relname = 'fabric_mirror_seed'))
		ORDER BY 1`)
}
