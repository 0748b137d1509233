package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

func newConnectionCmd(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "connection",
		Short: "Show what to type into Fabric's connection form",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConnectionShowCmd(s))
	return cmd
}

type connectionShowOptions struct {
	config configOptions
	json   bool
}

func newConnectionShowCmd(s streams) *cobra.Command {
	var o connectionShowOptions
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what to type into Fabric's connection form",
		Long: `Shows the fields of Fabric's form for a new connection, in its order, for when the
connection is made by hand. It names the secret that has the password; it never
shows the password. Then: pgmirror apply --connection-id ID`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runConnectionShow(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "write NDJSON to stdout")
	return cmd
}

func runConnectionShow(ctx context.Context, o connectionShowOptions, s streams) error {
	cfg, err := o.config.loadAll(ctx, s)
	if err != nil {
		return err
	}
	for _, one := range cfg.Each() {
		form, err := connectionForm(ctx, s, one)
		if err != nil {
			return err
		}
		if o.json {
			err = writeConnectionJSON(s, one, form)
		} else {
			err = writeConnection(s, one, form)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// connectionForm asks ARM for the server's name, where the configuration has none.
func connectionForm(ctx context.Context, s streams, cfg *config.Config) ([]setup.Field, error) {
	ses, err := openSession(ctx, s, cfg, looking{until: "server"})
	if err != nil {
		return nil, err
	}
	defer ses.close(ctx)
	if err := setup.Refuse(ses.plan); err != nil && ses.facts.Host == "" {
		return nil, setupFailure(err)
	}
	return ses.clients.ConnectionForm(&ses.facts), nil
}

func writeConnection(s streams, cfg *config.Config, form []setup.Field) error {
	fmt.Fprintf(s.Out, "%s: %s, New\n\n", cfg.MirrorName(), setup.ConnectionPage)
	table := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	for _, field := range form {
		fmt.Fprintf(table, "  %s\t%s\n", field.Name, field.Value)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "\nThen copy the connection's id from its settings, and:\n  %s\n", s.next("pgmirror apply --connection-id ID"))
	return nil
}

func writeConnectionJSON(s streams, cfg *config.Config, form []setup.Field) error {
	lines := []any{newHeader("connection show", cfg)}
	for _, field := range form {
		line, err := typed("field", field)
		if err != nil {
			return err
		}
		lines = append(lines, line)
	}
	return writeLines(s.Out, lines...)
}
