package store

import (
	"context"
	"path"
	"strings"
)

// Sub is the part of s below the folder prefix.
func Sub(s Store, prefix string) Store { return sub{s, prefix} }

type sub struct {
	s      Store
	prefix string
}

func (u sub) full(name string) string { return path.Join(u.prefix, name) }

func (u sub) strip(i Info) Info {
	i.Name = strings.TrimPrefix(i.Name, u.prefix+"/")
	return i
}

func (u sub) Put(ctx context.Context, name string, body []byte, cond Cond) (Info, error) {
	i, err := u.s.Put(ctx, u.full(name), body, cond)
	return u.strip(i), err
}

func (u sub) Read(ctx context.Context, name string, off, n int64) ([]byte, Info, error) {
	b, i, err := u.s.Read(ctx, u.full(name), off, n)
	return b, u.strip(i), err
}

func (u sub) Stat(ctx context.Context, name string) (Info, error) {
	i, err := u.s.Stat(ctx, u.full(name))
	return u.strip(i), err
}

func (u sub) List(ctx context.Context, dir string) ([]Info, error) {
	l, err := u.s.List(ctx, u.full(dir))
	for k := range l {
		l[k] = u.strip(l[k])
	}
	return l, err
}

func (u sub) Rename(ctx context.Context, from, to string) error {
	return u.s.Rename(ctx, u.full(from), u.full(to))
}

func (u sub) Remove(ctx context.Context, name string) error { return u.s.Remove(ctx, u.full(name)) }
