package setup

import "context"

// identityStep gives the server its own identity, as which it writes to OneLake.
type identityStep struct{ *Clients }

func (identityStep) Name() string { return "identity" }

func (s identityStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if f.Server.Name == "" {
		return after("server"), nil
	}
	if f.Server.PrincipalID != "" {
		return asWanted(f.Server.PrincipalID), nil
	}
	if err := s.refresh(ctx, f); err != nil || f.Server.PrincipalID != "" {
		return asWanted(f.Server.PrincipalID), err
	}
	return Finding{Action: Update, Reason: "NoIdentity", Have: f.Server.IdentityType, Want: "SystemAssigned"}, nil
}

func (s identityStep) Apply(ctx context.Context, f *Facts) error {
	return s.Server.EnableIdentity(ctx, f.Server)
}
