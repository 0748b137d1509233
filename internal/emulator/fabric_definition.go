package emulator

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// definition is an item's definition as it travels.
type definition struct {
	Format string           `json:"format,omitempty"`
	Parts  []definitionPart `json:"parts"`
}

type definitionPart struct {
	Path        string `json:"path"`
	Payload     string `json:"payload"`
	PayloadType string `json:"payloadType"`
}

// mirroring is mirroring.json, the part that says what is mirrored.
type mirroring struct {
	Properties struct {
		Source struct {
			Type           string          `json:"type"`
			TypeProperties mirroringSource `json:"typeProperties"`
		} `json:"source"`
		Target struct {
			Type           string          `json:"type"`
			TypeProperties mirroringTarget `json:"typeProperties"`
		} `json:"target"`
		MountedTables *[]mountedTable `json:"mountedTables"`
	} `json:"properties"`
}

type mirroringSource struct {
	Connection string `json:"connection"`
	Database   string `json:"database"`
}

type mirroringTarget struct {
	DefaultSchema string `json:"defaultSchema"`
	Format        string `json:"format"`
	Retention     *int   `json:"retentionInDays"`
	ChangeFeed    *bool  `json:"enableDeltaChangeDataFeed"`
}

type mountedTable struct {
	Source struct {
		TypeProperties struct {
			Schema string `json:"schemaName"`
			Table  string `json:"tableName"`
		} `json:"typeProperties"`
	} `json:"source"`
}

const (
	mirroringPart = "mirroring.json"
	platformPart  = ".platform"

	openSource   = "GenericMirror"
	nativeSource = "AzurePostgreSql"
)

var sourceTypes = []string{"AzureMySql", nativeSource, "AzureSqlDatabase", "AzureSqlMI", "CosmosDb", openSource, "GoogleBigQuery", "MSSQL", "Oracle",
	"SAP", "SharePointList", "Snowflake", "SqlServer2025"}

func corrupted(why string) *fault {
	return faultf(http.StatusBadRequest, "CorruptedPayload", "The provided payload is corrupted: %s", why)
}

// mirroring returns mirroring.json, compacted, after it was checked, and the
// .platform part if there is one.
func (d *definition) mirroring() (text json.RawMessage, platform []byte, e *fault) {
	var body []byte
	for _, p := range d.Parts {
		if p.PayloadType != "InlineBase64" {
			return nil, nil, corrupted("the payload type of " + p.Path + " must be InlineBase64")
		}
		raw, err := base64.StdEncoding.DecodeString(p.Payload)
		if err != nil {
			return nil, nil, corrupted("the payload of " + p.Path + " is not base64")
		}
		switch p.Path {
		case mirroringPart:
			body = raw
		case platformPart:
			platform = raw
		default:
			return nil, nil, faultf(http.StatusBadRequest, "InvalidDefinitionParts", "The definition has a part that is not expected: %s", p.Path)
		}
	}
	if body == nil {
		return nil, nil, faultf(http.StatusBadRequest, "MissingDefinitionParts", "The definition lacks the part %s", mirroringPart)
	}
	text, e = checkMirroring(body)
	return text, platform, e
}

func checkMirroring(body []byte) (json.RawMessage, *fault) {
	var m mirroring
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, corrupted(mirroringPart + " is not the JSON that is expected: " + jsonProblem(err))
	}
	p := m.Properties
	switch {
	case !slices.Contains(sourceTypes, p.Source.Type):
		return nil, corrupted("properties.source.type is not known: " + p.Source.Type)
	case p.Source.Type != openSource && p.Source.Type != nativeSource:
		return nil, corrupted("the emulator mirrors " + openSource + " and " + nativeSource + " only, not " + p.Source.Type)
	case p.Target.Type != "MountedRelationalDatabase":
		return nil, corrupted("properties.target.type must be MountedRelationalDatabase")
	case p.Target.TypeProperties.Format != "Delta":
		return nil, corrupted("properties.target.typeProperties.format must be Delta")
	case p.Target.TypeProperties.Retention != nil && (*p.Target.TypeProperties.Retention < 1 || *p.Target.TypeProperties.Retention > 30):
		return nil, corrupted("retentionInDays must be 1 to 30")
	case p.Source.Type == nativeSource && p.Source.TypeProperties.Connection == "":
		return nil, corrupted("properties.source.typeProperties.connection is required")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil {
		return nil, corrupted(mirroringPart + " is not JSON")
	}
	return compact.Bytes(), nil
}

