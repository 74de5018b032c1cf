"""A server on loopback with the part of the hub's protocol that downloads need."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """Repositories by id, each a folder or an HTTP status, and a log of requests."""

    url: str = ""
    repositories: dict[str, Path | int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    rest_of_weights: threading.Event | None = None
    """If given, all but the first bytes of weights are held back until it is set."""
    first_bytes: int = 100
    """Bytes of weights that are not held back."""
    sent: dict[str, list[int]] = field(default_factory=dict)
    """File name → bytes sent for each request."""
    with_ranges: bool = True
    """Whether the Range header is honoured."""
    proxied: list[str] = field(default_factory=list)
    """Addresses requested from this server as a proxy."""
    cut_after: int | None = None
    """Bytes of weights after which the connection breaks, once."""
    began: threading.Event = field(default_factory=threading.Event)
    """Set once the first bytes of weights are sent."""

    def files(self) -> list[str]:
        """Return the names of the downloaded files."""
        return [
            path.split("/")[-1]
            for path in self.requests
            if path.startswith("GET") and "/resolve/" in path
        ]


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    """Serve until the block ends."""
    hub = HubServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._respond(with_body=False)

        def do_GET(self) -> None:
            self._respond(with_body=True)

        def _respond(self, *, with_body: bool) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            if self.headers.get("Authorization"):
                hub.authorizations.add(self.headers["Authorization"])
            status, headers, body = self._answer()
            wanted = self.headers.get("Range", "")
            if hub.with_ranges and status == 200 and with_body and wanted.startswith("bytes="):
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                status, body = 206, body[start:]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                with contextlib.suppress(OSError):  # the client may have disconnected
                    self._send_body(body)

        def _send_body(self, body: bytes) -> None:
            first = len(body)
            sent = hub.sent.setdefault(self.path.split("/")[-1], [])
            sent.append(0)
            waits = hub.rest_of_weights if "safetensors" in self.path else None
            if waits is not None:
                first = hub.first_bytes
            if "safetensors" in self.path and hub.cut_after is not None:
                body, hub.cut_after = body[: hub.cut_after], None
                self.close_connection = True
            self.wfile.write(body[:first])
            sent[-1] = len(body[:first])
            if waits is not None:
                hub.began.set()
                waits.wait(300)
            self.wfile.write(body[first:])
            sent[-1] = len(body)

        def _answer(self) -> tuple[int, dict[str, str], bytes]:
            path = self.path.split("?")[0]
            if "://" in path:  # a request to a proxy
                hub.proxied.append(path)
                path = "/" + path.split("/", 3)[3]
            parts = path.strip("/").split("/")
            api = parts[0] == "api"
            if parts[0] == "datasets":  # their files are one level deeper than those of models
                parts = parts[1:]
            repo_id = "/".join(parts[2:4] if api else parts[:2])
            folder = hub.repositories.get(repo_id, 404)
            if isinstance(folder, int):
                return folder, self._refusal(folder), b"{}"
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            if api and "revision" in parts and parts[-1] not in ("main", COMMIT):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            if api and "tree" in parts:
                return self._json([self._entry(folder, file) for file in files])
            if api:
                siblings = [{"rfilename": str(file.relative_to(folder))} for file in files]
                return self._json({"id": repo_id, "sha": COMMIT, "siblings": siblings})
            body = (folder / "/".join(parts[4:])).read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            if self.path.endswith(".safetensors"):  # large files redirect to another address
                headers["X-Linked-ETag"] = f'"{hashlib.sha256(body).hexdigest()}"'
                headers["X-Linked-Size"] = str(len(body))
            return 200, headers, body

        @staticmethod
        def _refusal(status: int) -> dict[str, str]:
            return {"X-Error-Code": {404: "RepoNotFound", 403: "GatedRepo"}.get(status, "")}

        @staticmethod
        def _entry(folder: Path, file: Path) -> dict[str, object]:
            return {
                "type": "file",
                "path": str(file.relative_to(folder)),
                "size": file.stat().st_size,
                "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
            }

        @staticmethod
        def _json(content: object) -> tuple[int, dict[str, str], bytes]:
            return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()

    return Handler
