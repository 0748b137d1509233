package main

import (
	"context"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed shop.sql
var shopSQL string

// shopTables are the tables of shop.sql. Native mirroring takes no jsonb, no
// array and no enum, so it takes the first of them only.
var (
	shopNative = []string{"customers", "orders", "order_lines", "carts", "reviews", "photos", "heartbeats"}
	shopOthers = []string{"products", "payments", "events"}
)

// shop is the application of the demo: it owns the tables and goes on using
// them, whatever the mirror does.
type shop struct {
	url  string // signs in as shop_app
	rand *rand.Rand
	done atomic.Int64 // committed transactions
	lost atomic.Int64 // transactions that a restart of the server cut off
	keys int64        // the last key given to a row
}

func newShop(url string) *shop {
	return &shop{url: url, rand: rand.New(rand.NewPCG(2, 2)), keys: 1_000_000}
}

// load makes the tables and fills them; it returns how many rows they hold.
func (s *shop) load(ctx context.Context) (rows int64, err error) {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, shopSQL); err != nil {
		return 0, fmt.Errorf("load the shop: %w", err)
	}
	for _, table := range append(shopNative, shopOthers...) {
		var n int64
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			return 0, fmt.Errorf("count %s: %w", table, err)
		}
		rows += n
	}
	return rows, nil
}

// write does business at about perSecond transactions a second until ctx ends.
// When the server goes away it connects again, as an application does.
func (s *shop) write(ctx context.Context, perSecond int) error {
	for {
		err := s.writeUntilCut(ctx, perSecond)
		if ctx.Err() != nil {
			return nil
		}
		if !disconnected(err) {
			return err
		}
		s.lost.Add(1)
		if pause(ctx, 100*time.Millisecond) != nil {
			return nil
		}
	}
}

func (s *shop) writeUntilCut(ctx context.Context, perSecond int) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for {
		deal := s.pick()
		if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return deal(ctx, tx, s) }); err != nil {
			return err
		}
		s.done.Add(1)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// disconnected says that the server went away or is not there yet, rather than
// that it refused what was asked.
func disconnected(err error) bool {
	code := sqlState(err)
	return code == "" || code[:2] == "57" || code[:2] == "08"
}

// deal is one transaction of the shop.
type deal func(context.Context, pgx.Tx, *shop) error

// deals are what the shop does, each as often as its weight says.
var deals = []struct {
	weight int
	do     deal
}{
	{30, placeOrder},
	{20, shipOrder},
	{10, fillCart},
	{6, moveCart},
	{6, emptyCart},
	{8, rateReview},
	{4, rewriteReview},
	{4, captionPhoto},
	{4, cancelOrder},
	{4, changePrices},
	{2, renameProduct},
	{2, logEvents},
}

func (s *shop) pick() deal {
	total := 0
	for _, d := range deals {
		total += d.weight
	}
	n := s.rand.IntN(total)
	for _, d := range deals {
		if n -= d.weight; n < 0 {
			return d.do
		}
	}
	panic("unreachable")
}

// n is a number from 1 to max.
func (s *shop) n(max int) int { return 1 + s.rand.IntN(max) }

func (s *shop) key() int64 { s.keys++; return s.keys }

func exec(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	_, err := tx.Exec(ctx, sql, args...)
	return err
}

// placeOrder is a transaction over four tables, the order's lines one by one.
func placeOrder(ctx context.Context, tx pgx.Tx, s *shop) error {
	id, customer := s.key(), s.n(20000)
	if err := exec(ctx, tx, `INSERT INTO orders VALUES ($1, $2, 'placed', clock_timestamp(), NULL, 0)`, id, customer); err != nil {
		return err
	}
	for line := range s.n(4) {
		if err := exec(ctx, tx, `INSERT INTO order_lines SELECT $1, $2, sku, $3, price FROM products OFFSET $4 LIMIT 1`, id, line+1, s.n(9), s.n(4000)); err != nil {
			return err
		}
		if err := exec(ctx, tx, `UPDATE orders SET total = (SELECT sum(quantity * price) FROM order_lines WHERE order_id = $1) WHERE id = $1`, id); err != nil {
			return err
		}
	}
	if err := exec(ctx, tx, `INSERT INTO payments SELECT gen_random_uuid(), $1, 'card', total, current_date FROM orders WHERE id = $1`, id); err != nil {
		return err
	}
	return exec(ctx, tx, `UPDATE customers SET last_order = clock_timestamp() WHERE id = $1`, customer)
}

