package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// stateVersion is the format of state.json. Another one is refused.
const stateVersion = 1

// state is all that outlives a restart of the emulator, apart from the cluster's
// and OneLake's own directories. It holds the secrets of the emulated vault and
// is readable by its owner only.
type state struct {
	Version      int            `json:"version"`
	Ports        map[string]int `json:"ports"`
	Tokens       tokens         `json:"tokens"`
	Tenant       string         `json:"tenant"`
	Subscription string         `json:"subscription"`
	Group        string         `json:"resourceGroup"`
	Location     string         `json:"location"`
	User         string         `json:"user"` // object id of whoever holds the tokens
	CapacityID   string         `json:"capacityId"`
	Control      string         `json:"control"` // opens the emulator's own endpoint
	World        worldState     `json:"world"`

	Server      serverState                 `json:"server"`
	Vault       vaultState                  `json:"vault"`
	Workspaces  []*workspaceState           `json:"workspaces"`
	Connections []*connectionState          `json:"connections"`
	Gateways    []*gatewayState             `json:"gateways"`
	Items       []*itemState                `json:"items"`
	Operations  map[string]*fabricOperation `json:"operations"`
}

// serverState is the flexible server as ARM shows it, without what the cluster
// itself knows.
type serverState struct {
	Name          string `json:"name"`
	Superuser     string `json:"superuser"`
	SuperPassword string `json:"superPassword"`
	Admin         string `json:"admin"`
	Port          int    `json:"port"`
	Prepared      bool   `json:"prepared"` // roles and owners of a new server are made

	Tier           string                        `json:"tier"`
	SKU            string                        `json:"sku"`
	HA             string                        `json:"highAvailability"`
	Status         string                        `json:"state"`
	EntraAuth      string                        `json:"activeDirectoryAuth"`
	PasswordAuth   string                        `json:"passwordAuth"`
	Public         string                        `json:"publicNetworkAccess"`
	Identity       string                        `json:"identity"` // None, SystemAssigned…
	Principal      string                        `json:"principal"`
	Tags           map[string]string             `json:"tags"`
	Rules          map[string]firewallRule       `json:"firewallRules"`
	Administrators map[string]entraAdministrator `json:"administrators,omitempty"` // Entra's, by object id
	Params         map[string]string             `json:"parameters"`               // what was asked for, by name
	Running        map[string]string             `json:"runningParameters"`        // static ones of Azure's own, as of the last restart
	Operations     map[string]*armOperation      `json:"operations"`
}

type firewallRule struct {
	Start string `json:"startIpAddress"`
	End   string `json:"endIpAddress"`
}

// vaultState is the Key Vault: its two gates and its secrets.
type vaultState struct {
	Name    string                  `json:"name"`
	Public  string                  `json:"publicNetworkAccess"`
	ACLs    *networkACLs            `json:"networkAcls"`
	Tags    map[string]string       `json:"tags"`
	Secrets map[string]*secretState `json:"secrets"`

	// Until Changed the former gates are in force.
	Changed time.Time  `json:"changed,omitzero"`
	Former  *vaultGate `json:"former,omitempty"`
}

// vaultGate is what lets a caller in by its network.
type vaultGate struct {
	Public string       `json:"publicNetworkAccess"`
	ACLs   *networkACLs `json:"networkAcls"`
}

type networkACLs struct {
	Bypass              string            `json:"bypass,omitempty"`
	DefaultAction       string            `json:"defaultAction,omitempty"`
	IPRules             []json.RawMessage `json:"ipRules"`
	VirtualNetworkRules []json.RawMessage `json:"virtualNetworkRules"`
}

type secretState struct {
	Versions []secretVersion `json:"versions"` // oldest first
	Deleted  *time.Time      `json:"deleted,omitempty"`
}

type secretVersion struct {
	ID          string            `json:"id"`
	Value       string            `json:"value"`
	ContentType string            `json:"contentType,omitempty"`
	Enabled     bool              `json:"enabled"`
	NotBefore   *int64            `json:"nbf,omitempty"`
	Expires     *int64            `json:"exp,omitempty"`
	Created     int64             `json:"created"`
	Updated     int64             `json:"updated"`
	Tags        map[string]string `json:"tags,omitempty"`
}

