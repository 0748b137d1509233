package landing

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	Fault   Severity = "error"   // Fabric stops the table, or reads something else than was meant
	Warning Severity = "warning" // it works, but slowly, or not safely
)

// Rule is one thing that Lint looks for.
type Rule struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Sentence string   `json:"sentence"` // what is wrong
	Remedy   string   `json:"remedy"`   // what to do about it
}

// The rules of Microsoft's pages on the format
// (https://learn.microsoft.com/fabric/mirroring/open-mirroring-landing-zone-format) and on good practice
// (https://learn.microsoft.com/fabric/mirroring/open-mirroring-best-practices), and what publishers have met.
const (
	PartnerEventsMissing   = "PartnerEventsMissing"
	PartnerEventsInvalid   = "PartnerEventsInvalid"
	TablesTooMany          = "TablesTooMany"
	ChangesTooMany         = "ChangesTooMany"
	NameStray              = "NameStray"
	TableTwice             = "TableTwice"
	TableEmpty             = "TableEmpty"
	MetadataMissing        = "MetadataMissing"
	MetadataUnreadable     = "MetadataUnreadable"
	MetadataKeyUnknown     = "MetadataKeyUnknown"
	MetadataKeyTwice       = "MetadataKeyTwice"
	UpsertNameWrong        = "UpsertNameWrong"
	StrategyUnknown        = "StrategyUnknown"
	DelimitedTextInvalid   = "DelimitedTextInvalid"
	KeyColumnsInvalid      = "KeyColumnsInvalid"
	KeyColumnsTooMany      = "KeyColumnsTooMany"
	KeyColumnsMissing      = "KeyColumnsMissing"
	KeyColumnAbsent        = "KeyColumnAbsent"
	KeyColumnNull          = "KeyColumnNull"
	FileNameInvalid        = "FileNameInvalid"
	FileGap                = "FileGap"
	FileFirstMissing       = "FileFirstMissing"
	FileNumberReused       = "FileNumberReused"
	FileEmpty              = "FileEmpty"
	FileTorn               = "FileTorn"
	FileTooLarge           = "FileTooLarge"
	FilesSmall             = "FilesSmall"
	FileTimeTie            = "FileTimeTie"
	UploadLeft             = "UploadLeft"
	CompressionUnsupported = "CompressionUnsupported"
	ColumnTypeUnsupported  = "ColumnTypeUnsupported"
	ColumnNameForbidden    = "ColumnNameForbidden"
	ColumnNameTwice        = "ColumnNameTwice"
	HeaderDiffers          = "HeaderDiffers"
	TextValueInvalid       = "TextValueInvalid"
	MarkerMisspelt         = "MarkerMisspelt"
	MarkerNotLast          = "MarkerNotLast"
	MarkerTypeWrong        = "MarkerTypeWrong"
	MarkerUnknown          = "MarkerUnknown"
	MarkerInsert           = "MarkerInsert"
	MarkerLeftOut          = "MarkerLeftOut"
	SchemaTypeChanged      = "SchemaTypeChanged"
	SchemaNotNullAdded     = "SchemaNotNullAdded"
	SchemaNotNullDropped   = "SchemaNotNullDropped"
	SchemaNullChanged      = "SchemaNullChanged"
	SchemaCaseChanged      = "SchemaCaseChanged"
	SchemaOrderChanged     = "SchemaOrderChanged"
	SchemaColumnLeftOut    = "SchemaColumnLeftOut"
	TimestampUnit          = "TimestampUnit"
	TimestampNoZone        = "TimestampNoZone"
	StringTooLong          = "StringTooLong"
)

