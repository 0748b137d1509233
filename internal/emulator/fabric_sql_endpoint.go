package emulator

import (
	"net/http"
	"time"
)

func (f *fabric) listEndpoints(c *call) (reply, error) {
	all := []map[string]any{}
	f.state.look(func(s *state) {
		for _, it := range s.Items {
			if it.Workspace == c.vars["workspace"] && it.Type == endpointType && f.visible(s, it) {
				all = append(all, it.body())
			}
		}
	})
	return list(f, c, "value", all)
}

// refreshMetadata tells of each table of the mirror that the endpoint stands
// for. There is no SQL endpoint to be refreshed here: it answers for those that
// have been synchronized.
func (f *fabric) refreshMetadata(c *call) (reply, error) {
	var parent string
	err := f.state.read(func(s *state) error {
		it, err := f.item(s, c)
		if err == nil && it.Type != endpointType {
			err = faultf(http.StatusNotFound, "ItemNotFound", "The requested item '%s' was not found.", it.ID)
		}
		if err == nil {
			parent = it.Parent
		}
		return err
	})
	if err != nil {
		return reply{}, err
	}
	now := f.now().UTC().Format(time.RFC3339)
	tables := []any{}
	for _, t := range f.mirrors.status(parent) {
		if t.Metrics.Last != never {
			tables = append(tables, map[string]any{"tableName": t.Table, "status": "Success", "startDateTime": now, "endDateTime": now, "lastSuccessfulSyncDateTime": t.Metrics.Last})
		}
	}
	return f.maybeLater(c, reply{http.StatusOK, map[string]any{"value": tables}})
}
