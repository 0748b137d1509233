package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// render appends a value in wire format to dst in another form.
type render func(dst, v []byte) ([]byte, error)

// codec reads a type in one wire format: put as a column's value, json as an
// element of a JSON array.
type codec struct {
	put  put
	json render
}

// errMalformed is a value that isn't of its type: an output function that we don't
// know, or a bug. A broken wire is noticed before.
var errMalformed = errors.New("malformed value")

// compile makes the functions for a column. bin is nil when the type's binary
// form isn't read. In a key no value may be changed to fit: two rows would become
// one, so that there it is an error.
func compile(c *Column, inKey, sqlASCII bool) (text, bin put, changed *int64, err error) {
	typ := c.typ
	if typ == nil {
		typ = &pgType{OID: c.TypeOID, MoneyScale: 2}
	}
	typ, _ = typ.resolve(c.Typmod)
	n := &counter{strict: inKey}
	t, b := typ.codecs(c.Type, n)
	if t.put == nil {
		return nil, nil, nil, fmt.Errorf("type %s can't become %s", c.TypeName, c.Type)
	}
	if c.Type.Kind == batch.String && (sqlASCII || typ.anyBytes()) {
		t.put, b.put = n.mend(t.put), n.mend(b.put)
	}
	return t.put, b.put, &n.changed, nil
}

// counter counts the values that were changed to fit, or forbids it.
type counter struct {
	changed int64
	strict  bool
}

func (n *counter) change() error {
	if n.strict {
		return fault("a key value is out of the mirror's range, and changing it could make two rows one")
	}
	n.changed++
	return nil
}

// mend replaces bytes that are no UTF-8 by U+FFFD.
func (n *counter) mend(p put) put {
	if p == nil {
		return nil
	}
	return func(c *batch.Column, v []byte) error {
		start := len(c.Data)
		if err := p(c, v); err != nil || utf8.Valid(c.Data[start:]) {
			return err
		}
		good := bytes.ToValidUTF8(c.Data[start:], []byte("\uFFFD"))
		if err := n.change(); err != nil {
			return err
		}
		c.Data = append(c.Data[:start], good...)
		c.Off[len(c.Off)-1] = int32(len(c.Data))
		return nil
	}
}

// codecs are the ways to read the type as target. A zero codec means that it
// can't be.
func (t *pgType) codecs(target batch.Type, n *counter) (text, bin codec) {
	f := t.family()
	chosen := f == famTimestamp && target.Kind == batch.TimestampNTZ // it has the same values
	if f != famNumeric && f != famMoney && target.Kind != families[f].kind && !chosen {
		return codec{}, codec{}
	}
	switch f {
	case famBool:
		return codec{putBoolText, jsonBoolText}, codec{putBool, jsonBool}
	case famInt2, famInt4:
		return codec{putInt32Text, jsonIntText}, codec{putInt(f), jsonInt(f)}
	case famInt8, famOID:
		return codec{putInt64Text, jsonIntText}, codec{putInt(f), jsonInt(f)}
	case famFloat4:
		return codec{putFloat4Text, jsonFloat4Text}, codec{putFloat4, jsonFloat4}
	case famFloat8:
		return codec{putFloat8Text, jsonFloat8Text}, codec{putFloat8, jsonFloat8}
	case famNumeric:
		return numericCodecs(target)
	case famMoney:
		return moneyCodecs(target, t.MoneyScale)
	case famDate:
		return codec{n.putDateText, quoted(renderDateText)}, codec{n.putDate, quoted(renderDate)}
	case famTimestamp, famTimestamptz:
		zone := f == famTimestamptz
		return codec{n.putTimestampText, quoted(renderTimestampText(zone))}, codec{n.putTimestamp, quoted(renderTimestamp(zone))}
	case famBytea:
		return codec{putByteaText, jsonText}, codec{putBytes, quoted(renderBytea)}
	case famArray:
		return arrayCodecs(t, n)
	}
	return textCodecs(f, t.Converted)
}

// textCodecs are the codecs of types that become text. converted says that the
// server converts texts on their way.
func textCodecs(f family, converted bool) (text, bin codec) {
	text = codec{putBytes, jsonText}
	switch f {
	case famText:
		return text, text
	case famJSON:
		text.json = same
		return text, text
	case famJSONB:
		text.json = same
		return text, rendered(renderJSONB, renderJSONB)
	case famChar:
		if converted { // its binary form isn't
			return rendered(renderCharText, escaped(renderCharText)), codec{}
		}
		return rendered(renderCharText, escaped(renderCharText)), rendered(renderChar, escaped(renderChar))
	case famTime:
		return text, rendered(renderTime, quoted(renderTime))
	case famTimetz:
		return text, rendered(renderTimetz, quoted(renderTimetz))
	case famInterval:
		return text, rendered(renderInterval, quoted(renderInterval))
	case famUUID:
		return text, rendered(renderUUID, quoted(renderUUID))
	case famBit:
		return text, rendered(renderBit, quoted(renderBit))
	case famMACAddr:
		return text, rendered(renderMACAddr, quoted(renderMACAddr))
	case famLSN:
		return rendered(renderLSNText, quoted(renderLSNText)), rendered(renderLSN, quoted(renderLSN))
	case famHstore:
		text = rendered(renderHstoreText(), renderHstoreText())
		if converted { // the lengths in its binary form are from before that
			return text, codec{}
		}
		return text, rendered(renderHstore, renderHstore)
	}
	return text, codec{}
}

// rendered is the codec of a type that is a text, made by r.
func rendered(r, json render) codec {
	return codec{put: func(c *batch.Column, v []byte) error {
		data, err := r(c.Data, v)
		if err != nil {
			return err
		}
		c.Data = data
		c.EndBytes()
		return nil
	}, json: json}
}

func putBytes(c *batch.Column, v []byte) error { c.AppendBytes(v); return nil }

func same(dst, v []byte) ([]byte, error) { return append(dst, v...), nil }

// quoted puts r between quotes; r writes nothing that JSON would escape.
func quoted(r render) render {
	return func(dst, v []byte) ([]byte, error) {
		dst, err := r(append(dst, '"'), v)
		return append(dst, '"'), err
	}
}

// escaped makes a JSON string of what r writes.
func escaped(r render) render {
	var scratch []byte
	return func(dst, v []byte) ([]byte, error) {
		var err error
		if scratch, err = r(scratch[:0], v); err != nil {
			return dst, err
		}
		return jsonText(dst, scratch)
	}
}

// jsonText makes a JSON string as PostgreSQL's escape_json does.
func jsonText(dst, v []byte) ([]byte, error) {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0
	for i, b := range v {
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		dst = append(dst, v[done:i]...)
		done = i + 1
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
	}
	return append(append(dst, v[done:]...), '"'), nil
}
