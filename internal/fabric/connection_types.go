package fabric

import (
	"context"
	"fmt"

	"github.com/microsoft/fabric-sdk-go/fabric/core"
)

// ConnectionType is a kind of source that a connection can point at. Names are
// exact, also in case: the type PostgreSQL has the method PostgreSql.
type ConnectionType struct {
	Type        string
	Methods     []CreationMethod
	Credentials []string // Basic, OAuth2, …
	Encryptions []string // Encrypted, Any, NotEncrypted
	SkipTest    bool     // a connection may be made without signing in to the source
}

// CreationMethod is one way to name a source of a ConnectionType.
type CreationMethod struct {
	Name       string
	Parameters []Parameter
}

// Parameter is a part of a source's address, such as server or database.
type Parameter struct {
	Name, DataType string
	Required       bool
	Allowed        []string // nil: any value
}

// ConnectionTypes lists the kinds of sources, with all their creation methods,
// that the cloud ("") or a gateway can connect to.
func (c *Client) ConnectionTypes(ctx context.Context, gatewayID string) ([]ConnectionType, error) {
	every := true
	list, err := all(func(token *string) ([]core.ConnectionCreationMetadata, *string, *string, error) {
		o := &core.ConnectionsClientListSupportedConnectionTypesOptions{
			GatewayID: optional(gatewayID), ShowAllCreationMethods: &every, ContinuationToken: token,
		}
		r, err := c.connections.NewListSupportedConnectionTypesPager(o).NextPage(ctx)
		return r.Value, r.ContinuationToken, r.ContinuationURI, err
	})
	if err != nil {
		return nil, fmt.Errorf("list connection types: %w", err)
	}
	out := make([]ConnectionType, len(list))
	for i, t := range list {
		out[i] = ConnectionType{
			Type:        val(t.Type),
			Credentials: texts(t.SupportedCredentialTypes),
			Encryptions: texts(t.SupportedConnectionEncryptionTypes),
			SkipTest:    val(t.SupportsSkipTestConnection),
		}
		for _, m := range t.CreationMethods {
			out[i].Methods = append(out[i].Methods, creationMethod(m))
		}
	}
	return out, nil
}

func creationMethod(m core.ConnectionCreationMethod) CreationMethod {
	out := CreationMethod{Name: val(m.Name)}
	for _, p := range m.Parameters {
		out.Parameters = append(out.Parameters, Parameter{
			Name: val(p.Name), DataType: string(val(p.DataType)), Required: val(p.Required), Allowed: p.AllowedValues,
		})
	}
	return out
}
