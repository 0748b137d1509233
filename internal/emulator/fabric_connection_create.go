package emulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// connectionInput is the body of create and update.
type connectionInput struct {
	Connectivity string             `json:"connectivityType"`
	Name         *string            `json:"displayName"`
	Gateway      string             `json:"gatewayId"`
	Details      *connectionDetails `json:"connectionDetails"`
	Privacy      *string            `json:"privacyLevel"`
	Credentials  *credentialDetails `json:"credentialDetails"`
	InGateway    *bool              `json:"allowConnectionUsageInGateway"`
	UserCode     *bool              `json:"allowUsageInUserControlledCode"`
}

type connectionDetails struct {
	Type       string `json:"type"`
	Method     string `json:"creationMethod"`
	Parameters []struct {
		Name     string          `json:"name"`
		DataType string          `json:"dataType"`
		Value    json.RawMessage `json:"value"`
	} `json:"parameters"`
}

type credentialDetails struct {
	SingleSignOn string           `json:"singleSignOnType"`
	Encryption   string           `json:"connectionEncryption"`
	SkipTest     bool             `json:"skipTestConnection"`
	Credentials  credentialsInput `json:"credentials"`
}

type credentialsInput struct {
	Type      string           `json:"credentialType"`
	Username  string           `json:"username"`
	Password  *string          `json:"password"`
	Reference *secretReference `json:"passwordReference"`

	Tenant    string          `json:"tenantId"`
	Client    string          `json:"servicePrincipalClientId"`
	Secret    *string         `json:"servicePrincipalSecret"`
	SecretRef json.RawMessage `json:"servicePrincipalSecretReference"`
}

// The kinds of connectivity that can be made here.
const (
	cloudConnection   = "ShareableCloud"
	gatewayConnection = "VirtualNetworkGateway"
)

// defaultPrivacy is of a connection that says nothing.
const defaultPrivacy = "Organizational"

var privacyLevels = []string{"None", "Private", "Organizational", "Public"}

