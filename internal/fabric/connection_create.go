package fabric

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/microsoft/fabric-sdk-go/fabric/core"
)

// NewConnection says how Fabric is to reach a source. It prints as its name
// only, whatever the verb.
type NewConnection struct {
	Name         string
	Type, Method string // as ConnectionTypes gives them
	Parameters   []Value
	GatewayID    string // "" connects through the cloud; else a virtual network gateway
	Username     string
	Password     string           `json:"-"` // or KeyVault
	KeyVault     *SecretReference // Fabric reads the password there itself
	Encryption   string           // Encrypted, NotEncrypted, Any; "" leaves it to Fabric
	Privacy      string           // None, Private, Organizational, Public; "" leaves it to Fabric
}

// Value is one parameter of a connection; DataType "" is Text.
type Value struct{ Name, DataType, Value string }

// SecretReference points at a Key Vault secret, through a connection of type
// AzureKeyVault.
type SecretReference struct{ ConnectionID, Secret string }

// Credentials are a user's name and password, or where the password lies. They
// print as nothing.
type Credentials struct {
	Username   string
	Password   string `json:"-"`
	KeyVault   *SecretReference
	Encryption string // "" leaves it as it is
}

// Format keeps secrets out of every print.
func (n NewConnection) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "connection %q", n.Name) }

// Format keeps secrets out of every print.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprint(f, "credentials") }

// CreateConnection makes a connection with Basic credentials. Fabric signs in
// to the source first: IsCredentialRefused. IsConflict when the name is taken.
func (c *Client) CreateConnection(ctx context.Context, n NewConnection) (Connection, error) {
	req, err := c.createRequest(ctx, n)
	if err != nil {
		return Connection{}, fmt.Errorf("create connection: %w", err)
	}
	r, err := c.connections.CreateConnection(withSecrets(ctx, n.Password, n.Username), req, nil)
	if err != nil {
		return Connection{}, fmt.Errorf("create connection: %w", err)
	}
	return known("create connection", r.ConnectionClassification)
}

func (c *Client) createRequest(ctx context.Context, n NewConnection) (core.CreateConnectionRequestClassification, error) {
	details := &core.CreateConnectionDetails{Type: &n.Type, CreationMethod: &n.Method}
	for _, v := range n.Parameters {
		p, err := parameter(v)
		if err != nil {
			return nil, err
		}
		details.Parameters = append(details.Parameters, p)
	}
	encryption, sso, skip := core.ConnectionEncryption(n.Encryption), core.SingleSignOnTypeNone, false
	credentials := &core.CreateCredentialDetails{
		Credentials:          basic(n.Username, n.Password, n.KeyVault),
		ConnectionEncryption: optional(encryption), SingleSignOnType: &sso, SkipTestConnection: &skip,
	}
	privacy := optional(core.PrivacyLevel(n.Privacy))
	if n.GatewayID == "" {
		kind := core.ConnectivityTypeShareableCloud
		return &core.CreateCloudConnectionRequest{
			ConnectivityType: &kind, DisplayName: &n.Name, ConnectionDetails: details, CredentialDetails: credentials, PrivacyLevel: privacy,
		}, nil
	}
	if err := c.needsVirtualNetwork(ctx, n.GatewayID); err != nil {
		return nil, err
	}
	kind := core.ConnectivityTypeVirtualNetworkGateway
	return &core.CreateVirtualNetworkGatewayConnectionRequest{
		ConnectivityType: &kind, DisplayName: &n.Name, GatewayID: &n.GatewayID, ConnectionDetails: details, CredentialDetails: credentials, PrivacyLevel: privacy,
	}, nil
}

