"""A stand-in for a hub: the part of its HTTP interface that loading a dataset needs."""

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class DatasetHub:
    """One dataset, with the files that each of its revisions holds."""

    def __init__(self, repo: str, revisions: Mapping[str, Mapping[str, bytes]]):
        self.repo, self.revisions = repo, revisions
        self.asked: list[str] = []

    def __enter__(self) -> "DatasetHub":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.asked.append(f"{request.command} {path}")
        for start in (f"/api/datasets/{self.repo}/", f"/datasets/{self.repo}/"):
            if path.startswith(start):
                kind, _, rest = path.removeprefix(start).partition("/")
                revision, _, name = rest.partition("/")
                return self._of_revision(request, kind, revision, name, body)
        return send(request, 404, {"X-Error-Code": "RepoNotFound"})

    def _of_revision(
        self, request: BaseHTTPRequestHandler, kind: str, revision: str, name: str, body: bytes
    ) -> None:
        files = self.revisions.get(revision)
        if files is None:
            return send(request, 404, {"X-Error-Code": "RevisionNotFound"})
        entries = [
            {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
            for path, content in files.items()
        ]
        if kind == "revision":
            siblings = [{"rfilename": path} for path in files]
            about = {"_id": "1", "id": self.repo, "sha": revision, "private": False, "gated": False}
            about |= {"disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings}
            return send_json(request, about)
        if kind == "tree":
            return send_json(request, entries)
        if kind == "paths-info":
            wanted = json.loads(body)["paths"]
            return send_json(request, [entry for entry in entries if entry["path"] in wanted])
        if kind != "resolve" or name not in files:
            return send(request, 404, {"X-Error-Code": "EntryNotFound"})
        content = files[name]
        return send(request, 200, {"ETag": f'"{git_hash(content)}"', "X-Repo-Commit": revision}, content)


def send_json(request: BaseHTTPRequestHandler, content: object) -> None:
    send(request, 200, {"Content-Type": "application/json"}, json.dumps(content).encode())


def send(
    request: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], content: bytes = b""
) -> None:
    request.send_response(status)
    for key, value in headers.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
