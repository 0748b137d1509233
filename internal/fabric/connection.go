package fabric

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/microsoft/fabric-sdk-go/fabric/core"
)

// Connection is what Fabric tells of a connection; never its parameters or
// secrets.
type Connection struct {
	ID, Name       string
	Type           string // PostgreSQL, AzurePostgreSQL, …
	Path           string // the parameters' values joined with ";": server;database
	Connectivity   string // ShareableCloud, VirtualNetworkGateway, …
	GatewayID      string
	CredentialType string
	Encryption     string
	Privacy        string
}

var errNoID = errors.New("the answer has no id")

// pollEvery is the pause between two looks at an operation when Fabric doesn't
// name one.
const pollEvery = 2 * time.Second

// Connections lists the connections that the caller may use.
func (c *Client) Connections(ctx context.Context) ([]Connection, error) {
	list, err := all(func(token *string) ([]core.ConnectionClassification, *string, *string, error) {
		r, err := c.connections.NewListConnectionsPager(&core.ConnectionsClientListConnectionsOptions{ContinuationToken: token}).NextPage(ctx)
		return r.Value, r.ContinuationToken, r.ContinuationURI, err
	})
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	out := make([]Connection, 0, len(list))
	for _, x := range list {
		if x != nil {
			out = append(out, connection(x))
		}
	}
	return out, nil
}

// Connection describes one connection.
func (c *Client) Connection(ctx context.Context, id string) (Connection, error) {
	r, err := c.connections.GetConnection(ctx, id, nil)
	if err != nil {
		return Connection{}, fmt.Errorf("get connection: %w", err)
	}
	return known("get connection", r.ConnectionClassification)
}

// DeleteConnection removes a connection.
func (c *Client) DeleteConnection(ctx context.Context, id string) error {
	if _, err := c.connections.DeleteConnection(ctx, id, nil); err != nil {
		return fmt.Errorf("delete connection: %w", err)
	}
	return nil
}

// TestConnection makes Fabric sign in to the source with the connection's own
// credentials. A source that can't be reached or refuses is an *Error with the
// code of the first reason.
func (c *Client) TestConnection(ctx context.Context, id string) error {
	p, err := c.connections.BeginTestConnection(ctx, id, nil)
	if err != nil {
		return fmt.Errorf("test connection: %w", err)
	}
	r, err := p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	if err != nil {
		return fmt.Errorf("test connection: %w", err)
	}
	if status := string(val(r.Status)); status != "Online" {
		return fmt.Errorf("test connection: %w", offline(status, r.Errors))
	}
	return nil
}

func offline(status string, reasons []core.ConnectionStatusError) *Error {
	e := &Error{Status: 200, Code: "ConnectionOffline", Message: fmt.Sprintf("the connection's status is %q", status)}
	for i, r := range reasons {
		if i == 0 {
			e.Code, e.Message = val(r.ErrorCode), val(r.Message)
			continue
		}
		e.Details = append(e.Details, Detail{val(r.ErrorCode), val(r.Message)})
	}
	return e
}

// known refuses an answer that names nothing: an empty body decodes to that.
func known(doing string, x core.ConnectionClassification) (Connection, error) {
	if x == nil || val(x.GetConnection().ID) == "" {
		return Connection{}, fmt.Errorf("%s: %w", doing, errNoID)
	}
	return connection(x), nil
}

func connection(x core.ConnectionClassification) Connection {
	c := x.GetConnection()
	out := Connection{
		ID: val(c.ID), Name: val(c.DisplayName), GatewayID: val(c.GatewayID),
		Connectivity: string(val(c.ConnectivityType)), Privacy: string(val(c.PrivacyLevel)),
	}
	if d := c.ConnectionDetails; d != nil {
		out.Type, out.Path = val(d.Type), val(d.Path)
	}
	if d := c.CredentialDetails; d != nil {
		out.CredentialType, out.Encryption = string(val(d.CredentialType)), string(val(d.ConnectionEncryption))
	}
	return out
}
