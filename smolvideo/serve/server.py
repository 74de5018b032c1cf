"""What all requests of a server share: the service, the worker, and errors as responses."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from smolvideo.models import Checkpoint
from smolvideo.sanitize import display_name
from smolvideo.serve.api_errors import ApiError, to_api_error
from smolvideo.serve.chat import ChatService, Finished, Piece, PreparedChat
from smolvideo.serve.chat_request import ChatRequest, parse_chat_request
from smolvideo.serve.metrics import Metrics
from smolvideo.serve.options import ServerOptions
from smolvideo.serve.responses import ClientGone, EventQueue, error_response, in_thread, read_json
from smolvideo.serve.worker import EngineWorker, Job

PREPARE_THREADS = 2
"""Requests whose media are decoded at a time; each has a decoder process of its own."""

OnNotice = Callable[[str], None]
Result = TypeVar("Result")


@dataclass
class Server:
    """What all requests share. ``model`` is the name that clients use."""

    options: ServerOptions
    worker: EngineWorker
    checkpoint: Checkpoint
    metrics: Metrics
    on_notice: OnNotice

    def __post_init__(self) -> None:
        self.service = ChatService(self.checkpoint, self.worker, self.options, self.metrics)
        self.preparing = ThreadPoolExecutor(PREPARE_THREADS, thread_name_prefix="smolvideo-decode")
        self._named: set[str] = set()
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """The id of the model in requests and responses."""
        return self.checkpoint.name

    def report_unknown(self, names: tuple[str, ...]) -> None:
        """Name the fields of requests that are ignored, each once."""
        with self._lock:
            fresh = [name for name in names if name not in self._named][:10]
            if len(self._named) < 100:
                self._named.update(fresh)
            else:
                fresh = []
        if fresh:
            shown = ", ".join(f"`{display_name(name)}`" for name in fresh)
            self.on_notice(f"fields of requests that are ignored: {shown}")

    def client_left(self, job: Job) -> None:
        """Cancel the work for a client that has gone away."""
        self.metrics.count_cancelled()
        self.worker.cancel(job)

    async def read_body(self, request: Request) -> Any:
        """Read the JSON body within the server's limits."""
        options = self.options
        return await read_json(request, options.max_body_bytes, options.body_timeout_seconds)

    async def parse_chat(self, body: Any) -> ChatRequest:
        """Check a request in a thread: base64 and schemas take their time."""
        return await asyncio.to_thread(parse_chat_request, body, self.options, self.model)

    async def prepare(self, chat: ChatRequest, job: Job) -> PreparedChat:
        """Decode and pack a request in a thread."""
        self.report_unknown(chat.unknown_fields)
        return await in_thread(lambda: self.service.prepare(chat, job), self.preparing)

    async def events(self, chat: PreparedChat, job: Job) -> AsyncIterator[Piece | Finished]:
        """Queue the answer to a prepared request, and yield its events."""
        queue = EventQueue()
        job.work = lambda job, worker: self.service.answer(chat, job, worker, queue.put)
        job.on_end = queue.end
        self.worker.submit(job)
        while (event := await queue.next()) is not None:
            yield event

    async def in_engine(self, work: Callable[[Job, EngineWorker], Result], job: Job) -> Result:
        """Queue ``work`` for the engine's thread, and return its result."""
        queue = EventQueue()
        job.work = lambda job, worker: queue.put((work(job, worker),))
        job.on_end = queue.end
        self.worker.submit(job)
        event: tuple[Result] | None = await queue.next()
        await queue.next()
        if event is None:
            raise ClientGone
        return event[0]

    async def whole_answer(self, chat: ChatRequest, job: Job) -> tuple[PreparedChat, Finished]:
        """Prepare and answer a request that is not streamed."""
        prepared = await self.prepare(chat, job)
        async for event in self.events(prepared, job):
            if isinstance(event, Finished):
                return prepared, event
        raise ClientGone


Handler = Callable[[Request], Awaitable[Response]]


def guarded(
    server: Server,
    path: str,
    handler: Handler,
    *,
    failure_response: Callable[[ApiError], Response] = error_response,
) -> Handler:
    """Wrap ``handler``: errors become responses of their status, and requests are counted."""

    async def respond(request: Request) -> Response:
        try:
            response = await handler(request)
        except ClientGone:
            response = Response(status_code=499)  # nginx's status for a client that left
        except Exception as error:
            failure = to_api_error(error)
            if failure.status >= 500 and failure.code == "internal_error":
                server.on_notice(f"{path}: {type(error).__name__}: {display_name(str(error), 300)}")
            response = failure_response(failure)
        server.metrics.count_request(path, response.status_code)
        return response

    return respond


def new_job() -> Job:
    """Return a job without work yet; it can be cancelled while its request is prepared."""
    return Job(lambda _job, _worker: None, lambda _error: None)
