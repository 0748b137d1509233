package parquet

import (
	"math/rand"
	randv2 "math/rand/v2"
)

// randv1 lets math/big, which wants the old generator, draw from the new one.
type randv1 struct{ r *randv2.Rand }

func (s randv1) rand() *rand.Rand { return rand.New(s) }
func (s randv1) Int63() int64     { return int64(s.r.Uint64() >> 1) }
func (s randv1) Uint64() uint64   { return s.r.Uint64() }
func (s randv1) Seed(int64)       {}
