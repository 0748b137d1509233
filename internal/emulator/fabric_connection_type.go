package emulator

import (
	_ "embed"
	"encoding/json"
	"slices"
)

//go:embed connection_types.json
var connectionTypesJSON []byte

// connectionType is an entry of the recorded list. Names are case-exact.
type connectionType struct {
	Type            string           `json:"type"`
	CreationMethods []creationMethod `json:"creationMethods"`
	Credentials     []string         `json:"supportedCredentialTypes"`
	Encryptions     []string         `json:"supportedConnectionEncryptionTypes"`
	SkipTest        bool             `json:"supportsSkipTestConnection"`
	UserCode        []string         `json:"supportedCredentialTypesForUsageInUserControlledCode"`
}

type creationMethod struct {
	Name       string            `json:"name"`
	Parameters []methodParameter `json:"parameters"`
}

type methodParameter struct {
	Name     string   `json:"name"`
	DataType string   `json:"dataType"`
	Required bool     `json:"required"`
	Allowed  []string `json:"allowedValues"`
}

var connectionTypes = func() []connectionType {
	var file struct{ Value []connectionType }
	if err := json.Unmarshal(connectionTypesJSON, &file); err != nil {
		panic("emulator: connection_types.json: " + err.Error()) // embedded: every test would see it
	}
	return file.Value
}()

// listConnectionTypes serves the recorded entries. Asked for a gateway, the
// service says that the test can be skipped.
func (f *fabric) listConnectionTypes(c *call) (reply, error) {
	types := slices.Clone(connectionTypes)
	if id := c.URL.Query().Get("gatewayId"); id != "" {
		if _, err := f.gateway(id); err != nil {
			return reply{}, err
		}
		for i := range types {
			types[i].SkipTest = true
		}
	}
	return list(f, c, "value", types)
}

func findConnectionType(name string) (connectionType, bool) {
	i := slices.IndexFunc(connectionTypes, func(t connectionType) bool { return t.Type == name })
	if i < 0 {
		return connectionType{}, false
	}
	return connectionTypes[i], true
}

func (t connectionType) method(name string) (creationMethod, bool) {
	i := slices.IndexFunc(t.CreationMethods, func(m creationMethod) bool { return m.Name == name })
	if i < 0 {
		return creationMethod{}, false
	}
	return t.CreationMethods[i], true
}
