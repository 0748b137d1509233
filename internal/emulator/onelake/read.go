package onelake

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// read answers Path - Read and Path - Get Properties, Get Blob and Get Blob
// Properties: they differ in nothing that a client of ours looks at.
func (s *Service) read(w http.ResponseWriter, r *http.Request, d dialect, t target, q params) error {
	if comp := q.get("comp"); comp != "" && comp != "metadata" {
		return notEmulated("comp=" + comp)
	}
	c, err := conditionsOf(r.Header, "")
	if err != nil {
		return err
	}
	if _, err := s.stat(t.disk); err != nil {
		return err
	}
	f, err := s.root.Open(t.disk)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := describe(f) // of what is open: the name may get another file meanwhile
	if err != nil {
		return err
	}
	if err := c.forRead(e); err != nil {
		return err
	}
	from, n, partial, err := byteRange(w, r, e)
	if err != nil {
		return err
	}
	setProperties(w.Header(), e)
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, from+n-1, e.size))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodGet && !e.dir {
		io.Copy(w, io.NewSectionReader(f, from, n)) // a client that has gone needs no more
	}
	return nil
}

func setProperties(h http.Header, e entry) {
	setEntry(h, e)
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("x-ms-creation-time", e.created.UTC().Format(http.TimeFormat))
	h.Set("x-ms-blob-type", "BlockBlob")
	h.Set("x-ms-lease-state", "available")
	h.Set("x-ms-lease-status", "unlocked")
	h.Set("x-ms-server-encrypted", "true")
	h.Set("x-ms-owner", "$superuser")
	h.Set("x-ms-group", "$superuser")
	h.Set("x-ms-permissions", "---------")
	h.Set("x-ms-resource-type", "file")
	if e.dir {
		h.Set("x-ms-resource-type", "directory")
		h.Set("x-ms-meta-hdi_isfolder", "true")
	}
}

// byteRange reads x-ms-range or Range. Only one range with a beginning is known.
func byteRange(w http.ResponseWriter, r *http.Request, e entry) (from, n int64, partial bool, err error) {
	v := r.Header.Get("x-ms-range")
	if v == "" {
		v = r.Header.Get("Range")
	}
	if v == "" || e.dir || r.Method == http.MethodHead {
		return 0, e.size, false, nil
	}
	spec, ok := strings.CutPrefix(v, "bytes=")
	a, b, dash := strings.Cut(spec, "-")
	first, good := number(a)
	if !ok || !dash || !good {
		return 0, 0, false, errInvalidValue
	}
	last := e.size - 1
	if b != "" {
		x, good := number(b)
		if !good || x < first {
			return 0, 0, false, errInvalidValue
		}
		last = min(last, x)
	}
	if first >= e.size {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", e.size))
		return 0, 0, false, refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The range specified is invalid for the current size of the resource.")
	}
	return first, last - first + 1, true, nil
}
