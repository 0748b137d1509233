package azure

import (
	"context"
	"fmt"

	pg "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/postgresql/armpostgresqlflexibleservers/v5"
)

// Parameter is a server parameter.
type Parameter struct {
	Name           string
	Value          string
	Default        string
	Allowed        string // on,off or 1-100 or a list or a pattern
	Dynamic        bool   // takes effect without a restart
	ReadOnly       bool
	PendingRestart bool
}

// Parameters asks for all parameters, by name. One that an older server doesn't
// have is simply missing.
func (s *Server) Parameters(ctx context.Context) (map[string]Parameter, error) {
	all := map[string]Parameter{}
	for p := s.configs.NewListByServerPager(s.group, s.name, nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask for the parameters of %s: %w", s.name, err)
		}
		for _, c := range page.Value {
			all[str(c.Name)] = parameterOf(c)
		}
	}
	return all, nil
}

func parameterOf(c *pg.Configuration) Parameter {
	p := Parameter{Name: str(c.Name)}
	if x := c.Properties; x != nil {
		p.Value, p.Default, p.Allowed = str(x.Value), str(x.DefaultValue), str(x.AllowedValues)
		p.Dynamic, p.ReadOnly, p.PendingRestart = isTrue(x.IsDynamicConfig), isTrue(x.IsReadOnly), isTrue(x.IsConfigPendingRestart)
	}
	return p
}

// SetParameter sets one parameter, and waits.
func (s *Server) SetParameter(ctx context.Context, name, value string) error {
	body := pg.ConfigurationForUpdate{Properties: &pg.ConfigurationProperties{Value: &value, Source: ptr("user-override")}}
	return s.wait.done(ctx, "set "+name, func() (poller, error) {
		return begun(s.configs.BeginUpdate(ctx, s.group, s.name, name, body, nil))
	})
}

func isTrue(b *bool) bool { return b != nil && *b }