func shipOrder(ctx context.Context, tx pgx.Tx, s *shop) error {
	return exec(ctx, tx, `UPDATE orders SET status = 'shipped', shipped_at = localtimestamp WHERE id = $1`, s.n(50000))
}

func fillCart(ctx context.Context, tx pgx.Tx, s *shop) error {
	return exec(ctx, tx, `INSERT INTO carts SELECT $1, sku, $2, localtimestamp FROM products OFFSET $3 LIMIT 1 ON CONFLICT DO NOTHING`, s.n(20000), s.n(5), s.n(4000))
}

// moveCart changes a part of a key.
func moveCart(ctx context.Context, tx pgx.Tx, s *shop) error {
	return exec(ctx, tx, `UPDATE carts SET customer_id = $2 WHERE customer_id = $1 AND NOT EXISTS (SELECT FROM carts WHERE customer_id = $2)`, s.n(8000), 30000+s.n(8000))
}

func emptyCart(ctx context.Context, tx pgx.Tx, s *shop) error {
	return exec(ctx, tx, `DELETE FROM carts WHERE customer_id = $1`, s.n(8000))
}

// rateReview leaves a long body alone: it is not in the stream.
func rateReview(ctx context.Context, tx pgx.Tx, s *shop) error {
	return exec(ctx, tx, `UPDATE reviews SET stars = $2 WHERE id = $1`, 10*s.n(600), s.n(5))
}

// rewriteReview writes a long body and touches it again in the same transaction.
func rewriteReview(ctx context.Context, tx pgx.Tx, s *shop) error {
	id := 10 * s.n(600)
	if err := exec(ctx, tx, `UPDATE reviews SET body = (SELECT string_agg(md5($2 || '.' || k), ' ') FROM generate_series(1, 200) k) WHERE id = $1`, id, fmt.Sprint(s.key())); err != nil {
		return err
	}
	return exec(ctx, tx, `UPDATE reviews SET stars = 5 WHERE id = $1`, id)
}

func captionPhoto(ctx context.Context, tx pgx.Tx, s *shop) error {
	captions := []any{nil, "", "A new caption", "Überschrift"}
	return exec(ctx, tx, `UPDATE photos SET caption = $2 WHERE id = $1`, s.n(399), captions[s.rand.IntN(len(captions))])
}

// cancelOrder takes the order's lines and payments with it.
func cancelOrder(ctx context.Context, tx pgx.Tx, s *shop) error {
	return exec(ctx, tx, `DELETE FROM orders WHERE id = $1`, s.n(50000))
}

func changePrices(ctx context.Context, tx pgx.Tx, s *shop) error {
	return exec(ctx, tx, `UPDATE products SET price = price + 0.01, tags = tags || ARRAY['repriced'] WHERE name LIKE 'Product ' || $1::int || '%'`, s.n(500))
}

// renameProduct changes a key three times in one transaction.
func renameProduct(ctx context.Context, tx pgx.Tx, s *shop) error {
	old := fmt.Sprintf("Product %d", s.n(5000))
	for range 3 {
		if err := exec(ctx, tx, `UPDATE products SET sku = md5(sku::text)::uuid WHERE name = $1`, old); err != nil {
			return err
		}
	}
	return nil
}

func logEvents(ctx context.Context, tx pgx.Tx, s *shop) error {
	if err := exec(ctx, tx, `INSERT INTO events SELECT $1 + k, clock_timestamp(), 'burst', k / 3.0, jsonb_build_object('k', k, 'null', NULL) FROM generate_series(1, 20) k`, s.key()*100); err != nil {
		return err
	}
	return exec(ctx, tx, `DELETE FROM events WHERE id = $1`, s.n(40000))
}

// beat commits a heartbeat and returns its number.
func (s *shop) beat(ctx context.Context, conn *pgx.Conn, id int64) (committed time.Time, err error) {
	_, err = conn.Exec(ctx, `INSERT INTO heartbeats VALUES ($1, clock_timestamp())`, id)
	return time.Now(), err
}
