package config

import "testing"

// FuzzParse reads any file: what it sets has a path and a line.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"mode: open\nmirror:\n  name: a\n  tables: [public.*]\n", "", "---\n---\n", "a: &a [*a]", "mirror: {name: x}\nmirror: 1", "? [a]\n: b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, set, err := parse(data)
		if err == nil && c == nil {
			t.Error("neither a configuration nor an error")
		}
		for _, s := range set {
			if s.path == "" || s.line < 1 {
				t.Errorf("%q sets %q at line %d", data, s.path, s.line)
			}
		}
	})
}

// FuzzReference: a reference names a vault and a secret.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"akvs://s/v/n", "akvs:////", "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/n/1)", "@Microsoft.KeyVault(VaultName=v;SecretName=n)", "@Microsoft.KeyVault()", "text"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if r, ok := ParseReference(text, ""); ok && (r.Vault == "" || r.Name == "") {
			t.Errorf("%q is %+v", text, r)
		}
	})
}

// FuzzColumnType: what is shown of a type is read as the same again.
func FuzzColumnType(f *testing.F) {
	for _, s := range []string{"public.a.v=text", "s.t.c=decimal(20,4)", "*.?.a=b=decimal( 38 , 0 )", "a.b=text"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseColumnType(text)
		if err != nil {
			return
		}
		if again, err := parseColumnType(c.String()); err != nil || again != c {
			t.Errorf("%q is %+v, shown as %q it is %+v, %v", text, c, c, again, err)
		}
	})
}
