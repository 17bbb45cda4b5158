"""A stand-in for a hub: the part of its HTTP interface that fetching a model needs, with bad days."""

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One model under one commit, and how the server is to misbehave."""

    repo: str
    files: dict[str, bytes]
    token: str | None = None  # wanted, where set
    gated: bool = False
    cut: dict[str, int] = field(default_factory=dict)  # file → how many answers break off half-way
    corrupt: set[str] = field(default_factory=set)
    unstated: set[str] = field(default_factory=set)  # files whose hashes the listing leaves out
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range

    def __enter__(self) -> "Hub":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @classmethod
    def of(cls, folder: Path, repo: str = "org/model", **more: object) -> "Hub":
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return cls(repo, files, **more)  # type: ignore[arg-type]

    def ranges(self, name: str = "model.safetensors") -> list[str | None]:
        """The ranges that were asked for of one file."""
        return [span for method, path, span in self.asked if method == "GET" and path.endswith(name)]

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append((request.command, path, request.headers.get("Range")))
        given = request.headers.get("Authorization")
        api, files = f"/api/models/{self.repo}/revision/", f"/{self.repo}/resolve/"
        if not path.startswith((api, files)):
            return self._fail(request, 404, "RepoNotFound", "Repository not found")
        if self.gated and given is None:
            return self._fail(request, 401, "GatedRepo", "Access to this model is restricted")
        if self.gated:
            return self._fail(request, 403, "GatedRepo", "You are not on the list of this model")
        if self.token is not None and given != f"Bearer {self.token}":
            return self._fail(request, 401, None, "Invalid credentials")
        revision, _, name = path.removeprefix(api).removeprefix(files).partition("/")
        if revision not in (COMMIT, "main"):
            return self._fail(request, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if path.startswith(api):
            return self._send(request, 200, {"Content-Type": "application/json"}, self._listing(), body)
        if name not in self.files:
            return self._fail(request, 404, "EntryNotFound", "Entry not found")
        return self._file(request, name, body)

    def _listing(self) -> bytes:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_hash(content)}
            if name in self.unstated:
                del entry["blobId"]
            elif name.endswith(".safetensors"):
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return json.dumps(
            {"_id": "1", "id": self.repo, "modelId": self.repo, "sha": COMMIT, "private": False,
             "tags": [], "downloads": 0, "likes": 0, "siblings": siblings, "cardData": {"license": "mit"}}
        ).encode()  # fmt: skip

    def _file(self, request: BaseHTTPRequestHandler, name: str, body: bool) -> None:
        content = self.files[name]
        large = name.endswith(".safetensors")
        etag = hashlib.sha256(content).hexdigest() if large else git_hash(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if body and name in self.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        start, status = 0, 200
        if wanted := request.headers.get("Range"):
            start, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        content = content[start:]
        if body and self.cut.get(name, 0) > 0:
            self.cut[name] -= 1
            self._head(request, status, headers, len(content))
            request.wfile.write(content[: len(content) // 2])
            request.close_connection = True
            return
        self._send(request, status, headers, content, body)

    def _fail(self, request: BaseHTTPRequestHandler, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(request, status, headers, b"", request.command == "GET")

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        content: bytes,
        body: bool,
    ) -> None:
        self._head(request, status, headers, len(content))
        if body:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a client that was killed
                request.wfile.write(content)

    def _head(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], size: int) -> None:
        request.send_response(status)
        for key, value in (headers | {"Content-Length": str(size)}).items():
            request.send_header(key, value)
        request.end_headers()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
