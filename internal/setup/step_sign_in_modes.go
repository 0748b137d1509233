package setup

import "context"

// signInModesStep turns on sign-in by password, which Fabric's connection needs,
// and by Entra, as the deployment that users have does.
type signInModesStep struct{ *Clients }

func (signInModesStep) Name() string { return "sign-in-modes" }

func (s signInModesStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if f.Server.Name == "" {
		return after("server"), nil
	}
	if f.Server.PasswordSignIn && f.Server.EntraSignIn {
		return asWanted("password and Entra"), nil
	}
	if err := s.refresh(ctx, f); err != nil {
		return Finding{}, err
	}
	i := f.Server
	if i.PasswordSignIn && i.EntraSignIn {
		return asWanted("password and Entra"), nil
	}
	have := "neither"
	if i.PasswordSignIn {
		have = "password only"
	} else if i.EntraSignIn {
		have = "Entra only"
	}
	return Finding{Action: Update, Reason: "SignInModesOff", Have: have, Want: "password and Entra"}, nil
}

func (s signInModesStep) Apply(ctx context.Context, _ *Facts) error {
	return s.Server.SetSignIn(ctx)
}

// refresh reads the server again: what the first step saw may have been changed
// since.
func (c *Clients) refresh(ctx context.Context, f *Facts) error {
	i, err := c.Server.Get(ctx)
	if err == nil {
		f.Server = i
	}
	return err
}
