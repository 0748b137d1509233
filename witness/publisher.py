"""Publishes into the emulator's landing zone with Microsoft's own client for
OneLake, as somebody who writes a publisher would: signed in by a managed
identity, create, append, flush, rename. delta-rs then reads what the replicator
made of it. `publisher.py PGMIRROR`"""

import collections
import io
import json
import os
import sys

import azure.storage.filedatalake as lake
import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential

from emulator import Emulator, Verdict, await_that

MARKER = "__rowMarker__"


def parquet(compression="snappy", **columns):
    if MARKER in columns:
        columns[MARKER] = pa.array(columns[MARKER], pa.int32())
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression=compression)
    return out.getvalue()


class Publisher:
    """One table folder."""

    def __init__(self, files, mirror, schema, table):
        self.files, self.path = files, f"{mirror}/Files/LandingZone/{schema}.schema/{table}"
        self.folder = files.get_directory_client(self.path)
        self.folder.create_directory()

    def upload(self, name, body, chunk=500):
        """Create, append in pieces, flush."""
        f = self.folder.create_file(name)
        for at in range(0, len(body), chunk):
            f.append_data(body[at:at + chunk], offset=at)
        f.flush_data(len(body))
        return f

    def publish(self, number, body, **conditions):
        f = self.upload(f"_{number:020d}.parquet", body)
        return f.rename_file(f"{self.files.file_system_name}/{self.path}/{number:020d}.parquet", **conditions)

    def arm(self, **metadata):
        self.upload("_metadata.json", json.dumps(metadata).encode())


def rows(folder):
    # Not to_pyarrow_table(): that reader refuses tables with deletion vectors.
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(folder)).execute("SELECT id, name FROM t")
    table = pa.table(query.read_all())
    return collections.Counter(zip(*(table.column(n).to_pylist() for n in ("id", "name"))))


def refused(call, kind, code):
    try:
        call()
    except kind as e:
        return e.error_code == code, f"got {e.error_code}"
    except HttpResponseError as e:
        return False, f"got {type(e).__name__} {e.error_code}"
    return False, "it was not refused"


def main(pgmirror):
    see = Verdict("azure-storage-file-datalake " + lake.__version__)
    with Emulator(pgmirror) as e:
        os.environ |= {k: e.env[k] for k in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")}
        mirror = e.open_mirror("publisher")
        service = lake.DataLakeServiceClient(e.env["ONELAKE_DFS_ENDPOINT"], credential=ManagedIdentityCredential(), connection_verify=e.env["CA_FILE"])
        files = service.get_file_system_client(e.workspace)
        play(see, e, files, mirror)
    return see.close()


def play(see, e, files, mirror):
    p = Publisher(files, mirror, "sales", "orders")
    delta = e.delta(mirror, "sales", "orders")

    def applied(n):
        await_that(f"{n} rows are processed", lambda: (e.table(mirror, "sales", "orders") or {"metrics": {"processedRows": 0}})["metrics"]["processedRows"] >= n)

    first = p.publish(1, parquet(id=[1, 2, 3], name=["a", "b", None]))
    see.see("a file is renamed whole, and keeps its size", first.get_file_properties().size == len(parquet(id=[1, 2, 3], name=["a", "b", None])))
    p.arm(keyColumns=["id"])
    applied(3)
    see.see("the first file is the table", rows(delta) == collections.Counter([(1, "a"), (2, "b"), (3, None)]), rows(delta))

    p.publish(2, parquet("zstd", id=[1, 2, 4], name=["A", None, "d"], **{MARKER: [1, 2, 4]}), match_condition=MatchConditions.IfMissing)
    applied(6)
    see.see("an update, a delete and an upsert, ZSTD", rows(delta) == collections.Counter([(1, "A"), (3, None), (4, "d")]), rows(delta))

    see.see("a second rename onto a number with If-None-Match is refused", *refused(
        lambda: p.publish(2, parquet(id=[9], name=["x"]), match_condition=MatchConditions.IfMissing), ResourceExistsError, "PathAlreadyExists"))
    p.publish(3, parquet("gzip", id=[4, 5], name=["D", "five"], **{MARKER: [4, 0]}), match_condition=MatchConditions.IfMissing)
    applied(8)
    see.see("GZIP, and an insert", rows(delta) == collections.Counter([(1, "A"), (3, None), (4, "D"), (5, "five")]), rows(delta))

    names = [os.path.basename(i.name) for i in files.get_paths(p.path, recursive=False)]
    await_that("processed files are moved", lambda: f"{1:020d}.parquet" not in [os.path.basename(i.name) for i in files.get_paths(p.path, recursive=False)])
    see.see("the last file stays for the publisher", f"{3:020d}.parquet" in names, names)
    body = files.get_file_client(f"{p.path}/{3:020d}.parquet").download_file().readall()
    see.see("a download is what was uploaded", body == parquet("gzip", id=[4, 5], name=["D", "five"], **{MARKER: [4, 0]}))

    see.see("a managed folder can't be removed", *refused(
        lambda: files.get_directory_client(f"{mirror}/Files").delete_directory(), HttpResponseError, "OperationNotAllowedOnThePath"))
    see.see("what is not there is not found", *refused(
        lambda: files.get_file_client(f"{p.path}/none").get_file_properties(), ResourceNotFoundError, "BlobNotFound"))

    p.folder.delete_directory()
    await_that("the table went with its folder", lambda: e.table(mirror, "sales", "orders") is None and not os.path.exists(delta))
    see.see("the table goes with its folder", True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
