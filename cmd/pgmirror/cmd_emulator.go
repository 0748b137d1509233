package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

type emulatorOptions struct {
	dir     string
	env     string
	listen  string
	verbose bool
}

func newEmulatorCmd(s streams) *cobra.Command {
	var o emulatorOptions
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "Run Azure, Key Vault, Fabric and OneLake on this machine, over a real PostgreSQL",
		Long: `One process that answers as ARM, Key Vault, the Fabric REST API and OneLake, over a
private PostgreSQL cluster. Its replicator writes real Delta tables. It listens
on this machine only, with TLS by an authority of its own, until Ctrl-C.

  pgmirror emulator --dir /tmp/fabric --env /tmp/fabric.env
  pgmirror plan --env-file /tmp/fabric.env --config shop.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEmulator(cmd.Context(), o, s) },
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "", "where everything is kept; a directory used before is continued")
	f.StringVar(&o.env, "env", "", "write the endpoints and tokens to this file, as KEY=value lines")
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address to listen on; loopback only")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log every request")
	cmd.MarkFlagRequired("dir")
	cmd.MarkFlagDirname("dir")
	return cmd
}

func runEmulator(ctx context.Context, o emulatorOptions, s streams) error {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(s.Err, &slog.HandlerOptions{Level: level}))
	begun := time.Now()
	e, err := emulator.Start(ctx, emulator.Options{Dir: o.dir, Listen: o.listen, Log: log, Native: nativeMirror(log, time.Second)})
	if err != nil {
		return err
	}
	defer e.Close()
	text := envText(e.Env())
	if o.env == "" {
		if _, err := s.Out.Write([]byte(text)); err != nil {
			return err
		}
	} else if err := writeSecret(o.env, text); err != nil {
		return err
	} else {
		s.say("wrote %s", o.env)
	}
	s.say("ready after %s; stop it with Ctrl-C", seconds(time.Since(begun)))
	<-ctx.Done()
	s.say("stopping")
	return e.Close()
}

func envText(env []emulator.KV) string {
	var b strings.Builder
	for _, kv := range env {
		b.WriteString(kv.Key + "=" + kv.Value + "\n")
	}
	return b.String()
}

// writeSecret writes a file that holds tokens, readable by its owner only. It
// appears whole: who waits for it never reads a half.
func writeSecret(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pgmirror-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when it was renamed
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
