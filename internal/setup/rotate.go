package setup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// Rotation is one change of the role's password, for all databases of a server.
// It goes in two phases: the new password is made durable in its store first,
// and only then do the role and what signs in as it get to know it. So at every
// instant a store knows the valid password, and what died is gone on with by
// rotating again. It prints no password.
type Rotation struct {
	Given string `json:"-"` // by a file; "": one is made up
	Adopt string // "vault" or "role": which of the two is right when they disagree; "": neither

	lead    *Clients // of the database with which it began
	decided bool
	newest  azure.Version              // of the vault's secret
	want    secret                     // the password that everybody shall have in the end
	old     secret                     // that was valid before; "": nobody knows it
	validID string                     // the version that has what was valid before; "": none
	resumed bool                       // a rotation that died is gone on with
	behind  struct{ store, role bool } // they don't have it yet, as they were last seen
}

// String keeps passwords out of every print.
func (r *Rotation) String() string   { return "rotation" }
func (r *Rotation) GoString() string { return r.String() }

// Adopt's values.
const (
	AdoptVault = "vault"
	AdoptRole  = "role"
)

// The tags of a version that a rotation wrote: how far it got, and which version
// was valid before.
const (
	tagRotation = "pgmirror-rotation"
	tagPrevious = "pgmirror-previous"

	rotationBegun = "begun"
	rotationDone  = "done"
)

// RotateSteps are the steps of a rotation on one database, in order. Those of the
// role are of the first database alone.
func RotateSteps(c *Clients, r *Rotation) []Step {
	if r.lead == nil || r.lead == c {
		r.lead = c
		return []Step{
			serverStep{c},               // where it is
			leasesStep{c},               // doors that others left open, before any other is opened
			adminStep{c},                // who changes the role, and the doors on the way
			rotatePasswordStep{c, r},    // which password is valid now, and which shall be
			rotateSecretStep{c, r},      // phase one: durable in the store
			rotateRoleStep{c, r},        // phase two: the role, proved by signing in
			rotateConnectionStep{c, r},  // and Fabric, proved by the connection's own test
			rotateOldPasswordStep{c, r}, // the old one is dead
			rotateCompletionStep{c, r},  // nothing is left to be gone on with
		}
	}
	return []Step{serverStep{c}, adminStep{c}, rotateConnectionStep{c, r}}
}

// decide finds out, once, which password is valid and which shall be. The
// finding says why it can't be decided; it is zero when all is clear.
func (r *Rotation) decide(ctx context.Context, c *Clients, f *Facts) (Finding, error) {
	if r.decided {
		return Finding{}, nil
	}
	if found, err := r.read(ctx, c, f); err != nil || found.Action != "" {
		return found, err
	}
	stored, err := c.signsIn(ctx, f, secret(r.newest.Value))
	if err != nil {
		return Finding{}, err
	}
	previous, err := r.previous(ctx, c)
	if err != nil {
		return Finding{}, err
	}
	found, err := r.choose(ctx, c, f, stored, previous)
	r.decided = err == nil && found.Action == ""
	return found, err
}

// read takes what the store has.
func (r *Rotation) read(ctx context.Context, c *Clients, f *Facts) (Finding, error) {
	if c.Vault == nil {
		if r.Given == "" {
			return blocked("NoSecretStore", "there is no vault to keep a new password in", "pgmirror rotate --password-file FILE"), nil
		}
		value, found, err := c.resolve(ctx, c.Config.Role.Password)
		r.newest = azure.Version{Value: value}
		return found, err
	}
	newest, ok, err := c.Vault.Newest(ctx, c.Config.Role.Secret)
	if err != nil {
		return c.vaultFault(err)
	}
	if !ok && r.Adopt != AdoptRole {
		return blocked("RoleSecretMissing", "the vault has no secret "+c.Config.Role.Secret, "pgmirror rotate --adopt role --password-file FILE"), nil
	}
	r.newest = newest
	return Finding{}, nil
}

// previous is the password that was valid before the newest version was written
// by a rotation; "" when none wrote it.
func (r *Rotation) previous(ctx context.Context, c *Clients) (secret, error) {
	id := r.newest.Tags[tagPrevious]
	if c.Vault == nil || id == "" {
		return "", nil
	}
	value, _, err := c.Vault.Version(ctx, c.Config.Role.Secret, id)
	return secret(value), err
}

