package fabric

import (
	"context"
	"fmt"
	"strings"

	"github.com/microsoft/fabric-sdk-go/fabric/core"
)

// CapacitySKU is the size of a capacity, such as F64; "" when the caller can't see
// the capacity.
func (c *Client) CapacitySKU(ctx context.Context, id string) (string, error) {
	list, err := all(func(token *string) ([]core.Capacity, *string, *string, error) {
		r, err := c.capacities.NewListCapacitiesPager(&core.CapacitiesClientListCapacitiesOptions{ContinuationToken: token}).NextPage(ctx)
		return r.Value, r.ContinuationToken, r.ContinuationURI, err
	})
	if err != nil {
		return "", fmt.Errorf("list capacities: %w", err)
	}
	for _, x := range list {
		if strings.EqualFold(val(x.ID), id) {
			return val(x.SKU), nil
		}
	}
	return "", nil
}