// checkSource wants the connection of a native mirror to be there and to lead to
// PostgreSQL.
func (s *state) checkSource(it *itemState) *fault {
	p := it.parsed().Properties.Source
	if p.Type != nativeSource {
		return nil
	}
	cn, err := s.connection(strings.ToLower(p.TypeProperties.Connection))
	if err != nil || !strings.HasSuffix(cn.Type, "PostgreSQL") {
		return corrupted("properties.source.typeProperties.connection is not a connection to PostgreSQL: " + p.TypeProperties.Connection)
	}
	return nil
}

// getDefinition re-serialises: pretty-printed, CRLF, with a .platform part.
func (f *fabric) getDefinition(c *call) (reply, error) {
	var parts []definitionPart
	err := f.state.read(func(s *state) error {
		it, err := f.mirrorItem(s, c)
		if err != nil {
			return err
		}
		if it.Definition != nil {
			parts = append(parts, part(mirroringPart, pretty(it.Definition)))
		}
		parts = append(parts, part(platformPart, it.platform()))
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return f.maybeLater(c, reply{http.StatusOK, map[string]any{"definition": definition{Parts: parts}}})
}

func part(path string, body []byte) definitionPart {
	return definitionPart{Path: path, Payload: base64.StdEncoding.EncodeToString(body), PayloadType: "InlineBase64"}
}

func pretty(text json.RawMessage) []byte {
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") != nil {
		return text // it was JSON when it came in
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\r\n"))
}

// platform is the part that every item has.
func (it *itemState) platform() []byte {
	body, err := json.Marshal(struct {
		Schema   string         `json:"$schema"`
		Metadata map[string]any `json:"metadata"`
		Config   map[string]any `json:"config"`
	}{
		"https://developer.microsoft.com/json-schemas/fabric/gitIntegration/platformProperties/2.0.0/schema.json",
		map[string]any{"type": it.Type, "displayName": it.Name, "description": it.Description},
		map[string]any{"version": "2.0", "logicalId": "00000000-0000-0000-0000-000000000000"},
	})
	if err != nil {
		return nil // plain strings always encode
	}
	return pretty(body)
}

// updateDefinition replaces mirroring.json. While mirroring runs only the list
// of tables may differ.
func (f *fabric) updateDefinition(c *call) (reply, error) {
	var in struct {
		Definition *definition `json:"definition"`
	}
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	if in.Definition == nil {
		return reply{}, faultf(http.StatusBadRequest, "MissingDefinition", "The definition is missing")
	}
	text, platform, e := in.Definition.mirroring()
	if e != nil {
		return reply{}, e
	}
	err := f.state.change(func(s *state) error { return f.redefine(s, c, text, platform) })
	if err != nil {
		return reply{}, err
	}
	f.mirrors.edge()
	return f.maybeLater(c, reply{status: http.StatusOK})
}

func (f *fabric) redefine(s *state, c *call, text json.RawMessage, platform []byte) error {
	it, err := f.mirrorItem(s, c)
	if err != nil {
		return err
	}
	next := *it
	next.Definition = text
	if e := s.checkSource(&next); e != nil {
		return e
	}
	if f.now().Before(it.Ready) {
		return notReady()
	}
	if it.Mirroring == running && !sameButTables(it.parsed(), next.parsed()) {
		return faultf(http.StatusBadRequest, "InvalidItemState", "Connection, database and default schema can be changed only while mirroring is stopped.")
	}
	if platform != nil && queryTrue(c.URL.Query(), "updateMetadata") {
		name, description, e := readPlatform(platform)
		if e != nil {
			return e
		}
		if err := s.rename(it, name, description); err != nil {
			return err
		}
	}
	it.Definition = text
	return nil
}

func sameButTables(a, b mirroring) bool {
	a.Properties.MountedTables, b.Properties.MountedTables = nil, nil
	return reflect.DeepEqual(a, b)
}

func readPlatform(body []byte) (name, description *string, e *fault) {
	var p struct {
		Metadata struct {
			Type        string
			DisplayName *string
			Description *string
		}
	}
	if err := json.Unmarshal(body, &p); err != nil || p.Metadata.Type != mirrorType {
		return nil, nil, faultf(http.StatusBadRequest, "InvalidPlatformFile", "The .platform file is not valid")
	}
	return p.Metadata.DisplayName, p.Metadata.Description, nil
}
