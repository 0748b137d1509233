package onelake

import (
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http"
	"os"
)

// blockSet holds the blocks of a blob: those staged, and, as long as the blob
// is what they made, those committed.
type blockSet struct {
	staged    map[string]stagedBlock
	committed map[string]span
	etag      string // of the blob that committed describes
}

type stagedBlock struct {
	name string // of the staged file
	size int64
}

const (
	maxBlocks    = 100_000
	maxBlockList = 16 << 20 // bytes of a list's XML
)

var errBlockList = refuse(http.StatusBadRequest, "InvalidBlockList", "The specified block list is invalid.")

func (s *Service) putBlock(w http.ResponseWriter, r *http.Request, t target, q params) error {
	id := q.get("blockid")
	if raw, err := base64.StdEncoding.DecodeString(id); err != nil || len(raw) == 0 || len(raw) > 64 {
		return refuse(http.StatusBadRequest, "InvalidQueryParameterValue", "blockid must be base64 of at most 64 bytes.")
	}
	f, staged, err := s.stage()
	if err != nil {
		return err
	}
	n, err := io.Copy(f, r.Body)
	f.Close()
	if err != nil {
		s.root.Remove(staged) // New empties the folder in any case
		return errInterrupted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.blocks[t.disk]
	if set == nil {
		set = &blockSet{staged: map[string]stagedBlock{}}
		s.blocks[t.disk] = set
	}
	if old, ok := set.staged[id]; ok {
		s.root.Remove(old.name)
	} else if len(set.staged) == maxBlocks {
		s.root.Remove(staged)
		return refuse(http.StatusConflict, "BlockCountExceedsLimit", "The uncommitted block count cannot exceed the maximum limit of 100,000 blocks.")
	}
	set.staged[id] = stagedBlock{staged, n}
	w.Header().Set("x-ms-request-server-encrypted", "true")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// blockList keeps the order in which Latest, Committed and Uncommitted are mixed.
type blockList struct {
	Items []struct {
		XMLName xml.Name
		ID      string `xml:",chardata"`
	} `xml:",any"`
}

func (s *Service) putBlockList(w http.ResponseWriter, r *http.Request, t target) error {
	var list blockList
	if err := xml.NewDecoder(http.MaxBytesReader(w, r.Body, maxBlockList)).Decode(&list); err != nil {
		return refuse(http.StatusBadRequest, "InvalidXmlDocument", "XML specified is not syntactically valid.")
	}
	c, err := conditionsOf(r.Header, "")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := s.find(t.disk)
	if err != nil {
		return err
	}
	if err := c.forWrite(have); err != nil {
		return err
	}
	if have != nil && have.dir {
		return errWrongType
	}
	f, staged, err := s.stage()
	if err != nil {
		return err
	}
	committed, err := s.assemble(f, t.disk, have, list)
	if err == nil {
		err = s.mkdirs(parent(t.disk))
	}
	if err == nil {
		err = s.place(staged, t.disk)
	}
	if err != nil {
		s.discard(f, staged)
		return err
	}
	f.Close()
	s.forget(t.disk)
	e, err := s.stat(t.disk)
	if err != nil {
		return err
	}
	s.blocks[t.disk] = &blockSet{staged: map[string]stagedBlock{}, committed: committed, etag: e.etag}
	return s.created(w, t.disk, http.StatusCreated)
}

// assemble writes the listed blocks one after the other.
func (s *Service) assemble(dst *os.File, p string, have *entry, list blockList) (map[string]span, error) {
	set := s.blocks[p]
	if set == nil {
		set = &blockSet{}
	}
	old := set.committed
	if have == nil || have.etag != set.etag {
		old = nil
	}
	out := map[string]span{}
	var at int64
	for _, b := range list.Items {
		staged, isStaged := set.staged[b.ID]
		done, isDone := old[b.ID]
		kind := b.XMLName.Local
		var n int64
		var err error
		switch {
		case isStaged && (kind == "Latest" || kind == "Uncommitted"):
			n, err = staged.size, s.copyTo(dst, staged.name, 0, staged.size)
		case isDone && (kind == "Latest" || kind == "Committed"):
			n, err = done.to-done.from, s.copyTo(dst, p, done.from, done.to-done.from)
		default:
			return nil, errBlockList
		}
		if err != nil {
			return nil, err
		}
		out[b.ID] = span{at, at + n}
		at += n
	}
	return out, nil
}

func (s *Service) dropBlocks(p string) {
	if set := s.blocks[p]; set != nil {
		delete(s.blocks, p)
		for _, b := range set.staged {
			s.root.Remove(b.name) // New empties the folder in any case
		}
	}
}
