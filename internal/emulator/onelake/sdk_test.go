package onelake_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/datalakeerror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/file"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"

	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
)

// These tests let Microsoft's own clients witness the service.

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// server serves an endpoint and gives the options that reach it.
func server(t *testing.T, endpoint func(*onelake.Service) http.Handler) (root string, o azcore.ClientOptions) {
	t.Helper()
	s, root := open(t, onelake.Options{PageSize: 3})
	srv := httptest.NewTLSServer(endpoint(s))
	t.Cleanup(srv.Close)
	// The test server's client reaches it as any name below example.com.
	return root, azcore.ClientOptions{Transport: srv.Client(), Retry: policy.RetryOptions{MaxRetries: -1}}
}

const address = "https://onelake.example.com/" + workspace

func TestDataLakeClient(t *testing.T) {
	ctx := t.Context()
	// The SDK sends Blob requests too (properties, reads), here to the same host.
	root, o := server(t, func(s *onelake.Service) http.Handler { return s })
	lake, err := filesystem.NewClient(address, token{}, &filesystem.ClientOptions{ClientOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	dir := lake.NewDirectoryClient(item + "/Files/LandingZone/t")
	if _, err := dir.Create(ctx, nil); err != nil {
		t.Fatal(err)
	}
	f := lake.NewFileClient(item + "/Files/LandingZone/t/_ü 1")
	if _, err := f.Create(ctx, nil); err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789"), 1000)
	if _, err := f.AppendData(ctx, 0, streaming.NopCloser(bytes.NewReader(body)), nil); err != nil {
		t.Fatal(err)
	}
	if p, err := f.GetProperties(ctx, nil); err != nil || *p.ContentLength != 0 {
		t.Fatalf("before the flush: %v, %v", p.ContentLength, err)
	}
	flushed, err := f.FlushData(ctx, int64(len(body)), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.GetProperties(ctx, nil)
	if err != nil || *p.ContentLength != int64(len(body)) || *p.ETag != *flushed.ETag || *p.ResourceType != "file" {
		t.Fatalf("after the flush: %+v, %v", p, err)
	}
	part, err := f.DownloadStream(ctx, &file.DownloadStreamOptions{Range: &file.HTTPRange{Offset: 7, Count: 5}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(part.Body); err != nil || string(got) != "78901" {
		t.Fatalf("a range: %q, %v", got, err)
	}
	every := azcore.ETagAny
	absent := &file.RenameOptions{AccessConditions: &file.AccessConditions{ModifiedAccessConditions: &file.ModifiedAccessConditions{IfNoneMatch: &every}}}
	g := lake.NewFileClient(item + "/Files/LandingZone/t/_2")
	if _, err := g.Create(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Rename(ctx, item+"/Files/LandingZone/t/1", absent); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Rename(ctx, item+"/Files/LandingZone/t/1", absent); !datalakeerror.HasCode(err, datalakeerror.PathAlreadyExists) {
		t.Fatalf("second rename: got %v, want PathAlreadyExists", err)
	}
	for _, n := range []string{"a", "b", "c", "d"} {
		if _, err := lake.NewFileClient(item+"/Files/LandingZone/t/"+n).Create(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	prefix, names, pages := item+"/Files/LandingZone", []string{}, 0
	for pager := lake.NewListPathsPager(true, &filesystem.ListPathsOptions{Prefix: &prefix}); pager.More(); pages++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Paths {
			if *p.IsDirectory != (*p.Name == prefix+"/t") {
				t.Errorf("%s: directory %v", *p.Name, *p.IsDirectory)
			}
			names = append(names, (*p.Name)[len(prefix)+1:])
		}
	}
	if want := []string{"t", "t/1", "t/_ü 1", "t/a", "t/b", "t/c", "t/d"}; !slices.Equal(names, want) || pages != 3 {
		t.Errorf("list: got %q in %d pages, want %q in 3", names, pages, want)
	}
	if _, err := dir.Delete(ctx, nil); err != nil { // in pages of 3
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, workspace, item, "Files", "LandingZone", "t")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the folder is still there: %v", err)
	}
	if _, err := f.GetProperties(ctx, nil); !datalakeerror.HasCode(err, datalakeerror.PathNotFound) { // the SDK says Path where the service says Blob
		t.Fatalf("a file that is gone: %v", err)
	}
	book.Proved("onelake.list")
}

func TestBlobClient(t *testing.T) {
	ctx := t.Context()
	root, o := server(t, (*onelake.Service).Blob)
	c, err := container.NewClient(address, token{}, &container.ClientOptions{ClientOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	base := item + "/Tables/dbo/t/"
	b := c.NewBlockBlobClient(base + "_delta_log/0.json") // the SDK sends the slashes encoded
	every := azcore.ETagAny
	absent := &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &every}}
	first, err := b.Upload(ctx, streaming.NopCloser(bytes.NewReader([]byte("one"))), &blockblob.UploadOptions{AccessConditions: absent})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(root, workspace, item, "Tables", "dbo", "t", "_delta_log", "0.json"), "one")
	if _, err := b.Upload(ctx, streaming.NopCloser(bytes.NewReader([]byte("two"))), &blockblob.UploadOptions{AccessConditions: absent}); !bloberror.HasCode(err, bloberror.BlobAlreadyExists) {
		t.Fatalf("second upload: got %v, want BlobAlreadyExists", err)
	}
	match := &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: first.ETag}}
	if _, err := b.Upload(ctx, streaming.NopCloser(bytes.NewReader([]byte("two"))), &blockblob.UploadOptions{AccessConditions: match}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Upload(ctx, streaming.NopCloser(bytes.NewReader([]byte("three"))), &blockblob.UploadOptions{AccessConditions: match}); !bloberror.HasCode(err, bloberror.ConditionNotMet) {
		t.Fatalf("stale upload: got %v, want ConditionNotMet", err)
	}

	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	parts := c.NewBlockBlobClient(base + "part.parquet")
	if _, err := parts.UploadBuffer(ctx, big, &blockblob.UploadBufferOptions{BlockSize: 300 << 10, Concurrency: 4}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 20)
	if _, err := parts.DownloadBuffer(ctx, got, &blob.DownloadBufferOptions{Range: blob.HTTPRange{Offset: 307195, Count: 20}}); err != nil || !bytes.Equal(got, big[307195:307215]) {
		t.Fatalf("over the seam of two blocks: %q, %v", got, err)
	}
	copied := c.NewBlockBlobClient(base + "copy.parquet")
	if _, err := copied.CopyFromURL(ctx, parts.URL(), nil); err != nil {
		t.Fatal(err)
	}
	if p, err := copied.GetProperties(ctx, nil); err != nil || *p.ContentLength != int64(len(big)) {
		t.Fatalf("the copy: %v, %v", p.ContentLength, err)
	}

	var flat []string
	for pager := c.NewListBlobsFlatPager(&azblob.ListBlobsFlatOptions{Prefix: &base}); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range page.Segment.BlobItems {
			flat = append(flat, (*i.Name)[len(base):])
		}
	}
	if want := []string{"_delta_log", "_delta_log/0.json", "copy.parquet", "part.parquet"}; !slices.Equal(flat, want) {
		t.Errorf("flat: got %q, want %q", flat, want)
	}
	var blobs, prefixes []string
	for pager := c.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &base}); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range page.Segment.BlobItems {
			blobs = append(blobs, (*i.Name)[len(base):])
		}
		for _, i := range page.Segment.BlobPrefixes {
			prefixes = append(prefixes, (*i.Name)[len(base):])
		}
	}
	if !slices.Equal(blobs, []string{"copy.parquet", "part.parquet"}) || !slices.Equal(prefixes, []string{"_delta_log/"}) {
		t.Errorf("by delimiter: got %q and %q", blobs, prefixes)
	}
	if _, err := copied.Delete(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := copied.GetProperties(ctx, nil); !bloberror.HasCode(err, bloberror.BlobNotFound) {
		t.Fatalf("a blob that is gone: %v", err)
	}
	book.Proved("onelake.blob")
}