type workspaceState struct {
	ID          string             `json:"id"`
	Name        string             `json:"name"`
	Description string             `json:"description"`
	Capacity    string             `json:"capacity"`
	Roles       []roleAssignment   `json:"roles"`
	Identity    *workspaceIdentity `json:"identity,omitempty"`
}

type workspaceIdentity struct {
	Application string `json:"application"`
	Principal   string `json:"principal"`
}

type roleAssignment struct {
	ID            string `json:"id"`
	Principal     string `json:"principal"`
	PrincipalType string `json:"principalType"`
	Role          string `json:"role"`
}

type connectionState struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Type         string            `json:"type"`
	Path         string            `json:"path"`
	Parameters   map[string]string `json:"parameters"`
	Connectivity string            `json:"connectivity"`
	Gateway      string            `json:"gateway,omitempty"`
	Privacy      string            `json:"privacy"`
	Encryption   string            `json:"encryption"`
	SingleSignOn string            `json:"singleSignOn"`
	SkipTest     bool              `json:"skipTest"`
	Credentials  credentials       `json:"credentials"`
	Created      time.Time         `json:"created"`
	UserCode     bool              `json:"userCode"`
	InGateway    bool              `json:"inGateway"`
	Roles        []roleAssignment  `json:"roles,omitempty"`
}

// itemState is a Fabric item. A mirrored database has a definition and a
// mirror; its SQL endpoint is an item of its own with Parent set.
type itemState struct {
	ID          string          `json:"id"`
	Workspace   string          `json:"workspace"`
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parent      string          `json:"parent,omitempty"`
	Endpoint    string          `json:"endpoint,omitempty"` // id of the SQL endpoint
	Ready       time.Time       `json:"ready"`              // initialized from then on
	Definition  json.RawMessage `json:"definition,omitempty"`
	Mirroring   string          `json:"mirroring"`       // "", Running, Stopped: what was asked for last; Paused: with the capacity
	Begins      time.Time       `json:"begins,omitzero"` // Starting until then
	Generation  int             `json:"generation"`
	Tables      []tableStatus   `json:"tables,omitempty"` // as they were when it ended
	Reseed      bool            `json:"reseed,omitempty"` // its tables are dropped before it runs
}

// stateFile guards the state and writes it down after every change.
type stateFile struct {
	path string
	mu   sync.Mutex
	s    *state
}

// openState reads the state at path. fresh says that there was none.
func openState(path string) (f *stateFile, fresh bool, err error) {
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &stateFile{path: path, s: &state{Version: stateVersion}}, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the emulator's state: %w", err)
	}
	s := &state{}
	if err := json.Unmarshal(body, s); err != nil {
		return nil, false, fmt.Errorf("read the emulator's state in %s: %w", path, err)
	}
	if s.Version != stateVersion {
		return nil, false, fmt.Errorf("read the emulator's state in %s: its version is %d, this program knows %d; use another directory", path, s.Version, stateVersion)
	}
	return &stateFile{path: path, s: s}, false, nil
}

// look lets fn read the state. fn must keep nothing of it.
func (f *stateFile) look(fn func(s *state)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f.s)
}

// read is look for what may not be there.
func (f *stateFile) read(fn func(s *state) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fn(f.s)
}

// change lets fn change the state and writes it down before it returns. fn
// checks everything before it changes anything: when it returns an error nothing
// is written.
func (f *stateFile) change(fn func(s *state) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := fn(f.s); err != nil {
		return err
	}
	body, err := json.MarshalIndent(f.s, "", " ")
	if err != nil {
		return fmt.Errorf("write the emulator's state: %w", err)
	}
	if err := replaceFile(f.path, body, 0o600); err != nil {
		return fmt.Errorf("write the emulator's state: %w", err)
	}
	return nil
}
