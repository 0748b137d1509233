package onelake_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
)

// Writers race for one file number. With If-None-Match one of them wins and the
// others keep what they have; without it all are told that they have published,
// and all but one are lost.
func TestRaceForANumber(t *testing.T) {
	for _, writers := range []int{1, 2, 4, 8, 16} {
		for _, conditional := range []bool{true, false} {
			s, _ := open(t, onelake.Options{})
			for w := range writers {
				write(t, s, fmt.Sprintf("%s/t/_%d", files, w), fmt.Sprint("writer ", w))
			}
			var published atomic.Int32
			var wg sync.WaitGroup
			for w := range writers {
				c := call{method: "PUT", path: files + "/t/1", header: []string{fmt.Sprintf("x-ms-rename-source: %s/t/_%d", files, w)}}
				if conditional {
					c.header = append(c.header, "If-None-Match: *")
				}
				wg.Go(func() {
					switch resp := c.do(t, s); resp.StatusCode {
					case http.StatusCreated:
						published.Add(1)
					case http.StatusConflict:
					default:
						t.Errorf("status %d", resp.StatusCode)
					}
				})
			}
			wg.Wait()
			kept := 0
			for w := range writers {
				if (call{method: "HEAD", path: fmt.Sprintf("%s/t/_%d", files, w)}).do(t, s).StatusCode == http.StatusOK {
					kept++
				}
			}
			lost := writers - kept - 1
			wantPublished, wantLost := 1, 0
			if !conditional {
				wantPublished, wantLost = writers, writers-1
			}
			if int(published.Load()) != wantPublished || lost != wantLost {
				t.Errorf("%d writers, conditional %v: %d published, %d lost; want %d and %d", writers, conditional, published.Load(), lost, wantPublished, wantLost)
			}
		}
	}
	book.Proved("onelake.rename")
}
