package setup

import "testing"

func TestShellLine(t *testing.T) {
	got := ShellLine("pgmirror", "tables", "add", "public.orders", "public.Odd; name", "it's", "")
	if want := `pgmirror tables add public.orders 'public.Odd; name' 'it'\''s' ''`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
