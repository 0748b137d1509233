package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// EventKind is what an Event is.
type EventKind byte

// The kinds of Event.
const (
	EventMessage   EventKind = iota + 1 // Msg is set
	EventKeepalive                      // everything before WALEnd was sent, unless a transaction is still open
)

// Event is what Next returns. It and its Msg belong to the Stream and hold until
// the next call.
type Event struct {
	Kind           EventKind
	WALEnd         LSN       // of a keepalive: how far the server has sent its log; of a message: its own position
	ServerTime     time.Time // the server's clock when it sent this
	ReplyRequested bool      // a keepalive wanted an answer, which Next has given
	Msg            *pgoutput.Message
}

// ErrStreamEnded says that the server ended the stream in order: it is shutting
// down, or the slot's timeline ended. Possibly wrapped.
var ErrStreamEnded = errors.New("the server ended the stream")

// StreamOptions say what to stream.
type StreamOptions struct {
	SystemID string // which server it has to be, and
	Timeline int32  // on which timeline: it may have changed since somebody looked

	Slot         string
	Publications []string
	Start        LSN  // confirmed already; 0, or before the slot's own position: start from that
	Binary       bool // ask for binary values where a type has them; see Decoder.Binary

	// Spill takes large transactions before they commit and keeps them here; nil:
	// they come when they have committed, and the server keeps them.
	Spill *Spill
	// DecodingMemory is how much the server may use for transactions that it reads
	// (logical_decoding_work_mem, 64 kB at least); one that needs more is written
	// to its disk, or with Spill sent. 0: as the server is set.
	DecodingMemory int
}

// Stream reads a logical slot.
type Stream struct {
	conn   *pgconn.PgConn
	parser pgoutput.Parser
	msg    pgoutput.Message
	event  Event
	held   *held // nil without Spill
	ended  error // what Next has ended with

	send      sync.Mutex // held while writing to the socket, and for confirmed
	confirmed LSN
	status    [statusSize]byte

	interrupt interrupter

	stopAlive context.CancelFunc
	alive     sync.WaitGroup
}

// StartStream connects and starts to stream with protocol version 1, or 2 with
// Spill, logical messages included. Either way whole transactions come in the
// order of their commits. It tells the server now and then, whether or not Next is
// called, that it lives: a stalled reader doesn't lose its connection.
func StartStream(ctx context.Context, e Endpoint, o StreamOptions) (*Stream, error) {
	var settings []Setting
	if o.DecodingMemory > 0 {
		settings = append(settings, Setting{"logical_decoding_work_mem", fmt.Sprintf("%dkB", max(o.DecodingMemory>>10, 64))})
	}
	conn, err := e.ConnectReplication(ctx, settings...)
	if err != nil {
		return nil, err
	}
	s, err := startStream(ctx, conn, o)
	if err != nil {
		_ = conn.Close(ctx) // the first error is the one to tell
		return nil, fmt.Errorf("start the stream of slot %q: %w", o.Slot, err)
	}
	return s, nil
}

func startStream(ctx context.Context, conn *pgconn.PgConn, o StreamOptions) (*Stream, error) {
	id, timeline, _, err := System(ctx, conn) // before the server is told anything: what we confirm is another one's
	if err != nil {
		return nil, err
	}
	if o.SystemID != "" && (id != o.SystemID || timeline != o.Timeline) {
		return nil, fmt.Errorf("another server answers: system %s on timeline %d, not %s on %d", id, timeline, o.SystemID, o.Timeline)
	}
	every, err := aliveInterval(ctx, conn)
	if err != nil {
		return nil, err
	}
	conn.Frontend().Send(&pgproto3.Query{String: startCommand(o)})
	if err := conn.Frontend().Flush(); err != nil {
		return nil, err
	}
	for started := false; !started; {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return nil, err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyBothResponse:
			started = true
		case *pgproto3.ErrorResponse:
			return nil, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			return nil, errors.New("the server did not start it")
		}
	}
	s := &Stream{conn: conn, confirmed: o.Start, interrupt: interrupter{conn: conn.Conn()}}
	if o.Spill != nil {
		if s.held, err = newHeld(*o.Spill); err != nil {
			return nil, err
		}
	}
	aliveCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopAlive = stop
	s.alive.Go(func() { s.keepAlive(aliveCtx, every) })
	return s, nil
}

