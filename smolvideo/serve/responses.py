"""HTTP for jobs: reading a body within limits, waiting for a job, and streaming its events.

A client that goes away cancels its job: nothing is computed for it after the next frame or token.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from smolvideo.json_types import parse_json
from smolvideo.progress import Cancelled
from smolvideo.serve.api_errors import ApiError, invalid, to_api_error
from smolvideo.serve.remote_media import too_large

Result = TypeVar("Result")


class ClientGone(Exception):
    """The client has closed the connection."""


def json_response(content: Any, status: int = 200) -> Response:
    """Return a JSON response; characters beyond ASCII are escaped, lone surrogates too."""
    body = json.dumps(content, ensure_ascii=True).encode("ascii")
    return Response(body, status, media_type="application/json")


def error_response(error: ApiError) -> Response:
    """Return the response of an error."""
    response = json_response(error.to_json(), error.status)
    response.headers.update(error.headers)
    return response


async def read_json(request: Request, max_bytes: int, timeout_seconds: float) -> Any:
    """Read a JSON body of at most ``max_bytes``, whatever ``content-length`` says.

    Raises ApiError: 415 for another content type, 413 where it is larger, 408 where nothing arrives
    for ``timeout_seconds`` or the whole takes ten times as long, 400 for what is not JSON;
    ClientGone where the client closes the connection first.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "the body must be `application/json`", code="unsupported_content_type")
    with suppress(ValueError):
        if int(request.headers.get("content-length", "0")) > max_bytes:
            raise too_large(max_bytes, None)
    blocks, size = [], 0
    stream = request.stream()
    end = time.monotonic() + 10 * timeout_seconds
    while True:
        left = min(timeout_seconds, end - time.monotonic())
        try:
            block = await asyncio.wait_for(anext(stream, None), left)
        except TimeoutError as error:
            raise ApiError(408, "the body does not arrive", code="timeout") from error
        except ClientDisconnect as error:
            raise ClientGone from error
        if block is None:
            break
        size += len(block)
        if size > max_bytes:
            raise too_large(max_bytes, None)
        blocks.append(block)
    return await asyncio.to_thread(_parse, b"".join(blocks))


def _parse(body: bytes) -> Any:
    try:
        return parse_json(body)
    except ValueError as error:  # UnicodeDecodeError is one
        raise invalid(
            f"the body is no valid JSON: {str(error)[:200]}", code="invalid_json"
        ) from error


async def until_gone(receive: Receive) -> None:
    """Return once the client has closed the connection; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(
    work: Awaitable[Result], receive: Receive, cancel: Callable[[], None]
) -> Result:
    """Await ``work``; where the client goes away first, call ``cancel``, await its end, and raise
    ClientGone."""
    running = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(until_gone(receive))
    try:
        await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            cancel()
            with suppress(Exception, Cancelled):
                await running
            raise ClientGone
        return await running
    except asyncio.CancelledError:  # the server shuts down
        cancel()
        running.cancel()
        raise
    finally:
        gone.cancel()


async def in_thread(work: Callable[[], Result], executor: Executor) -> Result:
    """Call ``work`` in a thread of ``executor``; its ``Cancelled`` is raised as ClientGone."""

    def call() -> Result:
        try:
            return work()
        except Cancelled as error:  # not an Exception: asyncio would stop its loop
            raise ClientGone from error

    return await asyncio.get_running_loop().run_in_executor(executor, call)


class EventQueue:
    """Events of a job, put by its thread and taken by asyncio."""

    _END = object()

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._error: BaseException | None = None
        self.ended = threading.Event()

    def put(self, event: Any) -> None:
        """Add an event; from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def end(self, error: BaseException | None) -> None:
        """End the events, with the error of the job if it has one; from any thread."""
        self._error = error
        self.ended.set()
        self.put(self._END)

    async def next(self) -> Any:
        """Return the next event, None at the end. Raises the job's error; ClientGone for a
        cancelled job."""
        event = await self._events.get()
        if event is not self._END:
            return event
        self._events.put_nowait(self._END)
        if isinstance(self._error, Exception):
            raise self._error
        if self._error is not None:
            raise ClientGone from self._error
        return None


class EventStreamResponse(Response):
    """Streams blocks as they come, with a comment after each pause; ``on_gone`` is called where the
    client goes away, to cancel the work, and ``on_close`` when that has stopped.

    The first block is awaited for ``keep_alive_seconds`` before anything is sent: an error until
    then has a status of its own.
    """

    def __init__(
        self,
        blocks: AsyncIterator[bytes],
        *,
        keep_alive: bytes,
        keep_alive_seconds: float,
        on_error: Callable[[ApiError], bytes],
        on_gone: Callable[[], None],
        on_close: Callable[[], None],
        failure: Callable[[ApiError], Response] = error_response,
        media_type: str = "text/event-stream",
    ) -> None:
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"  # nginx passes events on at once
        self._blocks = blocks
        self._keep_alive = keep_alive
        self._pause = keep_alive_seconds
        self._on_error = on_error
        self._on_gone = on_gone
        self._on_close = on_close
        self._failure = failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(scope, receive, send))
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                self._on_gone()
            with suppress(ClientGone):
                await sending  # until the work has stopped: it holds its place
        finally:
            gone.cancel()
            sending.cancel()
            self._on_close()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        async for block in self._with_comments():
            if isinstance(block, ApiError):
                if not begun:
                    await self._failure(block)(scope, receive, send)
                    return
                block = self._on_error(block)
            if not begun:
                begun = True
                await send(
                    {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                )
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _with_comments(self) -> AsyncIterator[bytes | ApiError]:
        """Yield the blocks, a comment after each pause, and the error that ends them."""
        step: asyncio.Future[bytes | None] | None = None
        try:
            while True:
                if step is None:
                    step = asyncio.ensure_future(anext(self._blocks, None))
                done, _ = await asyncio.wait((step,), timeout=self._pause)
                if not done:
                    yield self._keep_alive
                    continue
                block, step = step.result(), None
                if block is None:
                    return
                yield block
        except ClientGone:
            raise
        except Exception as error:
            yield to_api_error(error)
        finally:
            if step is not None:
                step.cancel()
