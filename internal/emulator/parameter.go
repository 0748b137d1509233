package emulator

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// parameter is a server parameter as ARM shows it.
type parameter struct {
	Name        string `json:"name"`
	Value       string `json:"-"`
	DataType    string `json:"dataType"`
	Default     string `json:"default"`
	Allowed     string `json:"allowed"`
	Dynamic     bool   `json:"dynamic"`
	ReadOnly    bool   `json:"readOnly"`
	Unit        string `json:"unit"`
	Description string `json:"description"`
	own         bool   // Azure's own: PostgreSQL doesn't know it
	running     string // the value in force
}

//go:embed parameters.json
var parametersJSON []byte

// catalog is what Azure says about parameters beyond what the server knows:
// parameters of its own, and limits of PostgreSQL's.
var catalog = func() (c struct{ Own, Override []parameter }) {
	if err := json.Unmarshal(parametersJSON, &c); err != nil {
		panic("emulator: parameters.json: " + err.Error()) // embedded: every test would see it
	}
	for i := range c.Own {
		c.Own[i].own = true
	}
	return c
}()

// ownParameter returns one of Azure's own parameters.
func ownParameter(name string) (parameter, bool) {
	i := slices.IndexFunc(catalog.Own, func(p parameter) bool { return p.Name == name })
	if i < 0 {
		return parameter{}, false
	}
	return catalog.Own[i], true
}

// ownStatic is what Azure's own static parameters are after a restart.
func ownStatic(params map[string]string) map[string]string {
	running := map[string]string{}
	for _, p := range catalog.Own {
		if !p.Dynamic {
			running[p.Name] = p.Default
			if v, set := params[p.Name]; set {
				running[p.Name] = v
			}
		}
	}
	return running
}

// ownValues is what Azure's own parameters read by default.
func ownValues() map[string]string {
	values := map[string]string{}
	for _, p := range catalog.Own {
		values[p.Name] = p.Default
	}
	return values
}

// settings reads PostgreSQL's parameters; name "" reads all.
func (c *cluster) settings(ctx context.Context, name string) (list []parameter, err error) {
	const q = `SELECT name, setting, vartype, coalesce(boot_val, ''), coalesce(array_to_string(enumvals, ','), ''),
	  coalesce(min_val, ''), coalesce(max_val, ''), context, coalesce(unit, ''), short_desc
	FROM pg_settings WHERE ($1 = '' OR name = $1) AND context <> 'internal' AND category NOT LIKE 'File Locations%'
	  AND category NOT LIKE 'Customized%' AND name NOT LIKE 'ssl\_%' AND name NOT LIKE 'unix\_%' AND name NOT LIKE '%\_file' ORDER BY name`
	err = c.with(ctx, "postgres", func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, q, name)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanSetting)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read parameters: %w", err)
	}
	return list, nil
}

func scanSetting(row pgx.CollectableRow) (p parameter, err error) {
	var kind, enums, low, high, context string
	err = row.Scan(&p.Name, &p.running, &kind, &p.Default, &enums, &low, &high, &context, &p.Unit, &p.Description)
	p.Dynamic, p.ReadOnly = context != "postmaster", false
	switch kind {
	case "bool":
		p.DataType, p.Allowed = "Boolean", "on,off"
	case "enum":
		p.DataType, p.Allowed = "Enumeration", enums
	case "integer":
		p.DataType, p.Allowed = "Integer", low+"-"+high
	case "real":
		p.DataType, p.Allowed = "Numeric", low+"-"+high
	default:
		p.DataType, p.Allowed = "String", ".*"
	}
	p.override()
	return p, err
}

func (p *parameter) override() {
	for _, o := range catalog.Override {
		if o.Name == p.Name {
			p.ReadOnly = o.ReadOnly
			p.Default = firstNonEmpty(o.Default, p.Default)
			p.Allowed = firstNonEmpty(o.Allowed, p.Allowed)
		}
	}
}

func firstNonEmpty(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// allows says whether value is one that the parameter may have.
func (p *parameter) allows(value string) bool {
	switch p.DataType {
	case "Boolean", "Enumeration":
		return slices.Contains(strings.Split(p.Allowed, ","), value)
	case "Set":
		for v := range strings.SplitSeq(value, ",") {
			if v = strings.TrimSpace(v); v != "" && !slices.ContainsFunc(strings.Split(p.Allowed, ","), func(a string) bool { return strings.EqualFold(a, v) }) {
				return false
			}
		}
		return true
	case "Integer", "Numeric":
		return inRange(p.Allowed, value)
	}
	return !strings.ContainsAny(value, "\x00\r\n")
}

// inRange reads "low-high"; both may be negative.
func inRange(allowed, value string) bool {
	i := strings.Index(allowed[min(1, len(allowed)):], "-") + 1
	if i <= 0 {
		return false
	}
	low, err1 := strconv.ParseFloat(allowed[:i], 64)
	high, err2 := strconv.ParseFloat(allowed[i+1:], 64)
	v, err3 := strconv.ParseFloat(value, 64)
	return err1 == nil && err2 == nil && err3 == nil && low <= v && v <= high
}

func (p *parameter) pendingRestart() bool { return !p.Dynamic && p.Value != p.running }

func (p *parameter) body(server string, overridden bool) map[string]any {
	source := "system-default"
	if overridden {
		source = "user-override"
	}
	return map[string]any{
		"id": server + "/configurations/" + p.Name, "name": p.Name, "type": serverType + "/configurations",
		"properties": map[string]any{
			"value": p.Value, "description": p.Description, "defaultValue": p.Default, "dataType": p.DataType, "allowedValues": p.Allowed,
			"source": source, "isDynamicConfig": p.Dynamic, "isReadOnly": p.ReadOnly, "isConfigPendingRestart": p.pendingRestart(),
			"unit": p.Unit, "documentationLink": "https://go.microsoft.com/fwlink/?linkid=2285682",
		},
	}
}
