package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/setup"
)

type explainOptions struct{ code string }

func newExplainCmd(s streams) *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain [CODE]",
		Short: "Tell what an error code means and what to do about it",
		Long: `Tells what an error code means and what to do about it. Without a code it lists
all of them.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.code = args[0]
			}
			return runExplain(o, s.Out)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return setup.Codes(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	return cmd
}

func runExplain(o explainOptions, out io.Writer) error {
	if o.code == "" {
		for _, code := range setup.Codes() {
			x, _ := setup.Explain(code)
			fmt.Fprintf(out, "%-22s %s\n", code, x.Sentence)
		}
		return nil
	}
	x, ok := setup.Explain(o.code)
	if !ok {
		i := slices.IndexFunc(setup.Codes(), func(c string) bool { return strings.EqualFold(c, o.code) })
		if i < 0 {
			return fail(exitError, "CodeUnknown", "pgmirror explain", "there is no code %q", o.code)
		}
		x, _ = setup.Explain(setup.Codes()[i])
	}
	fmt.Fprintf(out, "%s\n  %s\n  %s\n", x.Code, x.Sentence, x.Remedy)
	if x.Next != "" {
		fmt.Fprintf(out, "  next: %s\n", x.Next)
	}
	return nil
}
