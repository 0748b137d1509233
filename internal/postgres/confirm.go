package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// statusSize is a standby status update inside its CopyData message.
const statusSize = 5 + 34

// Confirm tells the server that everything before lsn is durable, so that it may
// drop its log up to there. Positions never go back: an older one, and 0, repeats
// the newest. It may be called from any goroutine, also while Next waits.
func (s *Stream) Confirm(ctx context.Context, lsn LSN) error {
	s.send.Lock()
	defer s.send.Unlock()
	if lsn > s.confirmed {
		s.confirmed = lsn
	}
	buf := s.status[:]
	buf[0] = 'd'
	binary.BigEndian.PutUint32(buf[1:], statusSize-1)
	buf[5] = 'r'
	for i := range 3 { // written, flushed, applied
		binary.BigEndian.PutUint64(buf[6+8*i:], uint64(s.confirmed))
	}
	binary.BigEndian.PutUint64(buf[30:], uint64(time.Now().UnixMicro()-epochMicros))
	buf[38] = 0 // no reply wanted
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	conn := s.conn.Conn()
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("confirm %s: %w", s.confirmed, err)
	}
	if _, err := conn.Write(buf); err != nil {
		return fmt.Errorf("confirm %s: %w", s.confirmed, err)
	}
	return nil
}

// Confirmed is the newest position given to Confirm, or where the stream began.
func (s *Stream) Confirmed() LSN {
	s.send.Lock()
	defer s.send.Unlock()
	return s.confirmed
}

// keepAlive repeats the newest confirmation until ctx ends. A write that fails
// ends it: Next meets the broken connection and tells.
func (s *Stream) keepAlive(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if s.Confirm(ctx, 0) != nil {
				return
			}
		}
	}
}
