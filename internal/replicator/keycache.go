package replicator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
)

// keyCache holds key files, in a folder of this machine or in memory.
type keyCache struct {
	dir string // "": memory
	mu  sync.Mutex
	mem map[string]map[digest][]byte // by table
}

const keySuffix = ".keys"

// tableFolder is a table's folder in the cache.
func tableFolder(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}

func (k *keyCache) path(table string, d digest) string {
	return filepath.Join(k.dir, table, hex.EncodeToString(d[:])+keySuffix)
}

// get opens a key file, or fails with fs.ErrNotExist or errKeys. The caller
// calls done.
func (k *keyCache) get(table string, d digest) (f *keyFile, done func(), err error) {
	if k.dir == "" {
		k.mu.Lock()
		body, ok := k.mem[table][d]
		k.mu.Unlock()
		if !ok {
			return nil, nil, fs.ErrNotExist
		}
		f, err := openKeys(bytes.NewReader(body), int64(len(body)), d)
		return f, func() {}, err
	}
	file, err := os.Open(k.path(table, d))
	if err != nil {
		return nil, nil, err
	}
	fi, err := file.Stat()
	if err == nil {
		f, err = openKeys(file, fi.Size(), d)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return f, func() { file.Close() }, nil
}

// put keeps a key file. It is not synced: one that a crash tore is found out by
// its checksums.
func (k *keyCache) put(table string, d digest, body []byte) error {
	if k.dir == "" {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.mem[table] == nil {
			k.mem[table] = map[digest][]byte{}
		}
		k.mem[table][d] = body
		return nil
	}
	p := k.path(table, d)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(p), "*.tmp")
	if err != nil {
		return err
	}
	_, err = temp.Write(body)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), p)
	}
	if err != nil {
		os.Remove(temp.Name()) // keep would, at the next start
	}
	return err
}

func (k *keyCache) remove(table string, d digest) {
	if k.dir != "" {
		os.Remove(k.path(table, d)) // what is left is removed by keep
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.mem[table], d)
}

// keep removes all key files of a table but these.
func (k *keyCache) keep(table string, these map[digest]bool) {
	if k.dir == "" {
		k.mu.Lock()
		defer k.mu.Unlock()
		for d := range k.mem[table] {
			if !these[d] {
				delete(k.mem[table], d)
			}
		}
		return
	}
	list, _ := os.ReadDir(filepath.Join(k.dir, table)) // what can't be listed is no more than space
	for _, e := range list {
		var d digest
		text, ok := strings.CutSuffix(e.Name(), keySuffix)
		if n, err := hex.Decode(d[:], []byte(text[:min(len(text), 2*len(d))])); ok && err == nil && n == len(d) && these[d] {
			continue
		}
		os.Remove(filepath.Join(k.dir, table, e.Name())) // likewise
	}
}

func (k *keyCache) drop(table string) {
	if k.dir != "" {
		os.RemoveAll(filepath.Join(k.dir, table)) // no more than space
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.mem, table)
}

// keySpace says which table and key columns key files are about.
type keySpace struct {
	cache *keyCache
	table string // its folder
	names []string
}

func newKeySpace(c *keyCache, s *delta.Snapshot, key []string) keySpace {
	return keySpace{cache: c, table: tableFolder(s.Metadata.ID), names: key}
}

func (k keySpace) digest(name string, size int64) digest {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%q", name, size, k.names))
	return digest(sum[:16])
}

// open opens the key file of a data file, and makes it when there is none that
// is sound.
func (k keySpace) open(ctx context.Context, s *delta.Snapshot, f *delta.File) (*keyFile, func(), error) {
	d := k.digest(f.Name, f.Size)
	keys, done, err := k.cache.get(k.table, d)
	if err == nil {
		return keys, done, nil
	}
	body, err := k.make(ctx, s, f)
	if err != nil {
		return nil, nil, err
	}
	keys, err = openKeys(bytes.NewReader(body), int64(len(body)), d)
	return keys, func() {}, err
}

// make reads a data file's keys and keeps a key file of them. One that can't be
// kept will be made again.
func (k keySpace) make(ctx context.Context, s *delta.Snapshot, f *delta.File) ([]byte, error) {
	b, err := s.ReadFile(ctx, f, k.names)
	if err != nil {
		return nil, fmt.Errorf("index the table: %w", err)
	}
	b = &batch.Batch{Schema: &batch.Schema{Fields: b.Schema.Fields}, Cols: b.Cols} // the schema may be shared
	for i := range b.Schema.Fields {
		b.Schema.Key = append(b.Schema.Key, i)
	}
	entries := make([]entry, len(b.Cols[0].Def))
	var key []byte
	for i := range entries {
		key = b.AppendKey(key[:0], i)
		entries[i] = entry{hashOf(key), uint32(i)}
	}
	body := encodeKeys(k.digest(f.Name, f.Size), entries)
	_ = k.cache.put(k.table, k.digest(f.Name, f.Size), body)
	return body, nil
}

// enter keeps a key file of rows whose hashes are known.
func (k keySpace) enter(name string, size int64, hashes []hash) {
	entries := make([]entry, len(hashes))
	for i, h := range hashes {
		entries[i] = entry{h, uint32(i)}
	}
	d := k.digest(name, size)
	_ = k.cache.put(k.table, d, encodeKeys(d, entries)) // else it is made from the data file
}

// find calls found with the rows of a data file whose keys are asked for; the
// hashes ascend. A key file that turns out to be torn is made again; found may
// see rows twice then.
func (k keySpace) find(ctx context.Context, s *delta.Snapshot, f *delta.File, asked []hash, found func(row uint32)) error {
	for again := false; ; again = true {
		keys, done, err := k.open(ctx, s, f)
		if err != nil {
			return err
		}
		err = keys.find(asked, found)
		done()
		if again || !errors.Is(err, errKeys) {
			return err
		}
		k.cache.remove(k.table, k.digest(f.Name, f.Size))
	}
}

// has reports whether a key file is there.
func (k keySpace) has(f *delta.File) bool {
	_, done, err := k.cache.get(k.table, k.digest(f.Name, f.Size))
	if err == nil {
		done()
	}
	return err == nil
}

func (k keySpace) keep(s *delta.Snapshot) {
	these := map[digest]bool{}
	for i := range s.Files {
		these[k.digest(s.Files[i].Name, s.Files[i].Size)] = true
	}
	k.cache.keep(k.table, these)
}

// ascending sorts hashes and drops those that are there twice.
func ascending(h []hash) []hash {
	slices.SortFunc(h, hash.compare)
	return slices.Compact(h)
}
