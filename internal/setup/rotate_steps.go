package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// rotatePasswordStep finds out which password is valid, and which shall be.
type rotatePasswordStep struct {
	*Clients
	r *Rotation
}

func (rotatePasswordStep) Name() string { return "password" }

func (s rotatePasswordStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	if s.Config.Role.SignIn == "entra" {
		return blocked("RoleWithoutPassword", s.Config.Role.Name+" signs in by Entra", "pgmirror plan"), nil
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	if _, exists, err := session.Role(ctx, s.Config.Role.Name); err != nil {
		return Finding{}, err
	} else if !exists {
		return blocked("RoleMissing", "there is no role "+s.Config.Role.Name+" yet", "pgmirror apply"), nil
	}
	if found, err := s.r.decide(ctx, s.Clients, f); err != nil || found.Action != "" {
		return found, err
	}
	f.rolePassword = s.r.want
	switch {
	case s.r.resumed:
		return asWanted("a rotation that was broken off is gone on with"), nil
	case s.r.Adopt != "":
		return asWanted("that of the " + s.r.Adopt + " is the right one"), nil
	case s.r.Given != "":
		return asWanted("the given one follows that of the store"), nil
	}
	return asWanted("a new one follows that of the store"), nil
}

func (rotatePasswordStep) Apply(context.Context, *Facts) error { return nil }

// rotateSecretStep is phase one: the store has the new password.
type rotateSecretStep struct {
	*Clients
	r *Rotation
}

func (rotateSecretStep) Name() string { return "secret" }

func (s rotateSecretStep) Check(ctx context.Context, _ *Facts) (Finding, error) {
	if !s.r.decided {
		return after("password"), nil
	}
	if s.Vault == nil {
		return asWanted("in the file that it was given by"), nil
	}
	now, _, err := s.Vault.Newest(ctx, s.Config.Role.Secret)
	if err != nil {
		return Finding{}, err
	}
	if s.r.behind.store = secret(now.Value) != s.r.want; s.r.behind.store {
		return Finding{Action: Create, Reason: "NewVersion", Have: "the former password", Want: "a new version of " + s.Config.Role.Secret}, nil
	}
	s.r.newest = now
	return asWanted("in the vault as " + s.Config.Role.Secret), nil
}

func (s rotateSecretStep) Apply(ctx context.Context, _ *Facts) error {
	return s.Vault.AddVersion(ctx, s.Config.Role.Secret, string(s.r.want), s.r.version())
}

// rotateRoleStep gives the role the password that its store has.
type rotateRoleStep struct {
	*Clients
	r *Rotation
}

func (rotateRoleStep) Name() string { return "role" }

func (s rotateRoleStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !s.r.decided {
		return after("password"), nil
	}
	ok, err := s.signsIn(ctx, f, s.r.want)
	if err != nil {
		return Finding{}, err
	}
	if s.r.behind.role = !ok; ok {
		return asWanted(s.Config.Role.Name + " signs in with it"), nil
	}
	return Finding{Action: Update, Reason: "PasswordDiffers", Have: s.Config.Role.Name + " has the former password", Want: "that of the store", After: f.waitsFor("secret")}, nil
}

func (s rotateRoleStep) Apply(ctx context.Context, f *Facts) error {
	f.rolePassword = s.r.want
	verifier, err := roleStep{s.Clients}.verifier(f)
	if err != nil {
		return err
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	return session.Run(ctx, admin.SetPassword(s.Config.Role.Name, admin.Verified(verifier)))
}

// rotateConnectionStep makes the Fabric connection sign in with the password. One
// with a Key Vault reference does by itself, and only proves it.
type rotateConnectionStep struct {
	*Clients
	r *Rotation
}

func (rotateConnectionStep) Name() string { return "connection" }

func (s rotateConnectionStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !s.r.decided {
		return after("password"), nil
	}
	if s.Config.Mode == config.Open {
		return asWanted("none: pgmirror run takes the new password at its next sign-in"), nil
	}
	c, ok, err := s.current(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	f.Connection = c
	if !ok {
		return asWanted("there is none yet"), nil
	}
	if s.r.behind.store || s.r.behind.role {
		found := Finding{Action: Update, Reason: "PasswordFollows", Have: "the former password", Want: "that of the store", After: f.waitsFor("secret", "role")}
		if s.Config.Connection.Vault != "" {
			found.Have, found.Want = "reads the vault itself", "proved"
		}
		door, closed, err := s.fabricDoor(ctx, f)
		if closed {
			found.Code, found.Consent, found.Allowed, found.Hint = door.Code, door.Consent, door.Allowed, door.Hint
			found.Have += ", and " + door.Have
		}
		return found, err
	}
	return s.proved(ctx, f)
}

// proved is the connection's own test: it signs in anew.
func (s rotateConnectionStep) proved(ctx context.Context, f *Facts) (Finding, error) {
	err := s.Fabric.TestConnection(ctx, f.Connection.ID)
	switch {
	case err == nil:
		return asWanted(f.Connection.Name + " signs in with it"), nil
	case fabric.IsSourceUnreachable(err):
		door, closed, doorErr := s.fabricDoor(ctx, f)
		if doorErr != nil || closed {
			return door, doorErr
		}
	case fabric.IsCredentialRefused(err) && s.Config.Connection.Vault != "":
		return Finding{Action: Wait, Reason: "ReferenceBehind", Code: "ConnectionRefused", Have: "the connection still reads the former version from the vault"}, nil
	case fabric.IsCredentialRefused(err):
		return Finding{Action: Update, Reason: "PasswordDiffers", Have: f.Connection.Name + " has the former password", Want: "that of the store"}, nil
	}
	return Finding{}, err
}

// current is the connection that the mirror uses.
func (s rotateConnectionStep) current(ctx context.Context, f *Facts) (fabric.Connection, bool, error) {
	step := connectionStep{s.Clients}
	if id := s.Config.Connection.ID; id != "" {
		c, err := s.Fabric.Connection(ctx, id)
		return c, err == nil, err
	}
	all, err := s.Fabric.Connections(ctx)
	if err != nil {
		return fabric.Connection{}, false, err
	}
	c, ok := step.find(all, f.Host)
	return c, ok, nil
}

func (s rotateConnectionStep) Apply(ctx context.Context, f *Facts) error {
	id := f.Connection.ID
	err := s.reached(ctx, f, func(ctx context.Context) error {
		err := s.Fabric.TestConnection(ctx, id)
		if err == nil || !fabric.IsCredentialRefused(err) || s.Config.Connection.Vault != "" {
			return err
		}
		return s.Fabric.UpdateCredentials(ctx, id, fabric.Credentials{Username: s.Config.Role.Name, Password: string(s.r.want)})
	})
	if fabric.IsForbidden(err) { // somebody else's connection
		return &BlockedError{[]Finding{{Step: s.Name(), Action: Blocked, Reason: "ConnectionNotOurs", Code: "ConnectionNotOurs", Have: f.Connection.Name, Hint: "pgmirror connection show"}}}
	}
	if s.Config.Connection.Vault != "" && fabric.IsCredentialRefused(err) {
		return nil // it reads the vault in a while: Check waits for that
	}
	return err
}

// rotateOldPasswordStep proves that the former password opens nothing any more.
type rotateOldPasswordStep struct {
	*Clients
	r *Rotation
}

func (rotateOldPasswordStep) Name() string { return "old-password" }

func (s rotateOldPasswordStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !s.r.decided {
		return after("password"), nil
	}
	if step := f.waitsFor("role", "connection"); step != "" {
		return after(step), nil
	}
	if s.r.old == "" {
		return asWanted("not known, so that nothing can be proved of it"), nil
	}
	ok, err := s.signsIn(ctx, f, s.r.old)
	if err != nil {
		return Finding{}, err
	}
	if ok {
		return Finding{Action: Wait, Reason: "OldPasswordAlive", Have: "the server still takes the former password"}, nil
	}
	return asWanted("the server refuses it"), nil
}

func (rotateOldPasswordStep) Apply(context.Context, *Facts) error { return nil }

// rotateCompletionStep notes on the secret that its rotation is complete: the
// next one begins anew.
type rotateCompletionStep struct {
	*Clients
	r *Rotation
}

func (rotateCompletionStep) Name() string { return "completion" }

func (s rotateCompletionStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !s.r.decided {
		return after("password"), nil
	}
	if s.Vault == nil {
		return asWanted("nothing is left to do"), nil
	}
	now, _, err := s.Vault.Newest(ctx, s.Config.Role.Secret)
	if err != nil {
		return Finding{}, err
	}
	before := f.waitsFor("secret", "role", "connection", "old-password")
	if before == "" && now.Tags[tagRotation] != rotationBegun {
		return asWanted("nothing is left to do"), nil
	}
	return Finding{Action: Update, Reason: "RotationOpen", Have: "under way", Want: "noted as complete", After: before}, nil
}

func (s rotateCompletionStep) Apply(ctx context.Context, _ *Facts) error {
	now, _, err := s.Vault.Newest(ctx, s.Config.Role.Secret)
	if err != nil {
		return err
	}
	now.Tags[tagRotation] = rotationDone
	return s.Vault.SetTags(ctx, s.Config.Role.Secret, now.ID, now.Tags)
}
