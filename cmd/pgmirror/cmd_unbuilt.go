package main

import "github.com/spf13/cobra"

// unbuilt are the commands that pgmirror will have. They are listed so that
// their names are kept, and they end with an error so that nothing pretends.
var unbuilt = []struct{ use, short, instead string }{
	{"destroy", "Take a mirror down again", "pgmirror plan"},
}

func unbuiltCmds() []func(streams) *cobra.Command {
	var cmds []func(streams) *cobra.Command
	for _, u := range unbuilt {
		cmds = append(cmds, func(streams) *cobra.Command {
			return &cobra.Command{
				Use:                u.use,
				Short:              u.short,
				DisableFlagParsing: true,
				RunE: func(cmd *cobra.Command, args []string) error {
					return fail(exitError, "NotBuilt", u.instead, "%s is not built yet", cmd.Name())
				},
			}
		})
	}
	return cmds
}
