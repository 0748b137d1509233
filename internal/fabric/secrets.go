package fabric

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"strings"
)

type secretsKey struct{}

// withSecrets makes the requests under ctx keep these values out of their
// errors, should the service or what stands before it echo them.
func withSecrets(ctx context.Context, values ...string) context.Context {
	return context.WithValue(ctx, secretsKey{}, scrubber(values))
}

func secretsOf(ctx context.Context) *strings.Replacer {
	if r, ok := ctx.Value(secretsKey{}).(*strings.Replacer); ok {
		return r
	}
	return strings.NewReplacer()
}

// scrubber replaces values in every form in which an echo may carry them.
func scrubber(values []string) *strings.Replacer {
	var pairs []string
	for _, v := range values {
		if v == "" {
			continue
		}
		for _, form := range []string{
			v, inJSON(v, true), inJSON(v, false), html.EscapeString(v), url.QueryEscape(v), url.PathEscape(v), base64.StdEncoding.EncodeToString([]byte(v)),
		} {
			pairs = append(pairs, form, "***")
		}
	}
	return strings.NewReplacer(pairs...)
}

func inJSON(v string, escapeHTML bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escapeHTML)
	_ = e.Encode(v)                  // cannot fail: a string
	return b.String()[1 : b.Len()-2] // without the quotes and the line's end
}

// scrub cleans what was decoded: an echo within a JSON string is escaped twice.
func (e *Error) scrub(r *strings.Replacer) {
	e.Code, e.Message = r.Replace(e.Code), r.Replace(e.Message)
	for i, d := range e.Details {
		e.Details[i] = Detail{r.Replace(d.Code), r.Replace(d.Message)}
	}
}
