// Package delta reads and writes a Delta table's log.
//
// It knows flat tables without partitions, deletion vectors, timestamps without
// time zone, and checkpoints of the first kind; what it doesn't know it refuses
// with ErrUnsupported. The law is
// https://github.com/delta-io/delta/blob/master/PROTOCOL.md.
package delta
