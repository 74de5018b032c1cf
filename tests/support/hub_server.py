"""A server on loopback that speaks as much of the hub's protocol as a download needs."""

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
    """Repositories by id, each a folder or an HTTP status; and what was asked for."""

    url: str = ""
    repositories: dict[str, Path | int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    rest_of_weights: threading.Event | None = None
    """Where there is one, all but the first bytes of weights wait until it is set."""
    began: threading.Event = field(default_factory=threading.Event)
    """Set once the first weights are on their way."""

    def files(self) -> list[str]:
        """The names of the files that were downloaded."""
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
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body and hub.rest_of_weights is not None and "safetensors" in self.path:
                with contextlib.suppress(OSError):  # whoever asked may have left
                    self.wfile.write(body[:100])
                    hub.began.set()
                    hub.rest_of_weights.wait(300)
                    self.wfile.write(body[100:])
            elif with_body:
                self.wfile.write(body)

        def _answer(self) -> tuple[int, dict[str, str], bytes]:
            parts = self.path.split("?")[0].strip("/").split("/")
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
            digest = hashlib.sha1(body).hexdigest()
            return 200, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}, body

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