// choose decides, given whether the store's password signs in.
func (r *Rotation) choose(ctx context.Context, c *Clients, f *Facts, stored bool, previous secret) (Finding, error) {
	newest, given := secret(r.newest.Value), secret(r.Given)
	switch {
	case r.Adopt == AdoptVault:
		r.want, r.old = newest, previous
		return Finding{}, nil
	case r.Adopt == AdoptRole:
		ok, err := c.signsIn(ctx, f, given)
		if err == nil && !ok {
			return blocked("PasswordRefused", "the server refuses "+c.Config.Role.Name+" with the given password", "pgmirror rotate --adopt vault"), nil
		}
		r.want = given
		return Finding{}, err
	}
	begun := r.newest.Tags[tagRotation] == rotationBegun
	valid, err := r.valid(ctx, c, f, stored, begun, previous)
	if err != nil {
		return Finding{}, err
	}
	if valid == "" {
		return blocked("PasswordsDisagree", "the store's password isn't "+c.Config.Role.Name+"'s", "pgmirror rotate --adopt vault"), nil
	}
	switch {
	case begun && (given == "" || given == newest):
		r.want, r.old, r.resumed = newest, previous, true
	case given == valid: // without a vault: a run that died has given it to the role
		r.want, r.old, r.resumed = given, newest, given != newest
	case given != "":
		r.want, r.old = given, valid
	default:
		r.want, r.old = secret(newPassword()), valid
	}
	if r.want == r.old {
		r.old = ""
	}
	r.validID = r.newest.ID
	if valid == previous {
		r.validID = r.newest.Tags[tagPrevious]
	}
	return Finding{}, nil
}

// valid is the password that the server takes now, of those that are known; ""
// when it takes none of them.
func (r *Rotation) valid(ctx context.Context, c *Clients, f *Facts, stored, begun bool, previous secret) (secret, error) {
	if stored {
		return secret(r.newest.Value), nil
	}
	var candidates []secret
	if begun {
		candidates = append(candidates, previous)
	}
	if c.Vault == nil {
		candidates = append(candidates, secret(r.Given))
	}
	for _, p := range candidates {
		if ok, err := c.signsIn(ctx, f, p); ok || err != nil {
			return p, err
		}
	}
	return "", nil
}

// version is the tags that the new version gets: those of the former one, whether
// it is ours among them, and how far the rotation is.
func (r *Rotation) version() map[string]string {
	tags := maps.Clone(r.newest.Tags)
	if tags == nil { // the vault had no such secret
		tags = map[string]string{azure.MadeTag: "made"}
	}
	tags[tagRotation] = rotationBegun
	delete(tags, tagPrevious)
	if r.validID != "" {
		tags[tagPrevious] = r.validID
	}
	return tags
}

// signsIn tries a password of the role.
func (c *Clients) signsIn(ctx context.Context, f *Facts, password secret) (bool, error) {
	if password == "" {
		return false, nil
	}
	conn, err := c.endpoint(f, c.Config.Role.Name, password).Connect(ctx)
	if admin.IsWrongPassword(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	conn.Close(ctx) // it has served its purpose
	return true, nil
}

// MinPassword and MaxPassword bound a password that is given; a made-up one has
// 43 characters: A–Z, a–z, 2–9 and "-", with 200 random bits.
const (
	MinPassword = 8
	MaxPassword = 128
)

// CheckPassword refuses what Azure's own rules for passwords refuse: three of
// four classes of characters, and not the role's name. The error doesn't show it.
func CheckPassword(password, role string) error {
	var classes [4]int
	for _, r := range password {
		switch {
		case unicode.IsControl(r):
			return errors.New("the password has a control character")
		case unicode.IsUpper(r):
			classes[0] = 1
		case unicode.IsLower(r):
			classes[1] = 1
		case unicode.IsDigit(r):
			classes[2] = 1
		default:
			classes[3] = 1
		}
	}
	if n := len([]rune(password)); n < MinPassword || n > MaxPassword {
		return fmt.Errorf("the password has %d characters, and needs %d to %d", n, MinPassword, MaxPassword)
	}
	if classes[0]+classes[1]+classes[2]+classes[3] < 3 {
		return errors.New("the password needs three of: upper case, lower case, digits, other characters")
	}
	if strings.Contains(strings.ToLower(password), strings.ToLower(role)) {
		return errors.New("the password contains the role's name")
	}
	return nil
}
