package lease

// Hook is called before and after every side effect.
func (l *Leases) Hook(f func(step string)) { l.hook = f }

// OpenJournals is how many journals a state directory holds.
func OpenJournals(state string) int {
	paths, err := journals(state)
	if err != nil {
		panic(err)
	}
	return len(paths)
}