func startCommand(o StreamOptions) string {
	names := make([]string, len(o.Publications))
	for i, p := range o.Publications {
		names[i] = quoteIdent(p)
	}
	options := []string{"proto_version '1'"}
	if o.Spill != nil {
		options = []string{"proto_version '2'", "streaming 'on'"}
	}
	options = append(options, "publication_names "+quoteLiteral(strings.Join(names, ",")), "messages 'true'")
	if o.Binary {
		options = append(options, "binary 'true'")
	}
	return fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (%s)", quoteIdent(o.Slot), o.Start, strings.Join(options, ", "))
}

// aliveInterval is a quarter of the server's patience, at most ten seconds.
func aliveInterval(ctx context.Context, conn *pgconn.PgConn) (time.Duration, error) {
	results, err := conn.Exec(ctx, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'").ReadAll()
	if err != nil {
		return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	patience := 40 * time.Second
	if len(results) == 1 && len(results[0].Rows) == 1 {
		if ms, ok := parseInt(results[0].Rows[0][0]); ok && ms > 0 {
			patience = min(patience, time.Duration(ms)*time.Millisecond)
		}
	}
	return patience / 4, nil
}

// ErrStream is in every error that ended a stream.
var ErrStream = errors.New("read the stream")

// Next waits for the next event. When ctx ends it returns ctx's error at once
// and may be called again with another; any other error ends the stream.
func (s *Stream) Next(ctx context.Context) (*Event, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if err := s.interrupt.watch(ctx); err != nil {
		return nil, err
	}
	event, err := s.next()
	switch ctxErr := ctx.Err(); {
	case err == nil:
		return event, nil
	case ctxErr != nil && isTimeout(err):
		return nil, ctxErr
	}
	s.ended = fmt.Errorf("%w: %w", ErrStream, err)
	return nil, s.ended
}

func (s *Stream) next() (*Event, error) {
	if s.held != nil && s.held.replay.tx != nil {
		return &s.event, s.held.next(&s.msg)
	}
	for {
		msg, err := s.conn.ReceiveMessage(context.Background())
		if err != nil {
			return nil, err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			if event, err := s.read(m.Data); event != nil || err != nil {
				return event, err
			}
		case *pgproto3.ErrorResponse:
			return nil, refusal(pgconn.ErrorResponseToPgError(m))
		case *pgproto3.CopyDone, *pgproto3.CommandComplete:
			return nil, ErrStreamEnded
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus, *pgproto3.NotificationResponse:
		default:
			return nil, fmt.Errorf("unexpected %T", msg)
		}
	}
}

// refusal adds to what the server ended the stream with what helps, where it can't
// be seen from that: the log keeps a value that can't be sent, whatever becomes of
// its row.
func refusal(err *pgconn.PgError) error {
	switch err.Code {
	case "22P05", "22021": // untranslatable_character, character_not_in_repertoire
		return fmt.Errorf("%w; a published table was given a text that the server can't convert to UTF-8, and the stream of all tables ends there. "+
			"Have its owner mend the row, which is where convert_to(COLUMN::text, 'UTF8') fails, or take the table out of the publication; "+
			"then drop the slot and start with --reseed, as the log keeps the text", err)
	}
	return err
}

// read takes a message of the streaming replication protocol apart
// (https://www.postgresql.org/docs/current/protocol-replication.html). There is
// no event for a message that is kept for later.
func (s *Stream) read(data []byte) (*Event, error) {
	switch {
	case len(data) > 25 && data[0] == 'w':
		s.event = Event{Kind: EventMessage, WALEnd: LSN(binary.BigEndian.Uint64(data[1:])), ServerTime: serverTime(data[17:]), Msg: &s.msg}
		if s.held != nil && s.held.block != nil && data[25] != pgoutput.StreamStop {
			s.held.keep(data[25:])
			return nil, nil
		}
		if err := s.parser.Parse(data[25:], &s.msg); err != nil {
			return nil, fmt.Errorf("at %s: %w", s.event.WALEnd, err)
		}
		if s.held != nil {
			return s.streamed()
		}
		return &s.event, nil
	case len(data) == 18 && data[0] == 'k':
		s.event = Event{Kind: EventKeepalive, WALEnd: LSN(binary.BigEndian.Uint64(data[1:])), ServerTime: serverTime(data[9:]), ReplyRequested: data[17] == 1}
		if s.event.ReplyRequested {
			if err := s.Confirm(context.Background(), 0); err != nil {
				return nil, err
			}
		}
		return &s.event, nil
	}
	return nil, fmt.Errorf("malformed message of %d bytes", len(data))
}

// streamed deals with what is around streamed blocks. A commit becomes the Begin
// of its transaction, the rest of which Next gives after it.
func (s *Stream) streamed() (*Event, error) {
	switch s.msg.Kind {
	case pgoutput.StreamStart:
		s.held.enter(&s.msg)
	case pgoutput.StreamStop:
		s.held.block = nil
	case pgoutput.StreamAbort:
		s.held.abort(&s.msg)
	case pgoutput.StreamCommit:
		if err := s.held.commit(&s.msg); err != nil {
			return nil, fmt.Errorf("at %s: %w", s.event.WALEnd, err)
		}
		return &s.event, nil
	default:
		return &s.event, nil
	}
	return nil, nil
}

// epochMicros is 2000-01-01 in µs since 1970-01-01.
const epochMicros = epochDays * dayMicros

func serverTime(v []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(v)) + epochMicros)
}

