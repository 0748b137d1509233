package verify

// limits are what is held in memory for a table. They follow from a number of
// bytes; only the time that a comparison takes grows with the table.
type limits struct {
	buckets    int   // checksums over ranges of key hashes, on each side
	rows       int64 // of the source in differing ranges that are held at a time
	candidates int   // rows that are looked at again and again
}

const (
	maxBuckets    = 1 << 20
	maxCandidates = 20_000
	maxNamed      = 1_000 // differences named in a receipt

	bucketBytes = 2 * 24 // a count and a sum, on both sides
	rowBytes    = 250    // of a row that is held, without its key: hash, xmin, its place in a map
	sideBytes   = 40     // of a candidate's column: a hash on each side, and some to spare
)

// limitsFor shares out bytes for a table with so many columns, of whose rows the
// keys take keyBytes on average: a quarter for checksums, a half for rows, a
// quarter for candidates.
func limitsFor(memory int64, columns int, keyBytes int64) limits {
	l := limits{buckets: 1 << 10}
	for l.buckets < maxBuckets && int64(l.buckets)*2*bucketBytes <= memory/4 {
		l.buckets *= 2
	}
	l.rows = max(1000, memory/2/(rowBytes+keyBytes))
	l.candidates = int(min(maxCandidates, max(100, memory/4/(rowBytes+keyBytes+int64(columns)*sideBytes))))
	return l
}