// needsVirtualNetwork refuses gateways on a machine of the user's: their
// credentials have to be encrypted with a key of that machine.
func (c *Client) needsVirtualNetwork(ctx context.Context, gatewayID string) error {
	r, err := c.gateways.GetGateway(ctx, gatewayID, nil)
	if err != nil {
		return fmt.Errorf("get gateway: %w", err)
	}
	if r.GatewayClassification == nil {
		return errors.New("get gateway: the answer is empty")
	}
	if kind := val(r.GetGateway().Type); kind != core.GatewayTypeVirtualNetwork {
		return fmt.Errorf("a connection through a gateway of type %s is not supported: make it in the Fabric portal and give its id", kind)
	}
	return nil
}

// UpdateCredentials replaces what a connection signs in with. Its address
// can't be changed.
func (c *Client) UpdateCredentials(ctx context.Context, id string, n Credentials) error {
	have, err := c.Connection(ctx, id)
	if err != nil {
		return fmt.Errorf("update credentials: %w", err)
	}
	if n.Encryption == "" {
		n.Encryption = have.Encryption
	}
	req, err := updateRequest(have.Connectivity, n)
	if err != nil {
		return fmt.Errorf("update credentials: %w", err)
	}
	if _, err := c.connections.UpdateConnection(withSecrets(ctx, n.Password, n.Username), id, req, nil); err != nil {
		return fmt.Errorf("update credentials: %w", err)
	}
	return nil
}

func updateRequest(connectivity string, n Credentials) (core.UpdateConnectionRequestClassification, error) {
	kind, sso, skip := core.ConnectivityType(connectivity), core.SingleSignOnTypeNone, false
	details := &core.UpdateCredentialDetails{
		Credentials:          basic(n.Username, n.Password, n.KeyVault),
		ConnectionEncryption: optional(core.ConnectionEncryption(n.Encryption)), SingleSignOnType: &sso, SkipTestConnection: &skip,
	}
	switch kind {
	case core.ConnectivityTypeShareableCloud:
		return &core.UpdateShareableCloudConnectionRequest{ConnectivityType: &kind, CredentialDetails: details}, nil
	case core.ConnectivityTypeVirtualNetworkGateway:
		return &core.UpdateVirtualNetworkGatewayConnectionRequest{ConnectivityType: &kind, CredentialDetails: details}, nil
	}
	return nil, fmt.Errorf("a connection of kind %s can't be changed here: change it in the Fabric portal", connectivity)
}

func basic(user, password string, vault *SecretReference) *core.BasicCredentials {
	kind := core.CredentialTypeBasic
	b := &core.BasicCredentials{CredentialType: &kind, Username: &user}
	if vault == nil {
		b.Password = &password
		return b
	}
	b.PasswordReference = &core.KeyVaultSecretReference{ConnectionID: &vault.ConnectionID, SecretName: &vault.Secret}
	return b
}

// parameter gives a value the JSON type that its declared data type asks for.
func parameter(v Value) (core.ConnectionDetailsParameterClassification, error) {
	kind := core.DataType(v.DataType)
	switch kind {
	case "", core.DataTypeText:
		kind = core.DataTypeText
		return &core.ConnectionDetailsTextParameter{DataType: &kind, Name: &v.Name, Value: &v.Value}, nil
	case core.DataTypeDuration:
		return &core.ConnectionDetailsDurationParameter{DataType: &kind, Name: &v.Name, Value: &v.Value}, nil
	case core.DataTypeNumber:
		f, err := strconv.ParseFloat(v.Value, 32)
		if err != nil {
			return nil, fmt.Errorf("connection parameter %s is no number", v.Name)
		}
		n := float32(f)
		return &core.ConnectionDetailsNumberParameter{DataType: &kind, Name: &v.Name, Value: &n}, nil
	case core.DataTypeBoolean:
		b, err := strconv.ParseBool(v.Value)
		if err != nil {
			return nil, fmt.Errorf("connection parameter %s is neither true nor false", v.Name)
		}
		return &core.ConnectionDetailsBooleanParameter{DataType: &kind, Name: &v.Name, Value: &b}, nil
	}
	return nil, fmt.Errorf("connection parameter %s has the type %s, which no PostgreSQL connection asks for", v.Name, v.DataType)
}
