"""A hub on loopback that answers as huggingface.co does, and misbehaves when a test asks for it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Hub:
    """What it serves, what it was asked, and how it fails.

    Attributes:
        repositories: name → commit → file → bytes.
        breaks: for each coming transfer of the weights, the bytes after which the connection is cut; None: never.
        tampered: files whose bytes differ from the digest that the hub states.
        ignore_range: answer every request with the whole file.
        claims: the commit that listings name instead of the one asked for.
        status: answer everything with this status.
    """

    repositories: dict[str, dict[str, Files]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    breaks: list[int | None] = field(default_factory=list)
    tampered: set[str] = field(default_factory=set)
    ignore_range: bool = False
    claims: str = ""
    status: int = 200
    url: str = ""

    def transfers(self, end: str) -> list[Request]:
        """The requests for the bytes themselves of the files whose name ends so."""
        return [r for r in self.requests if r.path.startswith(("/cdn/", "/files/")) and r.path.endswith(end)]


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Request(self.command, path, headers))
        parts = path.strip("/").split("/")
        if self.hub.status != 200:
            self.send(self.hub.status, b"busy")
        elif parts[:2] == ["api", "models"] and parts[4:5] == ["revision"]:
            self.listing("/".join(parts[2:4]), parts[5])
        elif parts[2:3] == ["resolve"]:
            # The hub redirects: large files to another machine, small ones to a cache of its own.
            name = "/".join(parts[4:])
            kind = "cdn" if is_large(name) else "files"
            self.send(302, headers={"Location": f"/{kind}/{parts[0]}/{parts[1]}/{parts[3]}/{name}"})
        elif parts[0] in ("cdn", "files"):
            self.transfer("/".join(parts[1:3]), parts[3], "/".join(parts[4:]))
        else:
            self.send(404)

    def listing(self, repository: str, revision: str) -> None:
        if repository not in self.hub.repositories:
            return self.send(401, headers={"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if revision not in self.hub.repositories[repository]:
            return self.send(404, headers={"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        siblings = []
        for name, content in self.hub.repositories[repository][revision].items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            entry = {"rfilename": name, "size": len(content), "blobId": blob}
            siblings.append(entry | ({"lfs": lfs} if is_large(name) else {}))
        body = json.dumps({"id": repository, "sha": self.hub.claims or revision, "siblings": siblings}).encode()
        return self.send(200, body, {"Content-Type": "application/json"})

    def transfer(self, repository: str, revision: str, name: str) -> None:
        content = self.hub.repositories[repository][revision][name]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        if name in self.hub.tampered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        status, start = 200, 0
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Length": str(len(content))}
        asked = self.headers.get("Range")
        if asked and not self.hub.ignore_range:
            status, start = 206, int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers["Content-Length"] = str(len(content) - start)
        cut = self.hub.breaks.pop(0) if is_large(name) and self.hub.breaks else None
        self.send(status, content[start:][:cut], headers)
        if cut is not None:
            self.close_connection = True

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def running() -> Iterator[Hub]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
