package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

// demo is what the steps of the walk share.
type demo struct {
	o    demoOptions
	s    streams
	dir  string
	fail context.CancelCauseFunc // ends the walk when something in the background fails

	emu     *emulator.Emulator
	admin   string // the server administrator's password
	env     map[string]string
	shop    *shop
	shopURL string
	trading *background
	run     *background
	native  *session
	open    *session
	beatID  int64
}

const (
	shopUser     = "shop_app"
	shopPassword = "the shop's own"
	shopPerSec   = 60 // transactions
)

// background is a goroutine of the demo's. Its end, unless it was asked for, is
// the end of the demo.
type background struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func (d *demo) start(ctx context.Context, what string, fn func(context.Context) error) *background {
	ctx, cancel := context.WithCancel(ctx)
	b := &background{cancel, make(chan struct{})}
	go func() {
		defer close(b.done)
		if err := fn(ctx); err != nil && ctx.Err() == nil {
			d.fail(fmt.Errorf("%s: %w", what, err))
		}
	}()
	return b
}

// stop asks it to end and waits until it has; nil is stopped already.
func (b *background) stop() {
	if b != nil {
		b.cancel()
		<-b.done
	}
}

// stop ends everything, the last one started first.
func (d *demo) stop() {
	d.run.stop()
	d.trading.stop()
	for _, ses := range []*session{d.native, d.open} {
		if ses != nil {
			ses.close(context.Background())
		}
	}
	if d.emu != nil {
		if err := d.emu.Close(); err != nil {
			d.s.say("stop the emulator: %v", err)
		}
	}
}

// cause is what ended the walk: what failed in the background, if something did.
func (d *demo) cause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

// command runs one command line in this process, as the shell would, and wants
// its exit code. It shows the line first.
func (d *demo) command(ctx context.Context, want exitCode, args ...string) error {
	d.s.say("  %s", d.s.paint(bold, "$ pgmirror "+strings.Join(args, " ")))
	got := exitCode(execute(ctx, args, d.streams()))
	if got != want {
		return fmt.Errorf("pgmirror %s: exit code %d, want %d", args[0], got, want)
	}
	return nil
}

// streams are those of a command: it sees nothing of this process's environment.
func (d *demo) streams() streams {
	s := d.s
	s.Asks, s.Environ = false, []string{"PGMIRROR_STATE=" + d.path("state")}
	return s
}

func (d *demo) mirrorFlags(name string) []string {
	return []string{"-c", d.path(name + ".yaml"), "--env-file", d.path("emulator.env")}
}

// session opens a mirror as a command does, to ask more than commands show.
func (d *demo) session(ctx context.Context, name string) (*session, error) {
	o := configOptions{file: d.path(name + ".yaml"), envFile: d.path("emulator.env")}
	s := d.streams()
	cfg, err := o.load(ctx, s)
	if err != nil {
		return nil, err
	}
	return openSession(ctx, s, cfg)
}

func (d *demo) startEmulator(ctx context.Context) error {
	log := slog.New(slog.DiscardHandler)
	d.admin = rand.Text()
	emu, err := emulator.Start(ctx, emulator.Options{
		Dir: d.path("emulator"), Listen: "127.0.0.1:0", Log: log, ScanInterval: 200 * time.Millisecond,
		Native: nativeMirror(log, 500*time.Millisecond), Server: emulator.ServerOptions{AdminPassword: d.admin},
	})
	if err != nil {
		return err
	}
	d.emu, d.env = emu, map[string]string{}
	for _, kv := range emu.Env() {
		d.env[kv.Key] = kv.Value
	}
	if err := writeSecret(d.path("emulator.env"), envText(emu.Env())); err != nil {
		return err
	}
	pg := emu.Cluster()
	d.s.say("  PostgreSQL %d at localhost:%d, wal_level still replica", pg.Version, pg.Port)
	for _, name := range []string{"ARM_ENDPOINT", "KEYVAULT_URL", "FABRIC_ENDPOINT", "ONELAKE_DFS_ENDPOINT"} {
		d.s.say("  %-21s %s", name, d.env[name])
	}
	return nil
}

func (d *demo) openShop(ctx context.Context) error {
	if err := d.makeShopUser(ctx); err != nil {
		return err
	}
	d.shopURL = d.emu.Cluster().URL(shopUser, shopPassword, "postgres")
	d.shop = newShop(d.shopURL)
	begun := time.Now()
	rows, err := d.shop.load(ctx)
	if err != nil {
		return err
	}
	d.s.say("  %s with %s rows, owned by %s, loaded in %s", plural(len(shopNative)+len(shopOthers), "table"), count(rows), shopUser, seconds(time.Since(begun)))
	d.openDoors(ctx)
	d.s.say("  %s does about %d transactions a second from now on", shopUser, shopPerSec)
	return nil
}

// makeShopUser makes the application's role as the server's administrator.
func (d *demo) makeShopUser(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.emu.Cluster().URL("pgadmin", d.admin, "postgres"))
	if err != nil {
		return fmt.Errorf("sign in as the administrator: %w", err)
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'; GRANT CREATE ON SCHEMA public TO %[1]s`, shopUser, strings.ReplaceAll(shopPassword, "'", "''")))
	return err
}

func (d *demo) openDoors(ctx context.Context) {
	d.trading = d.start(ctx, "the shop", func(ctx context.Context) error { return d.shop.write(ctx, shopPerSec) })
}

func (d *demo) writeConfigs(context.Context) error {
	listed := ""
	for _, t := range append(shopNative, "products") {
		listed += "\n    - public." + t
	}
	files := map[string]string{
		"native.yaml": "# Fabric pulls from an Azure flexible server.\nname: shop\nmode: native\nmirror:\n  tables:" + listed + "\n",
		"open.yaml":   "# pgmirror pushes: for any PostgreSQL.\nname: shop\nmode: open\nmirror:\n  name: pg-open-shop\n  tables: [public.*]\nrun:\n  freshness: 500ms\n",
	}
	for _, name := range []string{"native.yaml", "open.yaml"} {
		if err := os.WriteFile(d.path(name), []byte(files[name]), 0o644); err != nil {
			return err
		}
		d.s.say("  %s", d.path(name))
	}
	d.s.say("  Where everything is stands in %s", d.path("emulator.env"))
	return nil
}

// keepRunning lets the shop trade on until Ctrl-C.
func (d *demo) keepRunning(ctx context.Context) error {
	d.openDoors(ctx)
	d.s.say("\nEverything goes on, the shop too, until Ctrl-C. Try:\n  pgmirror status %s", strings.Join(d.mirrorFlags("open"), " "))
	<-ctx.Done()
	if err := d.cause(ctx, nil); err != nil {
		return err
	}
	return nil // Ctrl-C is how it ends
}
