//go:build race

package main

// raceDetector says that everything here takes ten times as long.
const raceDetector = true
