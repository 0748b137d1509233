"""Compares Delta tables with what PostgreSQL exported, row for row.

    compare.py EXPORT

EXPORT/tables.json lists the tables that must be in each mirror; EXPORT holds
one COPY text file a table. Every table is read by delta-rs and by DuckDB's
delta extension. Prints a line each; exits 1 when one of them isn't equal.
"""

import collections
import datetime
import glob
import json
import os
import re
import sys

import deltalake
import duckdb
import duckdb_extension_delta
import pyarrow as pa


def read_delta_rs(path):
    table = deltalake.DeltaTable(path)
    query = deltalake.QueryBuilder().register("t", table).execute("SELECT * FROM t")
    return pa.table(query.read_all())


def duckdb_with_delta():
    """DuckDB with the extension out of its own package; nothing is downloaded."""
    found = glob.glob(os.path.join(os.path.dirname(duckdb_extension_delta.__file__), "extensions", "*", "delta.duckdb_extension"))
    db = duckdb.connect()
    db.execute(f"LOAD '{found[0]}'")
    db.execute("SET TimeZone = 'UTC'")
    return db


DB = duckdb_with_delta()


def read_duckdb(path):
    result = DB.execute(f"SELECT * FROM delta_scan('{path}')").arrow()
    return result.read_all() if hasattr(result, "read_all") else result


READERS = [
    ("delta-rs", deltalake.__version__, read_delta_rs),
    ("duckdb", duckdb.__version__, read_duckdb),
]

ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def unescape(field):
    """A field of COPY's text format; \\N is NULL."""
    if field == "\\N":
        return None
    if "\\" not in field:
        return field
    return re.sub(r"\\(.)", lambda m: ESCAPES[m[1]], field, flags=re.S)


def expected_rows(path, columns):
    plain = [canonical_text(c["kind"]) for c in columns]
    with open(path, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            yield tuple(None if v is None else to(v) for to, v in zip(plain, map(unescape, fields), strict=True))


def canonical_text(kind):
    """What PostgreSQL exported, as canonical() writes the same value."""
    if kind == "json":
        return lambda v: json.dumps(json.loads(v))
    if kind == "float":
        return lambda v: repr(float(v.replace("Infinity", "inf")))
    return lambda v: v


def canonical(column, kind):
    """One column of a reader as text, None for NULL."""
    t = column.type
    if pa.types.is_timestamp(t):
        values = column.cast(pa.timestamp("us")).to_pylist()
        return [None if v is None else v.isoformat(timespec="microseconds") for v in values]
    values = column.to_pylist()
    if kind == "json":
        to = lambda v: json.dumps(json.loads(v))
    elif pa.types.is_boolean(t):
        to = lambda v: "t" if v else "f"
    elif pa.types.is_floating(t):
        to = lambda v: repr(float(v))
    elif pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_binary_view(t):
        to = lambda v: v.hex()
    elif pa.types.is_date(t):
        to = datetime.date.isoformat
    else:
        to = str
    return [None if v is None else to(v) for v in values]


def rows(table, columns):
    names = [c["name"] for c in columns]
    if sorted(names) != sorted(table.column_names):
        raise ValueError(f"columns are {table.column_names}, want {names}")
    return zip(*(canonical(table.column(c["name"]), c["kind"]) for c in columns), strict=True)


def differences(want, got, columns):
    """Up to three rows that only one side has."""
    for side, counter in (("only PostgreSQL has", want - got), ("only the mirror has", got - want)):
        for row in list(counter)[:3]:
            yield f"  {side} " + str({c["name"]: (v if v is None or len(v) < 60 else v[:60] + "…") for c, v in zip(columns, row)})


def main(export):
    with open(os.path.join(export, "tables.json"), encoding="utf-8") as f:
        tables = json.load(f)["tables"]
    want = {}
    compared = failed = 0
    for t in tables:
        name = f'{t["schema"]}.{t["table"]}'
        if name not in want:
            want[name] = collections.Counter(expected_rows(os.path.join(export, t["file"]), t["columns"]))
        for reader, version, read in READERS:
            compared += 1
            try:
                got = collections.Counter(rows(read(t["delta"]), t["columns"]))
                verdict = "equal" if got == want[name] else "DIFFERENT"
                count = f"{sum(got.values())}/{sum(want[name].values())} rows"
                detail = differences(want[name], got, t["columns"])
            except Exception as e:  # whatever a reader says is its verdict
                verdict, count, detail = "UNREADABLE", "", [f"  {type(e).__name__}: {e}"]
            print(f'{reader} {version:7} {t["mirror"]:24} {name:28} {count:>20}  {verdict}', flush=True)
            if verdict != "equal":
                failed += 1
                print("\n".join(detail), flush=True)
    print(f"{compared - failed} passed, {failed} failed")
    return 1 if failed or not compared else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
