"""Runs `pgmirror emulator` for a witness, and speaks to it without any code of
the emulator's own: Python's urllib for Fabric."""

import base64
import json
import os
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

PATIENCE = 120  # seconds, for whatever is waited for


class Emulator:
    """A running emulator, in a directory that goes with it."""

    def __init__(self, pgmirror, *flags):
        self.dir = tempfile.TemporaryDirectory()
        os.chmod(self.dir.name, 0o755)  # as root the cluster belongs to another user
        self.root = os.path.join(self.dir.name, "fabric")
        file = os.path.join(self.dir.name, "fabric.env")
        self.process = subprocess.Popen([pgmirror, "emulator", "--dir", self.root, "--env", file, *flags])
        await_that("the emulator is ready", lambda: os.path.exists(file) or self.process.poll() is not None)
        with open(file, encoding="utf-8") as f:
            pairs = (line.rstrip("\n").split("=", 1) for line in f)
            self.env = {k: v.strip("'") for k, v in pairs}
        self.tls = ssl.create_default_context(cafile=self.env["CA_FILE"])
        self.workspace = self.env["FABRIC_WORKSPACE_ID"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        self.dir.cleanup()

    def call(self, method, url, token, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
        request = urllib.request.Request(url, method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, context=self.tls, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def fabric(self, method, path, body=None):
        return self.call(method, self.env["FABRIC_ENDPOINT"] + "/v1" + path, self.env["FABRIC_TOKEN"], body)

    def secret(self, name):
        url = f'{self.env["KEYVAULT_URL"]}/secrets/{name}?api-version=2025-07-01'
        return self.call("GET", url, self.env["VAULT_TOKEN"])["value"]

    def open_mirror(self, name):
        """Makes and starts an open mirrored database; gives its id."""
        made = self.fabric("POST", f"/workspaces/{self.workspace}/mirroredDatabases", {
            "displayName": name,
            "definition": {"parts": [{"path": "mirroring.json", "payload": encode(open_definition()), "payloadType": "InlineBase64"}]},
        })
        path = f'/workspaces/{self.workspace}/mirroredDatabases/{made["id"]}'
        await_that("the mirrored database is ready", lambda: self.fabric("POST", path + "/getMirroringStatus")["status"] == "Initialized")
        self.fabric("POST", path + "/startMirroring")
        return made["id"]

    def table(self, mirror, schema, name):
        """What Fabric tells of a table, None when it knows none."""
        status = self.fabric("POST", f"/workspaces/{self.workspace}/mirroredDatabases/{mirror}/getTablesMirroringStatus")
        found = [t for t in status["data"] if (t["sourceSchemaName"], t["sourceTableName"]) == (schema, name)]
        return found[0] if found else None

    def delta(self, mirror, schema, name):
        """The directory of a Delta table."""
        return os.path.join(self.root, "onelake", self.workspace, mirror, "Tables", schema, name)


def open_definition(**target):
    return {"properties": {"source": {"type": "GenericMirror", "typeProperties": {}}, "target": {
        "type": "MountedRelationalDatabase", "typeProperties": {"defaultSchema": "dbo", "format": "Delta", **target}}}}


def encode(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


def await_that(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE} s until {what}")
        time.sleep(0.1)


class Verdict:
    """Counts what was seen, and tells it as `make witness` does."""

    def __init__(self, witness):
        self.witness, self.passed, self.failed = witness, 0, 0

    def see(self, what, holds, detail=""):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        print(f'{self.witness:30} {what:70} {"ok" if holds else "WRONG"}', flush=True)
        if not holds:
            print(f"  {detail}", flush=True)

    def close(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.passed else 0
