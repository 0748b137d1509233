package setup

import "github.com/pgmirror/pgmirror/internal/config"

// Steps are the steps of the configured mode, in order.
func Steps(c *Clients) []Step {
	if c.Config.Mode == config.Open {
		return openSteps(c)
	}
	return nativeSteps(c)
}

// nativeSteps prepare a flexible server that Fabric pulls from. Enabling comes
// late: the server validates only when its switch goes from off to on.
func nativeSteps(c *Clients) []Step {
	return []Step{
		serverStep{c},        // what the server is decides whether it can be mirrored at all
		leasesStep{c},        // doors that others left open, before any other is opened
		workspaceStep{c},     // likewise the workspace: both before anything is changed
		signInModesStep{c},   // without passwords nobody of ours can sign in
		identityStep{c},      // the server writes to OneLake as its own identity
		adminStep{c},         // the administrator's password, and that it signs in
		roleSecretStep{c},    // durable in the vault before a role has it
		tablesStep{c},        // what will be mirrored, and what of it is lost
		parametersStep{c},    // logical WAL and room for the workers
		restartStep{c},       // only when ARM says that a parameter waits for it
		enableStep{c},        // the databases as a union, then the switch
		roleStep{c},          // the mirror's role
		grantsStep{c},        // its rights; azure_cdc_admin exists only after enabling
		ownershipStep{c},     // native mirroring takes only what the role owns
		seedStep{c},          // so that there is always a table to mirror
		prerequisitesStep{c}, // the server's own checker, asked as the role
		connectionStep{c},    // how Fabric signs in
		workspaceRoleStep{c}, // the server's identity may write to the workspace
		mirrorStep{c},        // the mirrored database
		startStep{c},         // from Initialized or Stopped only
		proofStep{c},         // Running and empty is a failure
	}
}

// openSteps prepare any PostgreSQL for pgmirror run, which pushes.
func openSteps(c *Clients) []Step {
	return []Step{
		serverStep{c},          // what ARM knows, when it is a flexible server
		leasesStep{c},          // doors that others left open, before any other is opened
		workspaceStep{c},       // before anything is changed
		adminStep{c},           // the administrator's password, and that it signs in
		tablesStep{c},          // what will be mirrored, and what of it is lost
		roleSecretStep{c},      // durable before a role has it
		parametersStep{c},      // logical WAL, where we can set it
		restartStep{c},         // only when ARM says that a parameter waits for it
		roleStep{c},            // the mirror's role
		readGrantsStep{c},      // it may read the tables
		replicaIdentityStep{c}, // what has no key is told
		publicationStep{c},     // never a table whose updates PostgreSQL would then refuse
		mirrorStep{c},          // an open mirrored database
		startStep{c},           // so that Fabric looks at the landing zone
	}
}
