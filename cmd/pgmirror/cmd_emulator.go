package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

type emulatorOptions struct {
	emulator.Options
	env     string
	fault   string
	verbose bool
}

// emulatorHelp is a page to work from: TestEmulatorHelp runs what it says.
const emulatorHelp = `One process that answers as ARM, Key Vault, the Fabric REST API and OneLake, over a
private PostgreSQL cluster. Its replicator writes real Delta tables. It needs
PostgreSQL's binaries and nothing else, and listens on this machine only, with TLS
by an authority of its own, until Ctrl-C. Start it, with a landing zone to publish
into:

  pgmirror emulator --dir /tmp/fabric --env /tmp/fabric.env --open-mirror shop &
  until [ -s /tmp/fabric.env ]; do sleep 1; done
  set -a; . /tmp/fabric.env; set +a

Upload a file of yours, orders.parquet, as Microsoft asks: under a name that begins
with an underscore, then renamed to its number. _metadata.json arms the folder.

  lake() { curl -sS --fail-with-body --cacert "$CA_FILE" -H "Authorization: Bearer $STORAGE_TOKEN" "$@"; }
  upload() {
    lake -X PUT "$LANDING_ZONE/$2?resource=file"
    lake -X PATCH "$LANDING_ZONE/$2?action=append&position=0" --data-binary "@$1"
    lake -X PATCH "$LANDING_ZONE/$2?action=flush&position=$(wc -c <"$1" | tr -d ' ')"
  }
  table=sales.schema/orders
  upload orders.parquet $table/_1
  lake -X PUT "$LANDING_ZONE/$table/00000000000000000001.parquet" -H 'If-None-Match: *' \
    -H "x-ms-rename-source: ${LANDING_ZONE#$ONELAKE_DFS_ENDPOINT}/$table/_1"
  printf '{"keyColumns":["id"]}' >metadata.json
  upload metadata.json $table/_metadata.json

Ask Fabric what became of it; the Delta table lies in the directory.

  fabric() { curl -sS --fail-with-body --cacert "$CA_FILE" -H "Authorization: Bearer $FABRIC_TOKEN" "$@"; }
  mirror=$FABRIC_ENDPOINT/v1/workspaces/$FABRIC_WORKSPACE_ID/mirroredDatabases/$MIRRORED_DATABASE_ID
  until fabric -X POST $mirror/getTablesMirroringStatus | grep -E 'Replicating|Failed'; do sleep 1; done
  ls $TABLES_FOLDER/sales/orders/_delta_log

The flexible server is a real one: psql "$POSTGRES_URL", with the vault's secret

  curl -sS --cacert "$CA_FILE" -H "Authorization: Bearer $VAULT_TOKEN" "$KEYVAULT_URL/secrets/postgres-admin-password?api-version=7.5"

and pgmirror sets it up: pgmirror plan --env-file /tmp/fabric.env --config shop.yaml

The emulator is strict: where the services are known to refuse, it refuses, with the
same code. It is fast, unless told otherwise: Fabric itself looks at a landing zone
every 15 to 20 s and takes a minute to make a mirrored database. A directory that was
used before goes on, with the same ids, ports and tokens; remove it to begin anew.
--fault names a JSON array of faults, each for an operation and a number of times.
docs/emulator.md tells of them, of Microsoft's clients for other languages, and of
what is emulated and what is not.`

func newEmulatorCmd(s streams) *cobra.Command {
	var o emulatorOptions
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "Run Azure, Key Vault, Fabric and OneLake on this machine, over a real PostgreSQL",
		Long:  emulatorHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runEmulator(cmd.Context(), o, s) },
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "where everything is kept; a directory used before is continued")
	f.StringVar(&o.env, "env", "", "write the endpoints and tokens to this file, as KEY=value lines")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "address to listen on; loopback only")
	f.StringVar(&o.OpenMirror, "open-mirror", "", "have a running open mirrored database of this name, and tell its landing zone in the environment")
	f.StringVar(&o.PGBin, "pg-bin", "", "directory of initdb and postgres; else the newest that is installed")
	f.StringVar(&o.Server.Tier, "server-tier", "", "tier of a new server: GeneralPurpose, MemoryOptimized or Burstable")
	f.StringVar(&o.Server.HA, "server-ha", "", "high availability of a new server: Disabled, SameZone or ZoneRedundant")
	f.StringVar(&o.Server.Public, "server-public", "", "public access of a new server: Enabled or Disabled")
	f.IntVar(&o.PageSize, "page-size", 0, "entries of a page of Fabric's lists; 0: 100")
	f.StringVar(&o.fault, "fault", "", "a file of faults that are in force from the start")
	f.DurationVar(&o.ScanInterval, "scan-interval", time.Second, "how often the replicators look at their landing zones")
	f.DurationVar(&o.ProvisionDelay, "provision-delay", 0, "how long a new mirrored database is Initializing")
	f.DurationVar(&o.StartDelay, "start-delay", 0, "how long a mirror that is started is Starting")
	f.DurationVar(&o.ARMDelay, "arm-delay", 0, "how long a write to the server takes at least")
	f.DurationVar(&o.OperationDelay, "operation-delay", 0, "how long a Fabric operation takes, with --long-running")
	f.BoolVar(&o.LongRunning, "long-running", false, "Fabric answers 202 and an operation where it may")
	f.IntVar(&o.TableLimit, "table-limit", 0, "tables that an open mirror takes; 0: Fabric's own, 1000")
	f.BoolVar(&o.CopyOnWrite, "rewrite", false, "the replicators rewrite files instead of using deletion vectors")
	f.BoolVar(&o.WithoutNativeLimits, "without-native-limits", false, "native mirrors take types and names that the service refuses")
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
	if o.fault != "" {
		text, err := os.ReadFile(o.fault)
		if err != nil {
			return err
		}
		if o.Faults, err = emulator.ParseFaults(text); err != nil {
			return fmt.Errorf("%s: %w", o.fault, err)
		}
	}
	begun := time.Now()
	o.Log, o.Native = log, nativeMirror(log, time.Second)
	e, err := emulator.Start(ctx, o.Options)
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

// envText is for --env-file and for a shell: what a shell would take apart is
// quoted, and left as it is otherwise, as not everybody who reads such files knows
// quotes.
func envText(env []emulator.KV) string {
	var b strings.Builder
	for _, kv := range env {
		v := kv.Value
		if strings.ContainsAny(v, " \t\n&;<>|$`\\\"'()~") {
			v = "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
		}
		b.WriteString(kv.Key + "=" + v + "\n")
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