var rules = []Rule{
	// The landing zone as a whole.
	{PartnerEventsMissing, Warning, "The landing zone has no _partnerEvents.json.", `Write _partnerEvents.json into its root, with "partnerName" and "sourceInfo".`},
	{PartnerEventsInvalid, Warning, "_partnerEvents.json is not what Fabric reads.", `It is one JSON object with "partnerName" (text) and "sourceInfo" (an object with "sourceType").`},
	{TablesTooMany, Fault, "The landing zone has more tables than a mirrored database takes.", "Spread the tables over several mirrored databases."},
	{ChangesTooMany, Warning, "More was published within a day than Fabric replicates without throttling.", "Spread the tables over several mirrored databases, or send fewer changes."},
	{NameStray, Warning, "A file or folder lies where Fabric expects none.", "Remove it, or begin its name with an underscore, which Fabric ignores."},
	{TableTwice, Fault, "Two folders are one table to Fabric: their names differ only in case, or in the default schema's.", "Publish the table in one of them, and remove the other."},

	// A table's folder.
	{TableEmpty, Warning, "A table's folder has no data file: Fabric reports such a table as failing after some time.", "Publish a first file (a Parquet file without rows will do) or remove the folder."},
	{MetadataMissing, Fault, "A table's folder has data but no _metadata.json.", "Write _metadata.json into the table's folder after its first file."},
	{MetadataUnreadable, Fault, "_metadata.json is not valid JSON, or a value in it has the wrong type.", "Write it whole, as one JSON object; upload it under another name and rename it."},
	{MetadataKeyUnknown, Warning, "_metadata.json has a name that Fabric doesn't know and ignores.", "Correct the name."},
	{MetadataKeyTwice, Fault, "_metadata.json has a name in two spellings: nothing says which of them Fabric reads.", "Write the name once."},
	{UpsertNameWrong, Fault, "_metadata.json says isUpsertDefaultMode, which Fabric ignores: rows without marker are inserted.", "The name is isUpsertDefaultRowMarker."},
	{StrategyUnknown, Fault, "_metadata.json names a fileDetectionStrategy that doesn't exist.", "Use SequentialFileName (the default) or LastUpdateTimeFileDetection."},
	{DelimitedTextInvalid, Fault, "_metadata.json describes delimited text in a way that Fabric doesn't read.", "See what the detail names: FileFormat DelimitedText needs FileExtension, a header row, one of the documented separators, quotes and types, an encoding that is known, and a SchemaDefinition that names every column, also those of the key."},
	{KeyColumnsInvalid, Fault, "keyColumns of _metadata.json has an empty or repeated name.", "List every key column once."},
	{KeyColumnsTooMany, Warning, "keyColumns has more columns than Fabric handles well.", "Use at most 4 key columns."},
	{KeyColumnsMissing, Fault, "Rows are updated, upserted or deleted, or _metadata.json says that they will be, but it names no keyColumns.", "Add keyColumns; they can be added at any time, but never changed."},
	{KeyColumnAbsent, Fault, "A file lacks a key column.", "Every file has all key columns; names are compared with their case. Publish the table anew: key columns can't change."},
	{KeyColumnNull, Fault, "A key column holds NULL.", "Choose key columns that are never NULL, and publish the table anew."},

	// The numbers of its files.
	{FileNameInvalid, Fault, "A data file's name is not a number of 20 digits, so it is never read.", "Rename it to the next free number, as 00000000000000000001.parquet."},
	{FileGap, Fault, "A number is missing: no file after it is ever read.", "Publish a file of the missing number; one without rows will do if nothing was lost."},
	{FileFirstMissing, Warning, "The numbers don't begin with 1, and nothing shows that files before were processed.", "If this table is new, publish the missing files; else all is well."},
	{FileNumberReused, Fault, "A number that was processed, or one below it, was used again: Fabric doesn't read it.", "Publish the content under the next free number."},
	{FileEmpty, Fault, "A file has no bytes: the table fails and stays so.", "Delete it, upload the content under a name with an underscore, and rename that."},
	{FileTorn, Fault, "A file is not a whole, sound Parquet file, or not text as _metadata.json describes it.", "Delete it, upload it whole under a name with an underscore, and rename that to the same number."},
	{FileTooLarge, Warning, "A file of changes has so many rows that Fabric's lag grows steeply.", "Keep files of changes below 900,000 rows."},
	{FilesSmall, Warning, "Very many files wait that hold few rows each: Fabric takes far longer for them than for few large ones.", "Gather more changes for a file, and wait longer between two."},
	{FileTimeTie, Warning, "Two files were last changed at the same moment: with LastUpdateTimeFileDetection nobody knows which of them is read first.", "Publish one file after the other, or number them (SequentialFileName)."},
	{UploadLeft, Warning, "An upload that was never finished is more than a day old.", "Remove it, once its publisher no longer runs."},

	// What is in a file.
	{CompressionUnsupported, Fault, "A column is compressed in a way that Fabric doesn't read.", "Use no compression, Snappy, GZIP or ZSTD."},
	{ColumnTypeUnsupported, Fault, "A column has a type that can't be mirrored.", "Write nested values as JSON text, times and intervals as text, and decimals with at most 38 digits."},
	{ColumnNameForbidden, Fault, "A column's name has a character that Delta forbids.", "Leave out blanks, tabs, line ends and the characters , ; { } ( ) ="},
	{ColumnNameTwice, Fault, "Two columns have the same name, or names that differ only in case.", "Rename one of them."},
	{HeaderDiffers, Fault, "The header of a file of delimited text names other columns than SchemaDefinition, or than the first file: such a schema can't change.", "Write all its columns and no others, or publish the table anew."},
	{TextValueInvalid, Fault, "A value in delimited text is none of its column's DataType, or is NULL where IsNullable is false.", "Correct the value, or publish the table anew with another SchemaDefinition."},
	{MarkerMisspelt, Fault, "A column looks like the row marker but is not: it becomes data.", "The name is __rowMarker__, with that case and two underscores on each side."},
	{MarkerNotLast, Fault, "The column __rowMarker__ is not the last one.", "Write __rowMarker__ as the file's last column."},
	{MarkerTypeWrong, Fault, "The column __rowMarker__ is not a 32-bit integer.", "Write it as INT32."},
	{MarkerUnknown, Fault, "A row marker is none of 0 (insert), 1 (update), 2 (delete) and 4 (upsert).", "Write 4 for rows that are there and 2 for rows that are gone."},
	{MarkerInsert, Warning, "Rows are marked 0 (insert), which doubles them if the file is ever sent again.", "Use 4 (upsert): it inserts as well, and is safe to repeat."},
	{MarkerLeftOut, Warning, "A file without row markers follows one with them: all its rows are inserted, also those that are there.", "Write the markers in every file after the first that has them, or set isUpsertDefaultRowMarker."},
	{SchemaTypeChanged, Fault, "A column changed its type between two files: the table fails.", "Publish the table anew: delete its folder, wait until Fabric dropped it, and make it again."},
	{SchemaNotNullAdded, Fault, "A column was added as NOT NULL: the table fails, for its older rows have no value.", "Write every column as OPTIONAL."},
	{SchemaNotNullDropped, Fault, "A column that was NOT NULL is gone: the table fails.", "Go on writing the column, or publish the table anew with OPTIONAL columns."},
	{SchemaNullChanged, Warning, "A column can be NULL in one file and not in another: files of changes have exactly the first file's schema.", "Write every column as OPTIONAL in every file."},
	{SchemaCaseChanged, Fault, "A column's name changed its case between two files: that is a renamed column, which fails the table, and Delta can't hold both.", "Write the name as before, or publish the table anew."},
	{SchemaOrderChanged, Warning, "Columns come in another order than in the file before: files of changes have exactly the first file's schema.", "Write the columns in the same order in every file, new ones at the end. All is well if a column was dropped and made again."},
	{SchemaColumnLeftOut, Warning, "A file of changes leaves out a column that files before and after it have: it becomes NULL in the rows that are written.", "Write all columns of a row that is there; only files of deletes may do with the key. All is well if the column was dropped and made again."},
	{TimestampUnit, Warning, "A timestamp is not stored in microseconds, which is all that Delta has.", "Write TIMESTAMP(MICROS): others are rounded, or read wrongly (INT96)."},
	{TimestampNoZone, Warning, "A timestamp is not adjusted to UTC: Fabric's SQL endpoint leaves such a column out without a word.", "Write it as adjusted to UTC."},
	{StringTooLong, Warning, "A text is longer than Fabric's SQL endpoint shows: it is cut off there.", "Keep texts below 16 MB, or read the table with Spark."},
}

// Rules lists what Lint looks for, in the order of a landing zone from the
// outside in.
func Rules() []Rule { return append([]Rule(nil), rules...) }

func ruleOf(code string) Rule {
	for _, r := range rules {
		if r.Code == code {
			return r
		}
	}
	panic("landing: no rule " + code)
}
