package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

type versionOptions struct{ json bool }

func newVersionCmd(s streams) *cobra.Command {
	var o versionOptions
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return runVersion(o, s.Out) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON line")
	return cmd
}

func runVersion(o versionOptions, out io.Writer) error {
	v := struct {
		Type     string `json:"type"`
		V        int    `json:"v"`
		Version  string `json:"version"`
		Revision string `json:"revision,omitempty"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{"version", 1, "devel", "", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" && info.Main.Version != "(devel)" {
			v.Version = info.Main.Version
		}
		for _, set := range info.Settings {
			if set.Key == "vcs.revision" {
				v.Revision = set.Value[:min(12, len(set.Value))]
			}
		}
	}
	if o.json {
		return json.NewEncoder(out).Encode(v)
	}
	_, err := fmt.Fprintf(out, "pgmirror %s (%s, %s)\n", v.Version, v.Go, v.Platform)
	return err
}
