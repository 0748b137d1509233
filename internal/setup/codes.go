package setup

import (
	"maps"
	"slices"
)

// Explanation is what a code means, and what to do about it.
type Explanation struct {
	Code     string
	Sentence string // what is wrong
	Remedy   string // what to do, and why
	Next     string // one command to type; "" when the finding's hint says it better
}

// Explain looks a code up.
func Explain(code string) (Explanation, bool) {
	x, ok := codes[code]
	x.Code = code
	return x, ok
}

// Codes are all codes, sorted.
func Codes() []string { return slices.Sorted(maps.Keys(codes)) }

// codes are the faults that plan and apply name. A code never changes its
// meaning: people search for it.
var codes = map[string]Explanation{
	// sign-in and consent
	"SignInNeeded":   {Sentence: "Nobody is signed in to Azure or Fabric.", Remedy: "Sign in, with the identity that may change the server, the vault and the workspace.", Next: "az login"},
	"ConsentMissing": {Sentence: "The plan has a step that hurts, and its consent isn't given.", Remedy: "Read the plan; give the consent in the file (allow:) or on the command line.", Next: "pgmirror plan"},
	"PlanStale":      {Sentence: "The world moved since the plan was shown.", Remedy: "Look at a new plan: apply never does more than was shown.", Next: "pgmirror plan"},
	"TimedOut":       {Sentence: "A change was accepted but could not be seen in time.", Remedy: "Apply goes on where it stopped.", Next: "pgmirror apply"},

	// the server
	"ServerNotFound":      {Sentence: "There is no flexible server with this resource id.", Remedy: "Correct server.id, or sign in to the subscription that has it."},
	"ServerForbidden":     {Sentence: "You may not look at the server.", Remedy: "Ask for Reader on it, and Contributor to apply."},
	"ServerNotReady":      {Sentence: "The server is stopped or in a state in which nothing can be changed.", Remedy: "Start it, or wait until its operation is over."},
	"ServerVersion":       {Sentence: "Mirroring needs PostgreSQL 14 or newer.", Remedy: "Upgrade the server."},
	"ServerTier":          {Sentence: "Native mirroring isn't offered for Burstable servers.", Remedy: "Choose a General Purpose or Memory Optimized size, or mode: open."},
	"ServerHA":            {Sentence: "Native mirroring with high availability needs PostgreSQL 17 or newer.", Remedy: "Turn high availability off, upgrade, or choose mode: open."},
	"ServerReplica":       {Sentence: "The server is a read replica; mirroring needs the primary.", Remedy: "Give the primary's id."},
	"ServerElastic":       {Sentence: "Native mirroring isn't offered for elastic clusters.", Remedy: "Choose mode: open."},
	"ServerNoAdmin":       {Sentence: "The server was made without an administrator login, so that password sign-in can't be used.", Remedy: "Make a server with password authentication: it can't be added."},
	"ServerUnreachable":   {Sentence: "The PostgreSQL server doesn't answer.", Remedy: "Check the host name, the firewall rules, and from where you connect."},
	"ServerCertificate":   {Sentence: "The server's certificate can't be trusted.", Remedy: "Check the host name; give the authority's certificate as endpoints.caFile."},
	"DatabaseNotFound":    {Sentence: "The server has no such database.", Remedy: "Correct server.database."},
	"ParameterReadOnly":   {Sentence: "A server parameter is not as needed, and can't be set.", Remedy: "Choose another size or version of the server."},
	"WALLevel":            {Sentence: "The server doesn't write the WAL that logical replication needs.", Remedy: "Set wal_level to logical where your provider lets you, and restart."},
	"EnableFailed":        {Sentence: "Fabric mirroring is switched on, but the server isn't ready for it.", Remedy: "Open the server's page \"Fabric mirroring\" in the Azure portal and choose Prepare; then apply again."},
	"EnableUnknown":       {Sentence: "Nobody can tell whether the server is ready: its own checker can't be asked.", Remedy: "Open the server's page \"Fabric mirroring\" in the Azure portal, which asks it; then apply again."},
	"EnableUnavailable":   {Sentence: "The server doesn't know Fabric mirroring.", Remedy: "Its build may be too old, or the region without it: upgrade, or choose mode: open."},
	"PrerequisiteMissing": {Sentence: "The server's own checker says that something is missing.", Remedy: "The finding names it; most are mended by applying again."},
	"MirrorLimit":         {Sentence: "The server mirrors as many databases as it may.", Remedy: "Raise azure_cdc.max_fabric_mirrors (at most 6), or take a database out of azure.mirror_databases."},

	// secrets
	"VaultForbidden":      {Sentence: "The vault doesn't let us read its secrets.", Remedy: "Ask for Key Vault Secrets Officer, or run from a network that the vault accepts."},
	"VaultUnreachable":    {Sentence: "The vault doesn't answer.", Remedy: "Check its address, and from where you connect."},
	"AdminSecretMissing":  {Sentence: "The vault has no secret with the administrator's password.", Remedy: "Write the administrator's password into it."},
	"AdminPasswordWrong":  {Sentence: "The server refuses the administrator's password.", Remedy: "Write the right one into the vault: it is out of step with the server."},
	"RoleSecretMissing":   {Sentence: "The role exists, and no store knows its password.", Remedy: "Write the role's password into the vault, or consent to a new one (reset-password)."},
	"ReferenceMissing":    {Sentence: "A Key Vault reference in place of a password names a secret that isn't there.", Remedy: "Correct the reference, or write the secret."},
	"EntraAdminMissing":   {Sentence: "Only an Entra administrator of the server makes the role of an Entra principal, and whoever is signed in is none.", Remedy: "Make whoever runs apply an administrator, or a member of an administrators' group; or give plan --sql to an administrator."},
	"RoleNotEntra":        {Sentence: "The role exists, and doesn't stand for the Entra principal that is configured.", Remedy: "Correct role.entra.objectId, or choose another role.name."},
	"NoSecretStore":       {Sentence: "There is no place to keep the role's password.", Remedy: "Configure a vault, or give the password as POSTGRES_MIRROR_CONNECTION_PASSWORD."},
	"PasswordsDisagree":   {Sentence: "The store's password isn't the role's, and no rotation of ours is under way: nobody can tell which is right.", Remedy: "Let the role have the store's (rotate --adopt vault), or give the role's own, for the store to have it (rotate --adopt role --password-file FILE)."},
	"RoleMissing":         {Sentence: "The mirror's role doesn't exist yet.", Remedy: "Set the mirror up.", Next: "pgmirror apply"},
	"PasswordRefused":     {Sentence: "The given password isn't the role's.", Remedy: "Give the right one, or let the role have the vault's.", Next: "pgmirror rotate --adopt vault"},
	"RoleWithoutPassword": {Sentence: "The role signs in by Entra: it has no password to change.", Remedy: "Nothing has to be done."},
	"ConnectionNotOurs":   {Sentence: "The Fabric connection belongs to somebody else, and has the former password.", Remedy: "Let its owner enter the new one in the portal, or make you an owner; then rotate goes on where it stopped.", Next: "pgmirror connection show"},
	"RolePasswordWrong":   {Sentence: "The role's password, as the vault has it or as it was given, is not the one that the server knows.", Remedy: "Consent to have the role take it again (apply --allow reset-password), or, in the middle of a rotation, say which is right (rotate --adopt vault, or role); the plan tells which of them."},

	// doors
	"VaultClosed":    {Sentence: "The vault's public access is off, and this machine isn't in its network.", Remedy: "Consent to have it on while apply runs (open-vault), or run from a network that the vault accepts."},
	"VaultFirewall":  {Sentence: "The vault's network rules don't let this machine in.", Remedy: "Consent to a rule for it while apply runs (open-vault), or run from a network that the vault accepts."},
	"ServerClosed":   {Sentence: "The server's public access is off, and this machine isn't in its network.", Remedy: "Consent to have it on while apply runs (open-server), or run from within its network."},
	"ServerFirewall": {Sentence: "The server's firewall doesn't let this machine in.", Remedy: "Consent to a rule for it while apply runs (open-server), or add one that stays."},
	"FabricKeptOut":  {Sentence: "The server's public access or firewall keeps Fabric out.", Remedy: "Consent to let all Azure services in, other tenants' too, until the mirror is proved (open-server); or give Fabric a virtual network gateway (connection.gateway)."},
	"LeaseLeft":      {Sentence: "A run opened a door for a while, and didn't close it: it died, and its time has passed.", Remedy: "Apply closes it, as leases close does.", Next: "pgmirror leases list"},
	"Held":           {Sentence: "Somebody else's pgmirror is at work on the same server or vault.", Remedy: "Wait until it has ended. When it died on another machine: leases close ID --force.", Next: "pgmirror leases list"},
	"AddressUnknown": {Sentence: "Neither the refusal nor the configuration says what this machine's address is, so that no rule can let it in.", Remedy: "Give address (PGMIRROR_ADDRESS), this machine's IPv4 address as Azure sees it.", Next: "pgmirror plan --set address=A.B.C.D"},
	"DoorUseless":    {Sentence: "A door was opened, and we are still refused; it is closed again.", Remedy: "Something else is in the way: a private endpoint, a network security perimeter, a proxy.", Next: "pgmirror doctor"},
	"LeaseExpired":   {Sentence: "What was opened for a while had to be closed before the work was done.", Remedy: "Apply goes on where it stopped.", Next: "pgmirror apply"},

	// PostgreSQL
	"AdminRights":       {Sentence: "The administrator may not do what is needed.", Remedy: "Give it the right, or let a DBA do it; the finding has the SQL."},
	"TableNotFound":     {Sentence: "A listed table doesn't exist.", Remedy: "Correct mirror.tables."},
	"TableNotOwned":     {Sentence: "A listed table belongs to somebody else; native mirroring takes only tables that the mirror's role owns.", Remedy: "Consent to move it (change-owner): the former owner keeps SELECT, INSERT, UPDATE and DELETE. Or take it off the list."},
	"FormerOwnerGone":   {Sentence: "A table can't be given back: its former owner isn't there any more.", Remedy: "Make that role again, or give the table to somebody yourself and take the record out of its comment."},
	"SeedInUse":         {Sentence: "The seed table isn't only ours any more.", Remedy: "Give it to somebody: then it is left alone."},
	"RoleOwns":          {Sentence: "The mirror's role owns something, so that it can't be dropped.", Remedy: "Give it to somebody else: nothing of anybody's is dropped. A publication goes with its mirror."},
	"RunActive":         {Sentence: "The mirror is still fed: somebody reads from its slot.", Remedy: "Stop pgmirror run first, wherever it runs."},
	"TableRefused":      {Sentence: "None of the listed tables can be mirrored.", Remedy: "The plan names the reason for each; choose others, or mode: open."},
	"AlreadyMirrored":   {Sentence: "The database is mirrored already, by a mirror that isn't ours.", Remedy: "Stop that mirror, or give its name as mirror.name."},
	"TableNotJoined":    {Sentence: "A table is asked for and in no publication, so that it isn't in the mirror: it is new, or was taken out.", Remedy: "Take it in with tables add; or list in mirror.tables what is wanted.", Next: "pgmirror tables list"},
	"PublicationForAll": {Sentence: "A publication of this name publishes all tables.", Remedy: "Drop it, or choose another run.publication: updates of tables without a key would be refused."},

	// Fabric
	"WorkspaceMissing":      {Sentence: "No Fabric workspace is configured.", Remedy: "Give workspace, its name or the GUID in its address after /groups/. The server can be prepared before: --until prepare."},
	"WorkspaceNotFound":     {Sentence: "There is no such workspace, or you have no role in it.", Remedy: "Correct workspace (its name, or the GUID in its address after /groups/), or ask for a role."},
	"WorkspaceAmbiguous":    {Sentence: "Several workspaces have the configured name.", Remedy: "Give workspace as the GUID in its address after /groups/."},
	"WorkspaceForbidden":    {Sentence: "You may not do this in the workspace.", Remedy: "Ask for the role Member or Admin."},
	"WorkspaceNoCapacity":   {Sentence: "The workspace has no capacity, so that nothing can be mirrored into it.", Remedy: "Assign a Fabric capacity in the workspace's settings."},
	"ConnectionNotFound":    {Sentence: "There is no connection with the configured id, or you may not use it.", Remedy: "Correct connection.id, or take it out and let apply make one."},
	"ConnectionOther":       {Sentence: "The connection with the configured id leads to another server or database.", Remedy: "Give the id of a connection to this one."},
	"ConnectionManual":      {Sentence: "The connection has to be made by hand in the portal.", Remedy: "Make it with the fields of the finding, and give its id."},
	"ConnectionUnsupported": {Sentence: "Fabric offers no PostgreSQL connection with a password here.", Remedy: "Make the connection in the portal, and give its id."},
	"ConnectionRefused":     {Sentence: "Fabric could not sign in to the server.", Remedy: "Check that Fabric may reach the server, and the role's password."},
	"MirrorOtherSource":     {Sentence: "A mirrored database with this name exists and mirrors something else.", Remedy: "Choose another mirror.name."},
	"MirrorPaused":          {Sentence: "The mirror is paused, as when its capacity is.", Remedy: "Resume the capacity; then stop and start the mirror."},
	"MirrorStopped":         {Sentence: "The mirror was stopped; starting it copies everything again.", Remedy: "Consent to that (reseed)."},
	"OneLakeForbidden":      {Sentence: "The server's identity may not write into the workspace.", Remedy: "Give it the role Contributor in the workspace, or Read and Write on the mirrored database: Share, in its menu. A new role takes some minutes."},
	"TableFailed":           {Sentence: "Fabric reports that a table failed.", Remedy: "Read its error; status shows it."},
}
