// Package pgmirror mirrors a PostgreSQL database into Microsoft Fabric, and
// proves that the mirror is true. It holds no code: this page tells the walks,
// the packages do the walking.
//
// There are two planes. They meet only in cmd/pgmirror, and arch_test.go holds
// the walls between them.
//
// # A plan
//
//	cmd_plan.go → config.Load → setup.Plan → each step_*.go asks one client → findings → text or JSON
//
// The set-up plane (setup, and azure, fabric, postgres/admin under it) looks
// first, shows what it would do, and does no more than that. There is no state
// file: the truth is the server, the vault and the workspace. `apply` walks the
// same steps in the same order and goes through the same Check.
//
// # A row in production
//
//	postgres.Stream.Next → *batch.Batch → landing.Writer → store.Store
//
// The data plane (mirror, and postgres, landing under it) reads a snapshot in
// parallel and then the logical replication stream, and writes Parquet files
// into an open mirroring landing zone. Only the durable position comes back, as
// a return value, and mirror confirms it to the replication slot: what was not
// written is never acknowledged.
//
// # A row in the twin
//
//	PUT → emulator/onelake → store.Dir → replicator → delta
//
// The emulator answers as Azure, Key Vault, Fabric and OneLake over a real
// PostgreSQL. Its replicator does what Fabric's does: it turns a landing zone
// into Delta tables. Production and twin meet only in the file format.
//
// # A proof
//
//	postgres (source) and delta (mirror) → verify → a receipt
//
// verify needs nothing but the Delta tables, so it proves a native mirror as
// well as an open one.
//
// Start reading at cmd/pgmirror/main.go for the commands, at internal/setup for
// the steps of setting up, and at internal/mirror for the data plane.
package pgmirror
