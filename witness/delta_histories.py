"""Reads random histories of Delta tables by every reader that is installed.

    delta_histories.py HISTORIES [READER...]

HISTORIES/histories.json, which TestWriteHistories writes, says what sampled
versions of each table hold. Every reader reads every version that it can name;
prints a line a reader and history; exits 1 when one of them isn't equal, or
when a reader that was asked for by name is not there.
"""

import collections
import json
import os
import sys


class DeltaRS:
    def __init__(self):
        import deltalake
        import pyarrow

        self.deltalake, self.pa, self.version = deltalake, pyarrow, deltalake.__version__

    def read(self, path, version):
        table = self.deltalake.DeltaTable(path, version=version)
        query = self.deltalake.QueryBuilder().register("t", table).execute("SELECT * FROM t")
        return self.pa.table(query.read_all()).to_pylist()


class DuckDB:
    def __init__(self):
        import glob

        import duckdb
        import duckdb_extension_delta

        self.version = duckdb.__version__
        found = glob.glob(os.path.join(os.path.dirname(duckdb_extension_delta.__file__), "extensions", "*", "delta.duckdb_extension"))
        self.db = duckdb.connect()
        self.db.execute(f"LOAD '{found[0]}'")

    def read(self, path, version):
        at = f", version={version}" if version is not None else ""
        cursor = self.db.execute(f"SELECT * FROM delta_scan('{path}'{at})")
        names = [c[0] for c in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


class Polars:
    def __init__(self):
        import polars

        self.polars, self.version = polars, polars.__version__

    def read(self, path, version):
        return self.polars.scan_delta(path, version=version).collect().to_dicts()


class ChDB:
    """A bare count() ignores deletion vectors (it takes numRecords of the log),
    so rows are counted here."""

    def __init__(self):
        import chdb

        self.chdb, self.version = chdb, chdb.chdb_version if isinstance(chdb.chdb_version, str) else ".".join(map(str, chdb.chdb_version))
        self.version = getattr(chdb, "__version__", self.version)

    def read(self, path, version):
        os.chdir(os.path.dirname(path))  # it reads below the working directory only
        at = -1 if version is None else version
        query = f"SELECT * FROM deltaLakeLocal('{path}') SETTINGS output_format_json_quote_64bit_integers=0, delta_lake_snapshot_version={at}"
        text = str(self.chdb.query(query, "JSONEachRow"))
        return [json.loads(line) for line in text.splitlines()]


READERS = {"delta-rs": DeltaRS, "duckdb": DuckDB, "polars": Polars, "chdb": ChDB}


def bag(rows):
    return collections.Counter((r["id"], r.get("name"), r.get("n")) for r in rows)


def compare(reader, history):
    """How many versions were read, and the first fault."""
    versions = history["versions"]
    for i, v in enumerate(versions):
        want = collections.Counter(tuple(r) for r in v["rows"])
        try:
            newest = v is history["versions"][-1]
            got = bag(reader.read(history["path"], None if newest else v["version"]))
        except Exception as e:  # whatever a reader says is its verdict
            return i, f"UNREADABLE version {v['version']}: {type(e).__name__}: {str(e)[:300]}"
        if got != want:
            return i, f"DIFFERENT version {v['version']}: missing {list((want - got).items())[:2]}, extra {list((got - want).items())[:2]}"
    return len(versions), ""


def check(root, readers, asked=()):
    """1 when a reader isn't there that was asked for, or reads something else."""
    with open(os.path.join(root, "histories.json"), encoding="utf-8") as f:
        histories = json.load(f)
    compared = failed = 0
    for name, make in readers.items():
        if asked and name not in asked:
            continue
        try:
            reader = make()
        except (ImportError, KeyError) as e:
            print(f"{name:9} skipped: {type(e).__name__}: {e}", flush=True)
            failed += bool(asked)
            continue
        for h in histories:
            n, fault = compare(reader, h)
            compared += 1
            failed += bool(fault)
            print(f"{name:9} {reader.version:40} {h['name']:15} {n:3} versions  {fault or 'equal'}", flush=True)
    print(f"{compared - failed} passed, {failed} failed")
    return 1 if failed or not compared else 0


if __name__ == "__main__":
    sys.exit(check(os.path.abspath(sys.argv[1]), READERS, sys.argv[2:]))
