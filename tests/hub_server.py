"""A server on 127.0.0.1 that speaks the part of the Hugging Face Hub's protocol that fetching files takes.

It serves the files of a folder `owner/repository/...`. Requests are kept, so that a test can say what was asked for.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Answer = tuple[int, bytes, dict[str, str]]
REVISIONS = ("main", "v1", COMMIT)


class HubServer(ThreadingHTTPServer):
    """`root` holds the repositories; those in `gated` list their files and refuse them; `failing` answers 500."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.gated, self.failing = root, set[str](), False
        self.requests: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def fetched(self) -> list[str]:
        """The files that were sent whole."""
        return [
            r.split("/resolve/")[1].split("/", 1)[1] for r in self.requests if r.startswith("GET") and "/resolve/" in r
        ]


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        self._say(*self._found())

    def _found(self) -> Answer:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.server.requests.append(f"{self.command} {'/'.join(parts)}")
        if self.server.failing:
            return 500, b"", {}
        if parts[:2] == ["api", "models"]:
            repo, revision = "/".join(parts[2:4]), "/".join(parts[5:]) or "main"
            if not (problem := self._problem(repo, revision)):
                files = sorted(p for p in (self.server.root / repo).rglob("*") if p.is_file())
                names = [{"rfilename": p.relative_to(self.server.root / repo).as_posix()} for p in files]
                body = json.dumps({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": names}).encode()
                return 200, body, {"Content-Type": "application/json"}
            return problem
        if len(parts) < 5 or parts[2] != "resolve":
            return 404, b"", {}
        repo, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        if problem := self._problem(repo, revision):
            return problem
        commit = {"X-Repo-Commit": COMMIT}
        if repo in self.server.gated:
            return 401, b"", {"X-Error-Code": "GatedRepo"} | commit
        path = self.server.root / repo / name
        if not path.is_file():
            return 404, b"", {"X-Error-Code": "EntryNotFound"} | commit
        body = path.read_bytes()
        return 200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"'} | commit

    def _problem(self, repo: str, revision: str) -> Answer | None:
        if not (self.server.root / repo).is_dir():
            return 404, b"", {"X-Error-Code": "RepoNotFound"}
        if revision not in REVISIONS:
            return 404, b"", {"X-Error-Code": "RevisionNotFound"}
        return None

    def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def hub_server(root: Path) -> Iterator[HubServer]:
    """A server of the repositories under `root`, gone at the end of the block."""
    server = HubServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
