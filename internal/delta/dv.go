package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/google/uuid"

	"github.com/pgmirror/pgmirror/internal/store"
)

// DeletionVector says where the set of a file's deleted rows lies
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#deletion-vectors).
type DeletionVector struct {
	StorageType    string `json:"storageType"` // u: a file of the table; i: inline; p: an absolute path, which is not supported
	PathOrInlineDv string `json:"pathOrInlineDv"`
	Offset         *int32 `json:"offset,omitempty"` // bytes
	SizeInBytes    int32  `json:"sizeInBytes"`
	Cardinality    int64  `json:"cardinality"` // rows deleted
}

// id tells a file with this vector from the same file with another or none.
func (d *DeletionVector) id() string {
	switch {
	case d == nil:
		return ""
	case d.Offset == nil:
		return d.StorageType + d.PathOrInlineDv
	}
	return fmt.Sprintf("%s%s@%d", d.StorageType, d.PathOrInlineDv, *d.Offset)
}

const (
	dvFileVersion = 1
	dvMagic       = 1681511377 // portable 64-bit roaring follows
	dvMagicNative = 1681511376 // an older layout: bitmaps one after the other, their high words 0, 1, 2, …
	dvMaxFile     = 1 << 30    // bytes; the offsets are 32-bit
	dvMaxInline   = 256        // bytes of a vector that goes into the log: a file of its own costs more
)

// Deleted reads which rows of f are deleted; nil when none are.
func (s *Snapshot) Deleted(ctx context.Context, f *File) (*roaring64.Bitmap, error) {
	if f.DeletionVector == nil {
		return nil, nil
	}
	d := f.DeletionVector
	data, name, err := s.vectorBytes(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("deletion vector of %s: %w", f.Name, err)
	}
	bm, err := decodeVector(data)
	if err != nil {
		return nil, fmt.Errorf("deletion vector of %s in %s: %w", f.Name, name, err)
	}
	if n := int64(bm.GetCardinality()); n != d.Cardinality {
		return nil, fmt.Errorf("deletion vector of %s in %s: %d rows, want %d", f.Name, name, n, d.Cardinality)
	}
	if !bm.IsEmpty() && f.Rows >= 0 && bm.Maximum() >= uint64(f.Rows) {
		return nil, fmt.Errorf("deletion vector of %s in %s: row %d of %d", f.Name, name, bm.Maximum(), f.Rows)
	}
	return bm, nil
}

func (s *Snapshot) vectorBytes(ctx context.Context, d *DeletionVector) (data []byte, name string, err error) {
	switch d.StorageType {
	case "i":
		data, err := decodeZ85(d.PathOrInlineDv)
		if err == nil && (int(d.SizeInBytes) > len(data) || d.SizeInBytes < 0) {
			err = fmt.Errorf("%d bytes, want %d", len(data), d.SizeInBytes)
		}
		if err != nil {
			return nil, "", err
		}
		return data[:d.SizeInBytes], "the log", nil
	case "u":
		name, err := vectorName(d.PathOrInlineDv)
		if err != nil {
			return nil, "", err
		}
		offset := int64(0)
		if d.Offset != nil {
			offset = int64(*d.Offset)
		}
		if offset < 0 || d.SizeInBytes < 0 {
			return nil, "", fmt.Errorf("%d bytes at %d", d.SizeInBytes, offset)
		}
		b, _, err := s.table.Read(ctx, name, offset, int64(d.SizeInBytes)+8)
		if err != nil {
			return nil, "", err
		}
		data, err = unframe(b, int(d.SizeInBytes))
		if err != nil {
			return nil, "", fmt.Errorf("%s at %d: %w", name, offset, err)
		}
		return data, name, nil
	}
	return nil, "", fmt.Errorf("storage type %q: %w", d.StorageType, ErrUnsupported)
}

// unframe takes a vector out of its frame in a file: size, data, checksum.
func unframe(b []byte, size int) ([]byte, error) {
	if len(b) < size+8 {
		return nil, fmt.Errorf("file ends after %d bytes, want %d", len(b), size+8)
	}
	if n := binary.BigEndian.Uint32(b); int64(n) != int64(size) {
		return nil, fmt.Errorf("size is %d bytes, want %d", n, size)
	}
	data := b[4 : 4+size]
	if binary.BigEndian.Uint32(b[4+size:]) != crc32.ChecksumIEEE(data) {
		return nil, errors.New("checksum differs")
	}
	return data, nil
}

