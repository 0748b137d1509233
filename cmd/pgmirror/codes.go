package main

import (
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// ownCodes are the codes that commands and the data plane give, beside those of
// setup and of lint's rules. A code never changes its meaning: people search for
// it.
var ownCodes = map[string]setup.Explanation{
	// every command
	"UsageInvalid":      {Sentence: "The command line isn't understood.", Remedy: "The command's --help shows what it takes."},
	"ConfigUnreadable":  {Sentence: "A configuration file, the environment or a flag can't be read.", Remedy: "The message names the place.", Next: "pgmirror plan --explain-config"},
	"ConfigInvalid":     {Sentence: "The configuration doesn't make sense; every reason is listed.", Remedy: "Correct the values; each one's source can be shown.", Next: "pgmirror plan --explain-config"},
	"CodeUnknown":       {Sentence: "There is no such code.", Remedy: "List them all.", Next: "pgmirror explain"},
	"Failed":            {Sentence: "Something went wrong that has no code of its own.", Remedy: "The message says what was being done. doctor looks at everything around it.", Next: "pgmirror doctor"},
	"Interrupted":       {Sentence: "It was asked to stop, and did after cleaning up.", Remedy: "Run it again: every command goes on where the world stands."},
	"Declined":          {Sentence: "You were asked, and didn't say yes; nothing was written.", Remedy: "Run it again when you are ready."},
	"NotConfirmed":      {Sentence: "Nobody can be asked, and no yes was given beforehand; nothing was written.", Remedy: "Look at the plan, then apply with --yes or a plan file.", Next: "pgmirror plan"},
	"CleanupIncomplete": {Sentence: "Something that was opened for a short time may still be open.", Remedy: "Close it with leases close ID; this outranks whatever else went wrong.", Next: "pgmirror leases list"},
	"StateMissing":      {Sentence: "There is no place to remember open doors and to keep the audit log in; nothing was changed.", Remedy: "Give a directory that stays.", Next: "export PGMIRROR_STATE=DIR"},
	"LeaseMissing":      {Sentence: "No lease has this id, on this machine or on the resources.", Remedy: "It may have been closed by now; the list shows those that there are.", Next: "pgmirror leases list"},
	"PasswordWeak":      {Sentence: "The given password breaks a rule: 8 to 128 characters, three of upper case, lower case, digits and others, no control characters, not the role's name.", Remedy: "Choose another, or let rotate make one up: 43 characters with 200 random bits."},
	"DirNotEmpty":       {Sentence: "The folder has files that aren't ours; nothing was touched.", Remedy: "Give an empty or a new folder."},
	"FileExists":        {Sentence: "The file is there already, and wasn't overwritten.", Remedy: "Give another name, or move it away."},
	"ModeNative":        {Sentence: "The mirror is native: Fabric moves the data itself, and this command is for open mirrors.", Remedy: "status and verify work for both.", Next: "pgmirror status"},
	"MirrorMissing":     {Sentence: "There is no mirrored database of this name yet.", Remedy: "Set it up.", Next: "pgmirror apply"},
	"NotSetUp":          {Sentence: "A step of setting up has something to do.", Remedy: "The plan shows it; apply does it.", Next: "pgmirror plan"},
	"DatabaseAmbiguous": {Sentence: "The file lists several databases, and this command works on one.", Remedy: "Name it.", Next: "pgmirror status --set server.database=NAME"},
	"PlanUnreadable":    {Sentence: "The plan file can't be read, or is of a format that this pgmirror doesn't know.", Remedy: "Make a new one with the pgmirror that applies it.", Next: "pgmirror plan --out FILE"},
	"AzdNotWritten":     {Sentence: "The results could not be written into the azd environment; what they tell of was done.", Remedy: "Set the values by hand with azd env set."},

	// run
	"Fenced":           {Sentence: "Another pgmirror run has taken over this landing zone, so this one stopped.", Remedy: "Let one run at a time write a landing zone. Nothing is lost: the other one goes on from the same state.", Next: "pgmirror status"},
	"PublicationLost":  {Sentence: "The publications that the mirror reads were dropped, and perhaps made again: what was changed while they were gone was sent to nobody.", Remedy: "Have the publication there (pgmirror plan shows what is missing), then copy every table anew.", Next: "pgmirror run --reseed"},
	"SlotLost":         {Sentence: "The replication slot is gone, or the server has removed WAL that it needed: changes are missing that nobody can bring back.", Remedy: "Copy every table anew. So that it doesn't happen again: raise max_slot_wal_keep_size, let a run always run, and watch WALRunsOut.", Next: "pgmirror run --reseed"},
	"SlotMoved":        {Sentence: "Somebody else has read from the slot: it stands beyond what the mirror confirmed, and what lies between is lost to it.", Remedy: "Find who uses the slot's name; then copy every table anew.", Next: "pgmirror run --reseed"},
	"OtherSystem":      {Sentence: "The server isn't the one that the mirror was made from: its system identifier differs.", Remedy: "Correct server.host; if the database was really moved, copy every table anew.", Next: "pgmirror run --reseed"},
	"OtherTimeline":    {Sentence: "The server was restored to an older state, or its history isn't that of the server which the mirror followed.", Remedy: "Copy every table anew.", Next: "pgmirror run --reseed"},
	"WentBack":         {Sentence: "The server's log ends before what the mirror has: an earlier copy of its disk was put back.", Remedy: "Copy every table anew, once it is the database that you want.", Next: "pgmirror run --reseed"},
	"OtherSlot":        {Sentence: "The landing zone is fed from a slot of another name.", Remedy: "Set run.slot to that name, or give the mirror another mirrored database.", Next: "pgmirror plan --explain-config"},
	"SlotNotOurs":      {Sentence: "There is a slot of this name already, and the landing zone knows nothing of it.", Remedy: "If nothing uses it, drop it; else choose another run.slot."},
	"NothingPublished": {Sentence: "The publications list no table, so that there is nothing to mirror.", Remedy: "Let apply make them, or take a table in.", Next: "pgmirror tables list"},
	"StateVersion":     {Sentence: "The landing zone's state was written by a pgmirror with another format.", Remedy: "Run the one that wrote it, or a newer one. It is never guessed at."},
	"MetricsAddress":   {Sentence: "The address for metrics can't be listened on.", Remedy: "Choose one that is free.", Next: "pgmirror run --metrics :0"},
	"WALRunsOut":       {Sentence: "At the rate of now, the WAL that the server may keep for the slot is used up within an hour.", Remedy: "Find out why the run is behind (status shows its lag), raise max_slot_wal_keep_size, or accept that every table will be copied anew.", Next: "pgmirror status"},
	"WALUnreserved":    {Sentence: "The slot holds more WAL than the server's limit allows: the next checkpoint may remove it, and the slot with it.", Remedy: "Raise max_slot_wal_keep_size at once, and let the run catch up.", Next: "pgmirror status"},

	// notes of plan and destroy: nothing has to be done before going on
	"NotMirrored":          {Sentence: "An open mirror can't take this table; the note says why.", Remedy: "Mend that, or leave it out: the others are mirrored. tables add takes it in later.", Next: "pgmirror tables list"},
	"NoKey":                {Sentence: "The table has neither a primary key nor a replica identity: only its inserts are mirrored.", Remedy: "Give it a primary key; or consent to its unique index as replica identity (replica-identity), where the note names one.", Next: "pgmirror apply --allow replica-identity"},
	"ColumnLeftOut":        {Sentence: "The mirror lacks this column: it is generated, and PostgreSQL's stream doesn't carry it.", Remedy: "Compute it where the mirror is read, or make it an ordinary column."},
	"ColumnRenamed":        {Sentence: "The column has another name in the mirror: Fabric forbids a character of its own, or takes two names for one.", Remedy: "Read it under the name in the note. docs/types.md has the rules."},
	"ColumnLoss":           {Sentence: "The column's type in the mirror isn't quite PostgreSQL's; the note says what becomes of its values.", Remedy: "docs/types.md tells each type's mapping. For a numeric column another one may be chosen (run.types)."},
	"ColumnTypeUnused":     {Sentence: "A type that is chosen in run.types is no column's.", Remedy: "Correct the name in run.types, or take the line out; the note says what is looked for.", Next: "pgmirror plan --explain-config"},
	"OtherPublication":     {Sentence: "A table is in one of the mirror's publications and belongs in the other: it has got a key since, or lost it.", Remedy: "Take it out of the one, and take it in again with tables add.", Next: "pgmirror tables list"},
	"PublicationGone":      {Sentence: "The mirror's publication was there and is gone; apply makes it with every table that is asked for.", Remedy: "List in mirror.tables what is wanted, if tables remove took something out.", Next: "pgmirror plan"},
	"PublishedApart":       {Sentence: "The partitions of a table are published each as a table of its own, as earlier versions did it: a new partition isn't mirrored.", Remedy: "Where the note says so, take in the partitioned table with tables add; it is copied as one, and its partitions' own tables are removed by tables remove.", Next: "pgmirror tables list"},
	"PublishedUnlisted":    {Sentence: "A table is in the mirror's publication and isn't asked for; it is mirrored, and left as it is.", Remedy: "List it in mirror.tables, or take it out with tables remove.", Next: "pgmirror tables list"},
	"PartitionRights":      {Sentence: "The mirror's role may not read a partition by itself, as one that another role or another schema has: run reads it through its partitioned table, which takes longer.", Remedy: "Grant SELECT on it, and USAGE on its schema; doctor has the SQL.", Next: "pgmirror doctor read-grants"},
	"SnapshotSize":         {Sentence: "How much the first copy reads.", Remedy: "Nothing has to be done. The server keeps WAL for as long as the copy of a table that changes takes: see docs/operating.md."},
	"FreeStorage":          {Sentence: "How much mirrored data the workspace's capacity keeps in OneLake free of charge.", Remedy: "Nothing has to be done, unless the database is larger."},
	"TableLimit":           {Sentence: "More tables than Fabric documents for one mirror: it takes the first by name.", Remedy: "List those that are wanted in mirror.tables, or have several mirrors."},
	"NotRegularTable":      {Sentence: "Native mirroring takes ordinary, logged tables only.", Remedy: "Leave it out, or choose mode: open."},
	"ForbiddenName":        {Sentence: "Fabric forbids a character of the table's or the column's name, so that native mirroring refuses the table.", Remedy: "Rename it, or choose mode: open, which escapes names."},
	"TypeRefused":          {Sentence: "Native mirroring doesn't take the column's type, and so not its table.", Remedy: "Change the type, leave the table out, or choose mode: open."},
	"KeyTypeRefused":       {Sentence: "Native mirroring doesn't take a column of this type in a key.", Remedy: "Give the table another key, leave it out, or choose mode: open."},
	"NumericLosesFraction": {Sentence: "A numeric without precision becomes Decimal(38,0) in native mode: its fractions are lost.", Remedy: "Give the column a precision and a scale, or choose mode: open."},
	"NumericBecomesNull":   {Sentence: "A numeric may have more digits than Fabric's 38; such values become NULL in native mode.", Remedy: "Give the column 38 digits at most, or choose mode: open."},
	"NoDefaultRights":      {Sentence: "Tables that another role makes later can't be read by the mirror's role: the administrator can't act for their owner.", Remedy: "Nothing has to be done for the tables of now; tables add gives the rights of each new one, or let that owner ALTER DEFAULT PRIVILEGES."},
	"OwnerChanges":         {Sentence: "Native mirroring needs the table to belong to the mirror's role, and its owner loses TRUNCATE and ALTER by that.", Remedy: "Migrations run as the former owner need another way; destroy gives the table back."},
	"MirrorDiffers":        {Sentence: "The mirrored database isn't as configured in something that can't be changed without copying everything again; it is left as it is.", Remedy: "Correct the configuration, or destroy the mirror and apply."},
	"ServerPrivate":        {Sentence: "The server has no public access, so that Fabric reaches it by a virtual network data gateway only.", Remedy: "Give the gateway's GUID as connection.gateway."},
	"IdentityByHand":       {Sentence: "Whether the server's identity may write into the workspace can't be seen by whoever is signed in.", Remedy: "Have an administrator of the workspace look: it needs Contributor there, or Read and Write on the mirrored database."},
	"LeasesUnknown":        {Sentence: "Whether a door was left open can't be seen: Reader on the server and the vault is missing.", Remedy: "Ask for Reader, or have whoever has it look.", Next: "pgmirror leases list"},
	"LeaseHeld":            {Sentence: "A door is open for somebody's run, and its time hasn't passed.", Remedy: "Wait; it is closed when that run ends.", Next: "pgmirror leases list"},
	"ServerGone":           {Sentence: "The server isn't there any more; what was made in it went with it.", Remedy: "Nothing has to be done for the server."},
	"Kept":                 {Sentence: "destroy leaves this, for it isn't only this mirror's.", Remedy: "Nothing has to be done."},
	"Left":                 {Sentence: "destroy leaves this as it is; the note says why.", Remedy: "Nothing has to be done. Put it back by hand if nobody else needs it."},

	// tables
	"TableNotMirrored": {Sentence: "The mirror doesn't have this table.", Remedy: "The list shows what it has, and why others are absent.", Next: "pgmirror tables list"},
	"TableInAnother":   {Sentence: "The table is a partition, and its partitioned table is taken as one: its rows come with that.", Remedy: "Add the partitioned table. To have partitions each as a table of its own, name them in mirror.tables, and not it."},
	"UpdatesLost":      {Sentence: "Partitions are mirrored each as a table of its own, with updates and deletes; as one table, without a primary key, it would only be added to.", Remedy: "Give the partitioned table a primary key. Or take the partitions out first (tables remove), if its inserts are enough.", Next: "pgmirror tables list"},
	"TableNotPaused":   {Sentence: "The table isn't paused, so that there is nothing to resume.", Remedy: "To copy it anew, ask for a resync.", Next: "pgmirror tables list"},
	"TableParked":      {Sentence: "A table is parked: something about it can't be mirrored, and the others go on.", Remedy: "The list gives the reason. When it is mended, or was a pause, have the table copied anew with tables resync or tables resume.", Next: "pgmirror tables list"},
	"ChangesIgnored":   {Sentence: "A table without a key was updated or had rows deleted; in the mirror it is only ever added to.", Remedy: "Give it a key, and have it copied anew with tables resync.", Next: "pgmirror tables list"},

	// doctor
	"CheckUnknown":    {Sentence: "There is no check of this name.", Remedy: "List them.", Next: "pgmirror doctor --list"},
	"NotRunning":      {Sentence: "Nobody reads the replication slot: no pgmirror run is running.", Remedy: "Start one. Until then the server keeps all its WAL for the slot.", Next: "pgmirror run"},
	"RunningButEmpty": {Sentence: "Fabric says that the mirror is Running, and no table has received a row.", Remedy: "In open mode pgmirror run has to bring them. In native mode the plan's proof names what each table waits for: often the server's own checker, or a table that the role doesn't own.", Next: "pgmirror plan"},
	"MirrorStarting":  {Sentence: "The mirror is neither running nor stopped: Fabric is at work.", Remedy: "Wait; a new mirror takes some minutes.", Next: "pgmirror status --watch"},
	"TablesBehind":    {Sentence: "Some tables don't replicate yet.", Remedy: "A first copy takes its time; watch whether they move.", Next: "pgmirror status --watch"},

	// verify, lint, replicate
	"RowsDiffer":        {Sentence: "Rows of the mirror differ from PostgreSQL's, and nobody changed them meanwhile.", Remedy: "The report names them. Have a running pgmirror run publish them anew, or the table copied anew with tables resync, and keep the receipt: this should never happen.", Next: "pgmirror verify --repair"},
	"TableMissing":      {Sentence: "The mirror lacks a table that was asked for.", Remedy: "status shows whether Fabric knows it, tables list whether it is published.", Next: "pgmirror status"},
	"TableUnreadable":   {Sentence: "A table could not be read, at the source or in the mirror, so that nothing is proved.", Remedy: "The report has the reason: often a missing right, or a Delta feature that verify doesn't know.", Next: "pgmirror doctor"},
	"NothingToCompare":  {Sentence: "No table was compared, so that nothing is proved.", Remedy: "Check the names, and that the mirror has tables.", Next: "pgmirror status"},
	"ReceiptUnusable":   {Sentence: "The receipt can't be gone on from: it is of another mirror, another format, or can't be read.", Remedy: "Verify from the beginning, into another file.", Next: "pgmirror verify"},
	"ReceiptUnwritable": {Sentence: "The receipt can't be written where it was asked for; nothing was compared.", Remedy: "Give a file in a folder that can be written to.", Next: "pgmirror verify --receipt FILE"},
	"LandingZoneFaulty": {Sentence: "A landing zone has faults; each has a code of its own.", Remedy: "Each finding says what to do; explain tells more of its code.", Next: "pgmirror lint"},
	"NoLandingZone":     {Sentence: "There is no landing zone there.", Remedy: "Give the folder in which the tables' folders lie, or configure an open mirror."},
}

// explanation looks a code up, wherever it comes from and in any case.
func explanation(code string) (setup.Explanation, bool) {
	known := allCodes()
	i := slices.IndexFunc(known, func(c string) bool { return strings.EqualFold(c, code) })
	if i < 0 {
		return setup.Explanation{}, false
	}
	code = known[i]
	if x, ok := setup.Explain(code); ok {
		return x, true
	}
	if x, ok := ownCodes[code]; ok {
		x.Code = code
		return x, true
	}
	for _, r := range landing.Rules() {
		if r.Code == code {
			return setup.Explanation{Code: code, Sentence: r.Sentence, Remedy: r.Remedy, Next: "pgmirror lint"}, true
		}
	}
	return setup.Explanation{}, false
}

// allCodes are all codes, sorted, each once.
func allCodes() []string {
	all := setup.Codes()
	for code := range ownCodes {
		all = append(all, code)
	}
	for _, r := range landing.Rules() {
		all = append(all, r.Code)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