// IsSlotInUse says whether a slot is being read by a connection, perhaps by a
// former one of ours whose end the server hasn't noticed yet.
func IsSlotInUse(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "55006"
}

// Close tells the server what is confirmed, ends the stream and the connection,
// and waits until the server has let the slot go, five seconds at most. Next must
// not be running; a second Close does nothing.
func (s *Stream) Close(ctx context.Context) error {
	s.interrupt.release()
	s.stopAlive()
	s.alive.Wait()
	if s.held != nil {
		s.held.close()
	}
	if s.conn.IsClosed() {
		return nil
	}
	err := s.Confirm(ctx, 0)
	if err == nil {
		err = s.hangUp(ctx)
	}
	_ = s.conn.Close(ctx) // says good-bye once more, to nobody
	return err
}

// hangUp says good-bye and throws away what is still on its way: the server
// would otherwise go on sending, and hold the slot, until it meets the closed
// connection.
func (s *Stream) hangUp(ctx context.Context) error {
	deadline := time.Now().Add(5 * time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	s.conn.Frontend().Send(&pgproto3.Terminate{})
	if err := s.conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("end the stream: %w", err)
	}
	if err := s.conn.Conn().SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("end the stream: %w", err)
	}
	_, _ = io.Copy(io.Discard, s.conn.Conn()) // its end is the server's end, or the deadline; both will do
	return nil
}

// interrupter ends a read when a context ends, without the goroutine a call that
// pgconn would start.
type interrupter struct {
	conn net.Conn
	ctx  context.Context // the watched one; the reader's own

	mu   sync.Mutex
	done <-chan struct{}
	stop func() bool
}

var longAgo = time.Unix(1, 0)

// watch makes the end of ctx interrupt reads, and that of an earlier context no
// longer. For the same context again, as it is asked for every message, it does
// nothing.
func (i *interrupter) watch(ctx context.Context) error {
	if err := ctx.Err(); err != nil || ctx == i.ctx {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.forget()
	if err := i.conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("%w: %w", ErrStream, err)
	}
	done := ctx.Done()
	i.ctx, i.done = ctx, done
	i.stop = context.AfterFunc(ctx, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.done == done {
			_ = i.conn.SetReadDeadline(longAgo) // fails on a closed connection only, whose reads fail too
		}
	})
	return nil
}

// release forgets the watched context.
func (i *interrupter) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.forget()
}

func (i *interrupter) forget() {
	if i.stop != nil {
		i.stop()
	}
	i.ctx, i.done, i.stop = nil, nil, nil
}

func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return pgconn.Timeout(err) || ok && netErr.Timeout()
}