// decodeVector reads the bytes of a vector.
func decodeVector(data []byte) (*roaring64.Bitmap, error) {
	if len(data) < 4 {
		return nil, errors.New("shorter than its magic number")
	}
	body := data[4:]
	switch little, big := binary.LittleEndian.Uint32(data), binary.BigEndian.Uint32(data); {
	case little == dvMagic:
	case little == dvMagicNative:
		body = asPortable(body, binary.LittleEndian)
	case big == dvMagicNative:
		body = asPortable(body, binary.BigEndian)
	default:
		return nil, fmt.Errorf("magic number %d: %w", little, ErrUnsupported)
	}
	bm := roaring64.New()
	if _, err := bm.ReadPortableFrom(bytes.NewReader(body)); err != nil {
		return nil, err
	}
	if bm.IsEmpty() {
		return bm, nil
	}
	if err := bm.Validate(); err != nil {
		return nil, err
	}
	return bm, nil
}

// encodeVector is the bytes of a vector.
func encodeVector(bm *roaring64.Bitmap) ([]byte, error) {
	bm.RunOptimize()
	var w bytes.Buffer
	w.Write(binary.LittleEndian.AppendUint32(nil, dvMagic))
	if _, err := bm.WritePortableTo(&w); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// Vectors gathers the deletion vectors of one commit: small ones go into the log,
// the others into one file.
type Vectors struct {
	id   uuid.UUID
	body []byte
}

// Add takes a vector and returns its descriptor.
func (v *Vectors) Add(bm *roaring64.Bitmap) (*DeletionVector, error) {
	data, err := encodeVector(bm)
	if err != nil {
		return nil, err
	}
	if len(data) <= dvMaxInline {
		return &DeletionVector{StorageType: "i", PathOrInlineDv: encodeZ85(data), SizeInBytes: int32(len(data)), Cardinality: int64(bm.GetCardinality())}, nil
	}
	if v.body == nil {
		v.id, v.body = uuid.New(), []byte{dvFileVersion}
	}
	if len(v.body)+len(data)+8 > dvMaxFile {
		return nil, fmt.Errorf("deletion vectors of one commit take more than %d bytes", dvMaxFile)
	}
	offset := int32(len(v.body))
	v.body = binary.BigEndian.AppendUint32(v.body, uint32(len(data)))
	v.body = append(v.body, data...)
	v.body = binary.BigEndian.AppendUint32(v.body, crc32.ChecksumIEEE(data))
	return &DeletionVector{StorageType: "u", PathOrInlineDv: encodeZ85(v.id[:]), Offset: &offset,
		SizeInBytes: int32(len(data)), Cardinality: int64(bm.GetCardinality())}, nil
}

// Write writes the file, if there is a vector for it. It comes before the commit
// that names it.
func (v *Vectors) Write(ctx context.Context, table store.Store) error {
	if v.body == nil {
		return nil
	}
	_, err := table.Put(ctx, vectorFile(v.id), v.body, store.Cond{Absent: true})
	return err
}

func vectorFile(id uuid.UUID) string { return "deletion_vector_" + id.String() + ".bin" }

// vectorName is the file of a vector of storage type u: an optional folder, then
// 20 characters of UUID.
func vectorName(p string) (string, error) {
	if len(p) < 20 {
		return "", fmt.Errorf("%q names no file", p)
	}
	b, err := decodeZ85(p[len(p)-20:])
	if err != nil {
		return "", err
	}
	name := vectorFile(uuid.UUID(b))
	if prefix := p[:len(p)-20]; prefix != "" {
		if _, err := decodePath(EncodePath(prefix)); err != nil || strings.Contains(prefix, "/") {
			return "", fmt.Errorf("%q names no file", p)
		}
		name = prefix + "/" + name
	}
	return name, nil
}

// asPortable brings the older layout (u32 count, then per bitmap u32 length and
// its bytes) into the portable one. Engines write it in little endian; the
// protocol's own example is in big endian.
func asPortable(b []byte, order binary.ByteOrder) []byte {
	if len(b) < 4 {
		return nil
	}
	n := order.Uint32(b)
	out := binary.LittleEndian.AppendUint64(nil, uint64(n))
	b = b[4:]
	for key := range n {
		if len(b) < 4 || uint64(order.Uint32(b)) > uint64(len(b)-4) {
			return out // ends early: the portable reader says so
		}
		size := order.Uint32(b)
		out = binary.LittleEndian.AppendUint32(out, key)
		out = append(out, b[4:4+size]...)
		b = b[4+size:]
	}
	return out
}
