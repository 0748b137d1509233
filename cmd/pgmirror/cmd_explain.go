package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
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
			return allCodes(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	return cmd
}

func runExplain(o explainOptions, out io.Writer) error {
	if o.code == "" {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, code := range allCodes() {
			x, _ := explanation(code)
			fmt.Fprintf(w, "%s\t%s\n", code, x.Sentence)
		}
		return w.Flush()
	}
	x, ok := explanation(o.code)
	if !ok {
		return fail(exitError, "CodeUnknown", "pgmirror explain", "there is no code %q", o.code)
	}
	fmt.Fprintf(out, "%s\n  %s\n  %s\n", x.Code, x.Sentence, x.Remedy)
	if x.Next != "" {
		fmt.Fprintf(out, "  next: %s\n", x.Next)
	}
	return nil
}
