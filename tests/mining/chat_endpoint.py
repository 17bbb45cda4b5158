"""A stand-in for an OpenAI-compatible endpoint on this machine: it answers by a rule, and fails as told."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StandIn(ThreadingHTTPServer):
    """Answers `reply(body)`; before that, what `failures` holds: a status, "cut", "slow", or bytes to send."""

    daemon_threads = True

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.failures, self.asked, self.keys, self.headers = reply, [], [], [], {}
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.asked.append(body)
            server.keys.append(self.headers["Authorization"])
            failure = server.failures.pop(0) if server.failures else None
        if failure == "cut":
            self.close_connection = True
            return
        if failure == "slow":  # until the client has given up and asks again
            before, end = len(server.asked), time.monotonic() + 60
            while len(server.asked) == before and time.monotonic() < end:
                time.sleep(0.02)
        status, content = 200, json.dumps(server.reply(body)).encode()
        if isinstance(failure, int):
            status, content = (
                failure,
                b'{"error": "no, and your key was ' + (self.headers["Authorization"] or "").encode() + b'"}',
            )
        elif isinstance(failure, bytes):
            content = failure
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def stand_in(reply):
    """A running endpoint."""
    server = StandIn(reply)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def says(text):
    """A chat completion."""
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}
