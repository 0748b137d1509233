package emulator

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// The audiences that the emulated services accept, one each, as in the real
// cloud (scope minus "/.default").
const (
	audienceFabric  = "https://api.fabric.microsoft.com"
	audienceARM     = "https://management.azure.com"
	audienceVault   = "https://vault.azure.net"
	audienceStorage = "https://storage.azure.com"

	audiencePostgres = "https://ossrdbms-aad.database.windows.net" // of a sign-in to PostgreSQL, in place of a password
)

// token is one bearer token that the emulator gave out. It says nothing by
// itself: what it is for and until when stands here.
type token struct {
	Value    string    `json:"value"`
	Audience string    `json:"audience"`
	Expires  time.Time `json:"expires"`
}

// tokens is what may sign in, looked up in constant time per token.
type tokens []token

// How a request's token was refused.
type refusal string

const (
	refusedNone     refusal = ""
	refusedMissing  refusal = "missing"
	refusedUnknown  refusal = "unknown"
	refusedAudience refusal = "audience"
	refusedExpired  refusal = "expired"
)

func mint(audience string, expires time.Time) token {
	b := make([]byte, 32)
	rand.Read(b)
	return token{Value: "emu_" + base64.RawURLEncoding.EncodeToString(b), Audience: audience, Expires: expires}
}

// mintFor is a token that says whose it is: whoever signs in to PostgreSQL with it
// has to know as whom. Nobody signed that; it counts because it is known here.
func mintFor(audience, tenant, user string, expires time.Time) token {
	t := mint(audience, expires)
	claims, _ := json.Marshal(map[string]any{"aud": audience, "tid": tenant, "oid": user, "exp": expires.Unix()}) // texts and a number always marshal
	b64 := base64.RawURLEncoding.EncodeToString
	t.Value = b64([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + b64(claims) + "." + t.Value
	return t
}

// check judges the Authorization header of r for one audience.
func (ts tokens) check(r *http.Request, audience string, now time.Time) (found token, why refusal) {
	ok, value := bearerOf(r)
	if !ok {
		return token{}, refusedMissing
	}
	for _, t := range ts {
		if sameSecret(t.Value, value) {
			return t, t.judge(audience, now)
		}
	}
	return token{}, refusedUnknown
}

func bearerOf(r *http.Request) (ok bool, value string) {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && value != "", value
}

func sameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (t token) judge(audience string, now time.Time) refusal {
	switch {
	case t.Audience != audience:
		return refusedAudience
	case !now.Before(t.Expires):
		return refusedExpired
	}
	return refusedNone
}

func (ts tokens) value(audience string) string {
	for _, t := range ts {
		if t.Audience == audience {
			return t.Value
		}
	}
	return ""
}