// createConnection makes a cloud connection after it signed in with it.
func (f *fabric) createConnection(c *call) (reply, error) {
	var in connectionInput
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	cn, e := in.connection(newID())
	if e != nil {
		return reply{}, e
	}
	err := f.state.read(func(s *state) error {
		cn.Roles = []roleAssignment{{ID: s.User, Principal: s.User, PrincipalType: "User", Role: "Owner"}}
		if cn.Gateway != "" {
			if _, err := s.gateway(cn.Gateway); err != nil {
				return err
			}
		}
		return s.nameFree(cn.Name, "")
	})
	if err != nil {
		return reply{}, err
	}
	if e := f.tried(c, cn); e != nil {
		return reply{}, e
	}
	cn.Created = f.now()
	err = f.state.change(func(s *state) error {
		if err := s.nameFree(cn.Name, ""); err != nil {
			return err
		}
		s.Connections = append(s.Connections, cn)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	f.location(c, "/connections/%s", cn.ID)
	return reply{http.StatusCreated, cn.body()}, nil
}

// tried signs in with a connection, unless that is to be skipped.
func (f *fabric) tried(c *call, cn *connectionState) *fault {
	if cn.SkipTest {
		return nil
	}
	return f.signIn(c.Context(), cn)
}

func (s *state) nameFree(name, except string) error {
	for _, cn := range s.Connections {
		if cn.ID != except && strings.EqualFold(cn.Name, name) {
			return faultf(http.StatusConflict, "DuplicateConnectionName", "The connection DisplayName input is already being used by another connection")
		}
	}
	return nil
}

// connection checks the input as a whole, in the order in which the service's
// error codes narrow down.
func (in *connectionInput) connection(id string) (*connectionState, *fault) {
	switch {
	case in.Connectivity == "":
		return nil, invalidInput("connectivityType is required")
	case in.Connectivity != cloudConnection && in.Connectivity != gatewayConnection:
		return nil, faultf(http.StatusBadRequest, "UnsupportedConnectivityTypeInput", "The ConnectivityType input is not supported for this API: %s", in.Connectivity)
	case (in.Gateway != "") != (in.Connectivity == gatewayConnection):
		return nil, invalidInput("gatewayId is required for a connection by a gateway, and for no other")
	case in.Name == nil || *in.Name == "" || len(*in.Name) > 200:
		return nil, invalidInput("displayName is required and has at most 200 characters")
	case !slices.Contains(privacyLevels, or(in.Privacy, defaultPrivacy)):
		return nil, faultf(http.StatusBadRequest, "UnsupportedPrivacyLevelInput", "The PrivacyLevel input is not supported")
	case in.Details == nil:
		return nil, invalidConnection("connectionDetails is required")
	case in.Credentials == nil:
		return nil, invalidCredential("credentialDetails is required")
	}
	cn := &connectionState{ID: id, Name: *in.Name, Connectivity: in.Connectivity, Gateway: strings.ToLower(in.Gateway), Privacy: or(in.Privacy, defaultPrivacy)}
	cn.UserCode, cn.InGateway = or(in.UserCode, false), or(in.InGateway, false)
	kind, e := in.Details.fill(cn)
	if e != nil {
		return nil, e
	}
	if e := in.Credentials.fill(cn, kind); e != nil {
		return nil, e
	}
	if cn.UserCode && !slices.Contains(kind.UserCode, cn.Credentials.Type) {
		return nil, invalidCredential("usage in user-controlled code is not supported for this connection and credential type")
	}
	return cn, nil
}

func invalidConnection(why string) *fault {
	return faultf(http.StatusBadRequest, "InvalidConnectionDetails", "The ConnectionDetails input is invalid: %s", why)
}

func invalidCredential(why string) *fault {
	return faultf(http.StatusBadRequest, "InvalidCredentialDetails", "The CredentialDetails input is invalid: %s", why)
}

// fill takes over type and parameters; every name counts by its case.
func (d *connectionDetails) fill(cn *connectionState) (connectionType, *fault) {
	kind, ok := findConnectionType(d.Type)
	if !ok {
		return kind, invalidConnection("the connection type is not supported: " + d.Type)
	}
	method, ok := kind.method(d.Method)
	if !ok {
		return kind, invalidConnection("the creation method is not supported for " + d.Type + ": " + d.Method)
	}
	values, e := d.values(method)
	if e != nil {
		return kind, e
	}
	var path []string
	for _, p := range method.Parameters {
		v, given := values[p.Name]
		if p.Required && (!given || v == "") {
			return kind, invalidConnection("the parameter is required: " + p.Name)
		}
		if p.Required {
			path = append(path, v)
		}
	}
	cn.Type, cn.Parameters, cn.Path = d.Type, values, strings.Join(path, ";")
	return kind, nil
}

func (d *connectionDetails) values(m creationMethod) (map[string]string, *fault) {
	values := map[string]string{}
	for _, p := range d.Parameters {
		i := slices.IndexFunc(m.Parameters, func(mp methodParameter) bool { return mp.Name == p.Name })
		switch {
		case i < 0:
			return nil, invalidConnection("the parameter is not one of " + m.Name + ": " + p.Name)
		case m.Parameters[i].DataType != p.DataType:
			return nil, invalidConnection("the data type of the parameter " + p.Name + " must be " + m.Parameters[i].DataType)
		}
		var v string
		if err := json.Unmarshal(p.Value, &v); err != nil {
			return nil, invalidConnection("the value of the parameter " + p.Name + " must be a text")
		}
		if _, twice := values[p.Name]; twice {
			return nil, invalidConnection("the parameter is given twice: " + p.Name)
		}
		values[p.Name] = v
	}
	return values, nil
}

// fill takes over what to sign in with.
func (d *credentialDetails) fill(cn *connectionState, kind connectionType) *fault {
	cn.SingleSignOn, cn.Encryption, cn.SkipTest = firstNonEmpty(d.SingleSignOn, "None"), firstNonEmpty(d.Encryption, "NotEncrypted"), d.SkipTest
	switch {
	case cn.SingleSignOn != "None":
		return faultf(http.StatusBadRequest, "UnsupportedSingleSignOnTypeInput", "The SingleSignOnType input is not supported: %s", cn.SingleSignOn)
	case !slices.Contains(kind.Encryptions, cn.Encryption):
		return faultf(http.StatusBadRequest, "UnsupportedConnectionEncryptionInput", "The ConnectionEncryption input is not supported: %s", cn.Encryption)
	case d.SkipTest && !kind.SkipTest && cn.Gateway == "":
		return faultf(http.StatusBadRequest, "SkipTestConnectionNotSupported", "Skip test connection is not supported for this connection")
	case !slices.Contains(kind.Credentials, d.Credentials.Type):
		return faultf(http.StatusBadRequest, "UnsupportedCredentialTypeInput", "The CredentialType input is not supported for this API: %s. Supported values: %s",
			d.Credentials.Type, strings.Join(kind.Credentials, ", "))
	}
	return d.Credentials.fill(cn)
}

// fill knows the kinds of credentials that the API has a class for and a served
// type takes. OAuth2 has none: such a connection is made in the portal.
func (in *credentialsInput) fill(cn *connectionState) *fault {
	switch in.Type {
	case "Basic":
		if in.Username == "" || (in.Password == nil) == (in.Reference == nil) {
			return invalidCredential("Basic needs username and either password or passwordReference")
		}
		if in.Reference != nil && cn.Gateway != "" {
			return invalidCredential("a Key Vault reference is not supported by a virtual network data gateway")
		}
		cn.Credentials = credentials{Type: in.Type, Username: in.Username, Password: or(in.Password, ""), Reference: in.Reference}
		return nil
	case "ServicePrincipal":
		if in.Tenant == "" || in.Client == "" || (in.Secret == nil) == (in.SecretRef == nil) {
			return invalidCredential("ServicePrincipal needs tenantId, servicePrincipalClientId and a secret")
		}
		cn.Credentials = credentials{Type: in.Type, Username: in.Client}
		return nil
	}
	return invalidCredential("the API has no credentials of the type " + in.Type)
}

// patchConnection changes name, privacy level and credentials; what a connection
// leads to can't be changed.
func (f *fabric) patchConnection(c *call) (reply, error) {
	var in connectionInput
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	cn, err := f.connection(c.vars["connection"])
	if err != nil {
		return reply{}, err
	}
	if e := in.patch(&cn); e != nil {
		return reply{}, e
	}
	if in.Credentials != nil {
		if e := f.tried(c, &cn); e != nil {
			return reply{}, e
		}
	}
	err = f.state.change(func(s *state) error {
		if err := s.nameFree(cn.Name, cn.ID); err != nil {
			return err
		}
		old, err := s.connection(cn.ID)
		if err == nil {
			*old = cn
		}
		return err
	})
	if err != nil {
		return reply{}, err
	}
	f.mirrors.edge()
	return reply{http.StatusOK, cn.body()}, nil
}

func (in *connectionInput) patch(cn *connectionState) *fault {
	switch {
	case in.Connectivity != cn.Connectivity:
		return invalidInput("connectivityType must be the connection's own, " + cn.Connectivity)
	case in.Details != nil:
		return invalidInput("connectionDetails cannot be updated")
	case in.Name != nil && (*in.Name == "" || len(*in.Name) > 200):
		return invalidInput("displayName has 1 to 200 characters")
	case in.Privacy != nil && !slices.Contains(privacyLevels, *in.Privacy):
		return faultf(http.StatusBadRequest, "UnsupportedPrivacyLevelInput", "The PrivacyLevel input is not supported")
	}
	cn.Name, cn.Privacy, cn.InGateway = or(in.Name, cn.Name), or(in.Privacy, cn.Privacy), or(in.InGateway, cn.InGateway)
	if in.Credentials == nil {
		return nil
	}
	kind, _ := findConnectionType(cn.Type)
	return in.Credentials.fill(cn, kind)
}
