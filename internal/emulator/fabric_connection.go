package emulator

import (
	"net/http"
	"slices"
	"time"
)

// credentials are what a connection signs in with. They are never shown.
type credentials struct {
	Type      string           `json:"type"`
	Username  string           `json:"username,omitempty"`
	Password  string           `json:"password,omitempty"`
	Reference *secretReference `json:"passwordReference,omitempty"`
}

// secretReference names a secret of the Key Vault that another connection leads to.
type secretReference struct {
	ConnectionID string `json:"connectionId"`
	SecretName   string `json:"secretName"`
	Version      string `json:"version"`
}

func (f *fabric) listConnections(c *call) (reply, error) {
	var all []map[string]any
	f.state.look(func(s *state) {
		for _, cn := range s.Connections {
			all = append(all, cn.body())
		}
	})
	return list(f, c, "value", all)
}

func (f *fabric) getConnection(c *call) (reply, error) {
	cn, err := f.connection(c.vars["connection"])
	if err != nil {
		return reply{}, err
	}
	return reply{http.StatusOK, cn.body()}, nil
}

// connection returns a copy.
func (f *fabric) connection(id string) (cn connectionState, err error) {
	err = f.state.read(func(s *state) error {
		found, err := s.connection(id)
		if err == nil {
			cn = *found
		}
		return err
	})
	return cn, err
}

func (s *state) connection(id string) (*connectionState, error) {
	for _, cn := range s.Connections {
		if cn.ID == id {
			return cn, nil
		}
	}
	return nil, faultf(http.StatusNotFound, "EntityNotFound", "The requested connection '%s' was not found", id)
}

// connectionRoles are a connection's; its first owner is who made it.
func (f *fabric) connectionRoles() roles {
	return roles{
		known: connectionRoles,
		twice: faultf(http.StatusConflict, "EntityConflict", "The principal has a role on the connection already"),
		of: func(s *state, c *call) (*[]roleAssignment, error) {
			cn, err := s.connection(c.vars["connection"])
			if err != nil {
				return nil, err
			}
			return &cn.Roles, nil
		},
	}
}

func (f *fabric) deleteConnection(c *call) (reply, error) {
	err := f.state.change(func(s *state) error {
		if _, err := s.connection(c.vars["connection"]); err != nil {
			return err
		}
		s.Connections = slices.DeleteFunc(s.Connections, func(cn *connectionState) bool { return cn.ID == c.vars["connection"] })
		return nil
	})
	if err == nil {
		f.mirrors.edge()
	}
	return reply{status: http.StatusOK}, err
}

// testConnection signs in again.
func (f *fabric) testConnection(c *call) (reply, error) {
	cn, err := f.connection(c.vars["connection"])
	if err != nil {
		return reply{}, err
	}
	status, errors := "Online", []any{}
	if e := f.signIn(c.Context(), &cn); e != nil {
		status, errors = "Offline", []any{map[string]any{"errorCode": e.code, "message": e.message}}
	}
	return f.maybeLater(c, reply{http.StatusOK, map[string]any{"status": status, "errors": errors}})
}

func (cn *connectionState) body() map[string]any {
	body := map[string]any{
		"id": cn.ID, "displayName": cn.Name, "connectivityType": cn.Connectivity, "privacyLevel": cn.Privacy,
		"connectionDetails": map[string]any{"type": cn.Type, "path": cn.Path},
		"credentialDetails": map[string]any{
			"credentialType": cn.Credentials.Type, "singleSignOnType": cn.SingleSignOn, "connectionEncryption": cn.Encryption, "skipTestConnection": cn.SkipTest,
		},
		"connectionRecency":              map[string]any{"createdDateTime": cn.Created.UTC().Format(time.RFC3339)},
		"allowConnectionUsageInGateway":  cn.InGateway,
		"allowUsageInUserControlledCode": cn.UserCode,
	}
	if cn.Gateway != "" {
		body["gatewayId"] = cn.Gateway
	}
	return body
}
