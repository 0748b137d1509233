package setup

import "context"

// undoRoleSecretStep deletes the role's password, when we wrote it and no role has
// it any more. The vault keeps it for some time: it can be had back.
type undoRoleSecretStep struct{ *Clients }

func (undoRoleSecretStep) Name() string { return "role-secret" }

func (s undoRoleSecretStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if s.Vault == nil {
		return asWanted("no vault"), nil
	}
	name := s.Config.Role.Secret
	exists, ours, err := s.Vault.Made(ctx, name)
	switch {
	case err != nil:
		return s.vaultFault(err)
	case !exists:
		return gone("secret " + name), nil
	case !ours:
		return kept("secret "+name, "pgmirror didn't write it"), nil
	case f.RoleExists && (!f.pending["role"] || f.roleStays):
		return kept("secret "+name, "role "+s.Config.Role.Name+" has this password"), nil
	}
	return Finding{Action: Delete, Reason: "SecretThere", Have: name, Want: "deleted; it can be recovered", Items: []string{name}, After: f.waitsFor("role")}, nil
}

func (s undoRoleSecretStep) Apply(ctx context.Context, f *Facts) error {
	return s.Vault.Delete(ctx, s.Config.Role.Secret)
}
