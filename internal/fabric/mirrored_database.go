package fabric

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/microsoft/fabric-sdk-go/fabric/mirroreddatabase"
)

// MirroredDatabase is the item that holds a mirror.
type MirroredDatabase struct {
	ID, WorkspaceID, Name, Description string
	TablesPath                         string // OneLake address of Tables; "" for about a minute after creation
	DefaultSchema                      string
	SQLEndpointStatus                  string // InProgress, Success, Failed; "" for about a minute after creation
	SQLEndpoint                        string // host name of the SQL analytics endpoint
}

const definitionPath = "mirroring.json"

// MirroredDatabases lists a workspace's mirrored databases.
func (c *Client) MirroredDatabases(ctx context.Context, workspace string) ([]MirroredDatabase, error) {
	list, err := all(func(token *string) ([]mirroreddatabase.MirroredDatabase, *string, *string, error) {
		o := &mirroreddatabase.ItemsClientListMirroredDatabasesOptions{ContinuationToken: token}
		r, err := c.items.NewListMirroredDatabasesPager(workspace, o).NextPage(ctx)
		return r.Value, r.ContinuationToken, r.ContinuationURI, err
	})
	if err != nil {
		return nil, fmt.Errorf("list mirrored databases: %w", err)
	}
	out := make([]MirroredDatabase, len(list))
	for i, m := range list {
		out[i] = mirroredDatabase(m)
	}
	return out, nil
}

// MirroredDatabase describes one mirrored database.
func (c *Client) MirroredDatabase(ctx context.Context, workspace, id string) (MirroredDatabase, error) {
	r, err := c.items.GetMirroredDatabase(ctx, workspace, id, nil)
	if err != nil {
		return MirroredDatabase{}, fmt.Errorf("get mirrored database: %w", err)
	}
	if val(r.ID) == "" {
		return MirroredDatabase{}, fmt.Errorf("get mirrored database: %w", errNoID)
	}
	return mirroredDatabase(r.MirroredDatabase), nil
}

// CreateMirroredDatabase makes a mirrored database. It is not usable for about
// a minute after: MirroringStatus says Initializing, and starting fails with
// IsNotReady. IsConflict when the name is taken. The description has at most
// 256 characters.
func (c *Client) CreateMirroredDatabase(ctx context.Context, workspace, name, description string, d Definition) (MirroredDatabase, error) {
	parts, err := definitionParts(d)
	if err != nil {
		return MirroredDatabase{}, fmt.Errorf("create mirrored database: %w", err)
	}
	r, err := c.items.CreateMirroredDatabase(ctx, workspace, mirroreddatabase.CreateMirroredDatabaseRequest{
		DisplayName: &name, Description: optional(description), Definition: parts,
	}, nil)
	if err != nil {
		return MirroredDatabase{}, fmt.Errorf("create mirrored database: %w", err)
	}
	if val(r.ID) == "" {
		return MirroredDatabase{}, fmt.Errorf("create mirrored database: %w", errNoID)
	}
	return mirroredDatabase(r.MirroredDatabase), nil
}

// DeleteMirroredDatabase removes a mirrored database with all its tables.
func (c *Client) DeleteMirroredDatabase(ctx context.Context, workspace, id string) error {
	if _, err := c.items.DeleteMirroredDatabase(ctx, workspace, id, nil); err != nil {
		return fmt.Errorf("delete mirrored database: %w", err)
	}
	return nil
}

// Definition reads a mirrored database's mirroring.json.
func (c *Client) Definition(ctx context.Context, workspace, id string) (Definition, error) {
	p, err := c.items.BeginGetMirroredDatabaseDefinition(ctx, workspace, id, nil)
	if err != nil {
		return Definition{}, fmt.Errorf("get definition: %w", err)
	}
	r, err := p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	if err != nil {
		return Definition{}, fmt.Errorf("get definition: %w", err)
	}
	d, err := findDefinition(r.Definition)
	if err != nil {
		return Definition{}, fmt.Errorf("get definition: %w", err)
	}
	return d, nil
}

// UpdateDefinition replaces a mirrored database's mirroring.json. Connection,
// database and default schema can only change while it is not running.
func (c *Client) UpdateDefinition(ctx context.Context, workspace, id string, d Definition) error {
	parts, err := definitionParts(d)
	if err != nil {
		return fmt.Errorf("update definition: %w", err)
	}
	req := mirroreddatabase.UpdateMirroredDatabaseDefinitionRequest{Definition: parts}
	p, err := c.items.BeginUpdateMirroredDatabaseDefinition(ctx, workspace, id, req, nil)
	if err != nil {
		return fmt.Errorf("update definition: %w", err)
	}
	_, err = p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	if err != nil && Code(err) != "OperationHasNoResult" { // it succeeded and has nothing to show
		return fmt.Errorf("update definition: %w", err)
	}
	return nil
}

func definitionParts(d Definition) (*mirroreddatabase.Definition, error) {
	body, err := d.MarshalJSON()
	if err != nil {
		return nil, err
	}
	path, kind, payload := definitionPath, mirroreddatabase.PayloadTypeInlineBase64, base64.StdEncoding.EncodeToString(body)
	return &mirroreddatabase.Definition{Parts: []mirroreddatabase.DefinitionPart{{Path: &path, Payload: &payload, PayloadType: &kind}}}, nil
}

func findDefinition(d *mirroreddatabase.Definition) (Definition, error) {
	if d == nil {
		return Definition{}, errors.New("the answer has no definition")
	}
	for _, p := range d.Parts {
		if val(p.Path) != definitionPath {
			continue
		}
		body, err := base64.StdEncoding.DecodeString(val(p.Payload))
		if err != nil {
			return Definition{}, fmt.Errorf("decode %s: %w", definitionPath, err)
		}
		return ParseDefinition(body)
	}
	return Definition{}, fmt.Errorf("the definition has no part %s", definitionPath)
}

func mirroredDatabase(m mirroreddatabase.MirroredDatabase) MirroredDatabase {
	out := MirroredDatabase{ID: val(m.ID), WorkspaceID: val(m.WorkspaceID), Name: val(m.DisplayName), Description: val(m.Description)}
	if p := m.Properties; p != nil {
		out.TablesPath, out.DefaultSchema = val(p.OneLakeTablesPath), val(p.DefaultSchema)
		if s := p.SQLEndpointProperties; s != nil {
			out.SQLEndpointStatus, out.SQLEndpoint = string(val(s.ProvisioningStatus)), val(s.ConnectionString)
		}
	}
	return out
}
