"""A web server on loopback that misbehaves on demand.

with WebServer() as server:
    url = server.serve("/clip.mp4", Content(data, "video/mp4"))
    ...
    assert server.requests_for("/clip.mp4") == [None, "bytes=1000-"]   # their Range headers
"""

import base64
import contextlib
import threading
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Content:
    """Response of one path.

    ``ranges``: honours the Range header. ``length``: sends Content-Length; otherwise the end of the
    connection ends the body. After ``stall_after`` bytes of the body the connection stays open
    without further data; after ``break_after`` bytes it is closed.
    """

    body: bytes = b""
    content_type: str = "application/octet-stream"
    status: int = 200
    ranges: bool = True
    length: bool = True
    stall_after: int | None = None
    break_after: int | None = None
    location: str | None = None
    login: str | None = None
    """``user:password`` without which the answer is 401."""
    encoding: str | None = None
    """In which ``body`` is packed already."""


class WebServer:
    def __init__(self) -> None:
        self._contents: dict[str, Content] = {}
        self._requests: list[tuple[str, str | None]] = []
        self._headers: dict[str, list[Message]] = {}
        self._closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def serve(self, path: str, content: Content) -> str:
        """Serve ``content`` and return its address."""
        self._contents[path] = content
        return self.url(path)

    def requests_for(self, path: str) -> list[str | None]:
        """Return the Range header of every request for ``path``, None where there was none."""
        return [wanted for asked, wanted in self._requests if asked == path]

    def last_headers(self, path: str) -> Message:
        return self._headers[path][-1]

    def all_headers(self, path: str) -> list[Message]:
        """Return the headers of every request for ``path``."""
        return self._headers.get(path, [])

    def forget_requests(self) -> None:
        self._requests.clear()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self._requests.append((request.path, wanted))
        self._headers.setdefault(request.path, []).append(request.headers)
        content = self._contents.get(request.path, Content(b"nothing here", "text/plain", 404))
        if content.login is not None:
            proof = "Basic " + base64.b64encode(content.login.encode()).decode()
            if request.headers.get("Authorization") != proof:
                content = Content(b"who are you?", "text/plain", 401)
        first = 0
        if wanted and content.ranges and content.status == 200:
            first = int(wanted.removeprefix("bytes=").split("-")[0])
        body = content.body[first:]
        request.send_response(206 if first else content.status)
        request.send_header("Content-Type", content.content_type)
        if content.location is not None:
            request.send_header("Location", content.location)
        if content.encoding is not None:
            request.send_header("Content-Encoding", content.encoding)
        if first:
            size = len(content.body)
            request.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        if content.length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has closed the connection
            self._send_body(request, content, body)
        request.close_connection = True

    def _send_body(self, request: BaseHTTPRequestHandler, content: Content, body: bytes) -> None:
        if content.break_after is not None:
            body = body[: content.break_after]
        if content.stall_after is not None:
            request.wfile.write(body[: content.stall_after])
            self._closing.wait(timeout=300)
            return
        request.wfile.write(body)
