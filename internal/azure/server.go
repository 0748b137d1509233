package azure

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	pg "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/postgresql/armpostgresqlflexibleservers/v5"
)

// Server is one flexible server.
type Server struct {
	servers *pg.ServersClient
	configs *pg.ConfigurationsClient
	admins  *pg.AdministratorsMicrosoftEntraClient
	group   string
	name    string
	wait    waiter
}

// Info is what ARM says about a server.
type Info struct {
	Name             string
	Location         string
	State            string // Ready, Updating, …
	Version          int    // 16
	Tier             string // Burstable, GeneralPurpose, MemoryOptimized
	HA               string // Disabled, SameZone, ZoneRedundant
	ReplicationRole  string // None, Primary, AsyncReplica, GeoAsyncReplica
	Elastic          bool
	Host             string // the fully qualified domain name
	Admin            string // "" when the server was made without one
	PublicAccess     bool
	InVNet           bool
	PasswordSignIn   bool
	EntraSignIn      bool
	TenantID         string
	IdentityType     string // None, SystemAssigned, UserAssigned, SystemAssigned,UserAssigned
	PrincipalID      string // the system-assigned identity's object id; "" without one
	identityAssigned map[string]*pg.UserIdentity
}

// NewServer makes a client of the server with an ARM id. It asks nothing yet.
func NewServer(id string, o Options) (*Server, error) {
	rid, err := arm.ParseResourceID(id)
	if err != nil {
		return nil, fmt.Errorf("server id: %w", err)
	}
	servers, err := pg.NewServersClient(rid.SubscriptionID, o.Credential, o.arm())
	if err != nil {
		return nil, fmt.Errorf("arm client: %w", err)
	}
	configs, err := pg.NewConfigurationsClient(rid.SubscriptionID, o.Credential, o.arm())
	if err != nil {
		return nil, fmt.Errorf("arm client: %w", err)
	}
	admins, err := pg.NewAdministratorsMicrosoftEntraClient(rid.SubscriptionID, o.Credential, o.arm())
	if err != nil {
		return nil, fmt.Errorf("arm client: %w", err)
	}
	return &Server{servers, configs, admins, rid.ResourceGroupName, rid.Name, newWaiter(o)}, nil
}

// Get asks what the server is.
func (s *Server) Get(ctx context.Context) (Info, error) {
	r, err := s.servers.Get(ctx, s.group, s.name, nil)
	if err != nil {
		return Info{}, fmt.Errorf("ask for server %s: %w", s.name, err)
	}
	return infoOf(&r.Server), nil
}

func infoOf(s *pg.Server) Info {
	i := Info{Name: str(s.Name), Location: str(s.Location), HA: "Disabled", ReplicationRole: "None", PublicAccess: true, IdentityType: "None"}
	if s.SKU != nil {
		i.Tier = str(s.SKU.Tier)
	}
	if id := s.Identity; id != nil {
		i.IdentityType, i.identityAssigned = or(str(id.Type), "None"), id.UserAssignedIdentities
		if strings.Contains(i.IdentityType, "SystemAssigned") {
			i.PrincipalID = str(id.PrincipalID)
		}
	}
	p := s.Properties
	if p == nil {
		return i
	}
	i.State, i.Host, i.Admin = str(p.State), str(p.FullyQualifiedDomainName), str(p.AdministratorLogin)
	i.Version, _ = strconv.Atoi(str(p.Version)) // 0, which every gate refuses, when ARM sends something else
	i.ReplicationRole = or(str(p.ReplicationRole), "None")
	i.Elastic = p.Cluster != nil && p.Cluster.ClusterSize != nil && *p.Cluster.ClusterSize > 0
	if p.HighAvailability != nil {
		i.HA = or(str(p.HighAvailability.Mode), "Disabled")
	}
	if n := p.Network; n != nil {
		i.PublicAccess = !strings.EqualFold(str(n.PublicNetworkAccess), "Disabled")
		i.InVNet = str(n.DelegatedSubnetResourceID) != ""
	}
	i.PasswordSignIn = true // the default of a server that says nothing
	if a := p.AuthConfig; a != nil {
		i.PasswordSignIn = strings.EqualFold(or(str(a.PasswordAuth), "Enabled"), "Enabled")
		i.EntraSignIn = strings.EqualFold(str(a.ActiveDirectoryAuth), "Enabled")
		i.TenantID = str(a.TenantID)
	}
	return i
}

// SetSignIn turns sign-in by password and by Entra on, and waits.
func (s *Server) SetSignIn(ctx context.Context) error {
	return s.patch(ctx, "turn on sign-in modes", pg.ServerForPatch{Properties: &pg.ServerPropertiesForPatch{AuthConfig: &pg.AuthConfigForPatch{
		ActiveDirectoryAuth: ptr(pg.MicrosoftEntraAuthEnabled),
		PasswordAuth:        ptr(pg.PasswordBasedAuthEnabled),
	}}})
}

// EnableIdentity gives the server a system-assigned identity beside those that
// it has, and waits.
func (s *Server) EnableIdentity(ctx context.Context, now Info) error {
	kind := pg.IdentityTypeSystemAssigned
	if strings.Contains(now.IdentityType, "UserAssigned") {
		kind = pg.IdentityTypeSystemAssignedUserAssigned
	}
	return s.patch(ctx, "turn on the managed identity", pg.ServerForPatch{Identity: &pg.UserAssignedIdentity{
		Type: &kind, UserAssignedIdentities: now.identityAssigned,
	}})
}

// Administrator is one of the server's administrators in Entra.
type Administrator struct {
	ObjectID string
	Name     string // its role in PostgreSQL
	Type     string // User, Group, ServicePrincipal, Unknown
}

// Administrators are the server's administrators in Entra.
func (s *Server) Administrators(ctx context.Context) ([]Administrator, error) {
	var all []Administrator
	for pages := s.admins.NewListByServerPager(s.group, s.name, nil); pages.More(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the Entra administrators of %s: %w", s.name, err)
		}
		for _, a := range page.Value {
			if a != nil && a.Properties != nil {
				all = append(all, Administrator{str(a.Properties.ObjectID), str(a.Properties.PrincipalName), str(a.Properties.PrincipalType)})
			}
		}
	}
	return all, nil
}

func (s *Server) patch(ctx context.Context, what string, p pg.ServerForPatch) error {
	return s.wait.done(ctx, what, func() (poller, error) {
		return begun(s.servers.BeginUpdate(ctx, s.group, s.name, p, nil))
	})
}

// Restart restarts the server, and waits until ARM says that it is done.
func (s *Server) Restart(ctx context.Context) error {
	return s.wait.done(ctx, "restart the server", func() (poller, error) {
		return begun(s.servers.BeginRestart(ctx, s.group, s.name, nil))
	})
}

func ptr[T any](v T) *T { return &v }

func str[S ~string](p *S) string {
	if p == nil {
		return ""
	}
	return string(*p)
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
