package setup

import "slices"

// Action says what Apply would do to a step.
type Action string

const (
	None    Action = "none"    // already as wanted
	Create  Action = "create"  //
	Update  Action = "update"  //
	Restart Action = "restart" // update, and the server goes away for a minute
	Delete  Action = "delete"  // of destroy only
	Wait    Action = "wait"    // nothing to write: the world has to catch up, or an earlier step comes first
	Blocked Action = "blocked" // a person has to act; see Code and Hint
	Await   Action = "await"   // left for a later run: somebody else has to give something first
)

// Finding is what a Check saw. It never holds a secret.
type Finding struct {
	Step    string   `json:"step"`              // "grants"; stable: used in JSON, docs and tests
	Action  Action   `json:"action"`            //
	Reason  string   `json:"reason"`            // one stable word: "RoleMissing"
	Code    string   `json:"code,omitempty"`    // of the table that Explain knows, when a person has to decide or act
	Have    string   `json:"have,omitempty"`    // for people
	Want    string   `json:"want,omitempty"`    // for people
	Hint    string   `json:"hint,omitempty"`    // the next thing to type
	After   string   `json:"after,omitempty"`   // the step that has to be done first
	Items   []string `json:"items,omitempty"`   // what would be changed, by name; Apply never touches another one
	Consent string   `json:"consent,omitempty"` // the consent that this needs beyond a yes
	Allowed bool     `json:"allowed,omitempty"` // that consent is given
	Notes   []Note   `json:"notes,omitempty"`   // what people should know before they say yes

	passing bool   // a Wait that ends by itself soon: a plan waits for it, too
	unready string // what Apply has to wait for before it writes; a plan tells what will be written then
}

// meanwhile is what is told while Apply waits with a finding.
func (f Finding) meanwhile() Finding {
	if f.unready != "" {
		f.Action, f.Have = Wait, f.unready
	}
	return f
}

// Note tells what is lost, left out or left alone.
type Note struct {
	Code    string `json:"code"`              // one stable word: "TypeRefused"
	Subject string `json:"subject,omitempty"` // "public.orders", "public.orders.total"
	Text    string `json:"text"`
}

// asWanted is the finding of a step that has nothing to do.
func asWanted(have string) Finding { return Finding{Action: None, Reason: "AsWanted", Have: have} }

// after is the finding of a step that can't be judged before another one is
// done.
func after(step string) Finding {
	return Finding{Action: Wait, Reason: "NeedsEarlierStep", After: step}
}

// blocked is the finding that a person has to act upon.
func blocked(code, have, hint string) Finding {
	return Finding{Action: Blocked, Reason: code, Code: code, Have: have, Hint: hint}
}

// awaited is what a deployment's later stage, or a person, gives: where nobody
// has erred, and a later run goes on.
func (f Finding) awaited() bool {
	return f.Action == Blocked && slices.Contains([]string{"WorkspaceMissing", "ConnectionManual", "SignInNeeded", "OneLakeForbidden", "EntraAdminMissing"}, f.Code)
}

// Refuse returns why a plan can't be applied as it is: a *BlockedError or a
// *ConsentError, else nil. Apply asks it before it writes anything.
func Refuse(plan []Finding) error {
	if b := filter(plan, func(f Finding) bool { return f.Action == Blocked }); len(b) > 0 {
		return &BlockedError{b}
	}
	if c := filter(plan, func(f Finding) bool { return f.Consent != "" && !f.Allowed }); len(c) > 0 {
		return &ConsentError{c}
	}
	return nil
}

// Pending reports whether a plan has something to do now.
func Pending(plan []Finding) bool {
	return slices.ContainsFunc(plan, func(f Finding) bool { return f.Action != None && f.Action != Await })
}

func filter(plan []Finding, keep func(Finding) bool) []Finding {
	var out []Finding
	for _, f := range plan {
		if keep(f) {
			out = append(out, f)
		}
	}
	return out
}

// covers reports whether approving want also approves now.
func covers(want, now Finding) bool {
	switch now.Action {
	case None, Wait, Await:
		return true
	case Create, Update:
		if want.Action != Create && want.Action != Update && want.Action != Restart {
			return false
		}
	case Restart, Delete:
		if want.Action != now.Action {
			return false
		}
	default:
		return false
	}
	if now.Consent != "" && (now.Consent != want.Consent || !now.Allowed) {
		return false
	}
	return !slices.ContainsFunc(now.Items, func(i string) bool { return !slices.Contains(want.Items, i) })
}
