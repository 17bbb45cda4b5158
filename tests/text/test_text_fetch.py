"""The real `datasets` client against a server on this machine that speaks the hub's interface."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from realign.text.records import read_records

pytest.importorskip("datasets")

COMMIT = "c0ffee" * 6 + "beef"
ROWS = [{"query": f"q{i}", "positive": f"p{i}"} for i in range(20)]


def table() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


class Hub(BaseHTTPRequestHandler):
    files: ClassVar = {
        "data/train-00000-of-00001.parquet": table(),
        "README.md": b"---\nlicense: mit\n---\n# Data\n",
    }
    asked: ClassVar[list[str]] = []

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(body)

    def answer(self, body: bytes = b""):
        path = self.path.split("?")[0]
        self.asked.append(f"{self.command} {self.path}")
        if "/gated/" in path or path.endswith("/gated"):
            return self.reply(
                401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
            )
        if not path.startswith(("/api/datasets/org/set", "/datasets/org/set")):
            return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if COMMIT not in path and path != "/api/datasets/org/set":
            return self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if "/resolve/" in path:
            content = self.files.get(path.split(f"/resolve/{COMMIT}/")[-1])
            if content is None:
                return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            tag = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            return self.reply(200, content, tag)
        entries = [
            {"type": "file", "path": name, "size": len(c), "oid": sha1(c).hexdigest()}
            for name, c in self.files.items()
        ]
        if "/tree/" in path:
            below = path.split(f"/tree/{COMMIT}")[-1].strip("/")
            inside = [e for e in entries if e["path"].startswith(below)]
            folders = {e["path"].split("/")[0] for e in inside if "/" in e["path"] and not below}
            top = [e for e in inside if below or "/" not in e["path"] or "recursive=True" in self.path]
            listed = [
                *top,
                *({"type": "directory", "path": f, "size": 0, "oid": "0" * 40} for f in sorted(folders)),
            ]
            return self.reply(200, json.dumps(listed).encode())
        if "/paths-info/" in path:
            return self.reply(200, json.dumps(entries).encode())
        siblings = [{"rfilename": name} for name in self.files]
        info = {"_id": "1", "id": "org/set", "sha": COMMIT, "tags": [], "siblings": siblings}
        info |= {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
        return self.reply(200, json.dumps(info).encode())

    def reply(self, status: int, content: bytes, headers: dict | None = None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def fetch(folder: Path, endpoint: str, dataset: str, revision: str, **environment: str):
    words = ["fetch_dataset", "--hub.id", dataset, "--hub.revision", json.dumps(revision)]
    places = ["--store", str(folder / ".work"), "--table", str(folder / "table.parquet")]
    given = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_secret"}
    return subprocess.run(
        [sys.executable, "-m", "realign.cli", *words, *places],
        env={**os.environ, "OMP_NUM_THREADS": "1", **given, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_dataset_is_fetched_at_its_revision_and_then_offline_from_the_cache(tmp_path, hub):
    done = fetch(tmp_path, hub, "org/set", COMMIT)
    assert done.returncode == 0, done.stderr
    assert [row for _, row in read_records(tmp_path / "table.parquet")] == ROWS
    assert any(f"/resolve/{COMMIT}/data/train" in asked for asked in Hub.asked)
    record = json.loads((tmp_path / "table.parquet.provenance.json").read_text())
    facts = {"origin": "hub dataset org/set", "revision": COMMIT, "resolved": COMMIT, "rows": 20}
    assert {key: record[key] for key in facts} == facts
    first = (tmp_path / "table.parquet").read_bytes()

    (tmp_path / "table.parquet").unlink()
    shutil.rmtree(tmp_path / ".work")
    asked = len(Hub.asked)
    done = fetch(tmp_path, hub, "org/set", COMMIT, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert len(Hub.asked) == asked
    assert (tmp_path / "table.parquet").read_bytes() == first

    # the library would take what it has for what was asked
    done = fetch(tmp_path, hub, "org/set", "dead" * 10, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert f"only {COMMIT} is in the cache" in done.stderr


@pytest.mark.parametrize(
    ("dataset", "revision", "environment", "words"),
    [
        ("org/other", COMMIT, {}, ("org/other at", "check the id, the revision")),
        ("org/gated", COMMIT, {}, ("org/gated at", "HF_TOKEN")),
        ("org/set", "dead" * 10, {}, ("org/set at dead", "revision")),
        ("org/set", COMMIT, {"HF_HUB_OFFLINE": "1"}, ("org/set at", "run the rule fetch_dataset")),
        pytest.param(
            "org/set",
            COMMIT,
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            ("org/set at", "out of reach"),
            marks=pytest.mark.slow,  # the client tries again for half a minute
        ),
    ],
)
def test_what_cannot_be_fetched_is_told(tmp_path, hub, dataset, revision, environment, words):
    done = fetch(tmp_path, hub, dataset, revision, **environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "hf_secret" not in done.stderr + done.stdout
    assert not (tmp_path / "table.parquet").exists()
