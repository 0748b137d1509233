package onelake

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"path"
	"strings"
)

type xmlBlob struct {
	Name       string
	Properties struct {
		CreationTime  string `xml:"Creation-Time"`
		LastModified  string `xml:"Last-Modified"`
		Etag          string
		ContentLength int64  `xml:"Content-Length"`
		ContentType   string `xml:"Content-Type"`
		BlobType      string
		ResourceType  string
	}
}

type xmlPrefix struct{ Name string }

type xmlList struct {
	XMLName       xml.Name `xml:"EnumerationResults"`
	ContainerName string   `xml:",attr"`
	Prefix        string
	Marker        string
	MaxResults    int
	Delimiter     string      `xml:",omitempty"`
	Blobs         []xmlBlob   `xml:"Blobs>Blob"`
	Prefixes      []xmlPrefix `xml:"Blobs>BlobPrefix"`
	NextMarker    string
}

// listBlobs answers List Blobs, flat or by the delimiter "/". Folders are listed
// too, as they are where a namespace is hierarchical.
func (s *Service) listBlobs(w http.ResponseWriter, t target, q params) error {
	prefix, delimiter := q.get("prefix"), q.get("delimiter")
	if delimiter != "" && delimiter != "/" {
		return notEmulated("A delimiter other than /")
	}
	slash := strings.LastIndexByte(prefix, '/')
	if slash < 0 {
		return errManaged // a prefix without an item lists the workspace
	}
	dir, err := s.below(t.workspace, prefix[:slash])
	if err != nil {
		return err
	}
	limit, err := s.pageSize(q.get("maxresults"))
	if err != nil {
		return err
	}
	after, err := base64.StdEncoding.DecodeString(q.get("marker"))
	if err != nil {
		return errInvalidQuery
	}
	names, err := s.names(dir.disk, delimiter == "")
	if err == errNotFound {
		names = nil // no blob has the prefix
	} else if err != nil {
		return err
	}
	out := xmlList{ContainerName: t.workspace, Prefix: prefix, Marker: q.get("marker"), MaxResults: limit, Delimiter: delimiter}
	last := ""
	for _, n := range names {
		if string(after) >= n || !strings.HasPrefix(n, prefix[slash+1:]) {
			continue
		}
		if len(out.Blobs)+len(out.Prefixes) == limit {
			out.NextMarker = base64.StdEncoding.EncodeToString([]byte(last))
			break
		}
		e, err := s.stat(path.Join(dir.disk, n))
		if err != nil {
			continue // it went meanwhile
		}
		last = n
		out.add(dir.shown+"/"+n, e)
	}
	w.Header().Set("Content-Type", "application/xml")
	if _, err := w.Write([]byte(xml.Header)); err != nil {
		return nil // the client has gone
	}
	return xml.NewEncoder(w).Encode(out)
}

func (l *xmlList) add(name string, e entry) {
	if e.dir && l.Delimiter != "" {
		l.Prefixes = append(l.Prefixes, xmlPrefix{name + "/"})
		return
	}
	b := xmlBlob{Name: name}
	p := &b.Properties
	p.CreationTime, p.LastModified = e.created.UTC().Format(http.TimeFormat), e.modified.UTC().Format(http.TimeFormat)
	p.Etag, p.ContentLength, p.ContentType, p.BlobType, p.ResourceType = e.etag, e.size, "application/octet-stream", "BlockBlob", "file"
	if e.dir {
		p.ResourceType = "directory"
	}
	l.Blobs = append(l.Blobs, b)
}
