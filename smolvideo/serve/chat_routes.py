"""``/v1/chat/completions``: a request, its job, and its response, whole or streamed."""

from collections.abc import AsyncIterator
from contextlib import ExitStack

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smolvideo.serve.chat import Piece
from smolvideo.serve.chat_request import ChatRequest
from smolvideo.serve.chat_response import DONE, KEEP_ALIVE, ChatResponse, error_event
from smolvideo.serve.responses import EventStreamResponse, json_response, unless_gone
from smolvideo.serve.server import Handler, Server, guarded, new_job
from smolvideo.serve.worker import Job

_PATH = "/v1/chat/completions"


def chat_routes(server: Server) -> list[Route]:
    """Return the routes of OpenAI's chat."""
    return [Route(_PATH, guarded(server, _PATH, chat_handler(server)), methods=["POST"])]


def chat_handler(server: Server) -> Handler:
    """Return the handler of ``/v1/chat/completions``."""

    async def respond(request: Request) -> Response:
        with ExitStack() as place:
            place.enter_context(server.worker.admit())
            body = await server.read_body(request)
            chat = await server.parse_chat(body)
            del body
            job = new_job()
            if chat.stream:
                return _stream(server, chat, job, place.pop_all())
            prepared, finished = await unless_gone(
                server.whole_answer(chat, job), request.receive, lambda: server.client_left(job)
            )
            return json_response(ChatResponse(prepared, server.model).whole(finished))

    return respond


def _stream(server: Server, chat: ChatRequest, job: Job, place: ExitStack) -> Response:
    async def blocks() -> AsyncIterator[bytes]:
        prepared = await server.prepare(chat, job)
        response = ChatResponse(prepared, server.model)
        begun = False
        async for event in server.events(prepared, job):
            if not begun:
                begun = True
                yield response.first_chunk()
            if isinstance(event, Piece):
                yield response.chunk(event.text, event.logprobs)
            else:
                for block in response.last_chunks(event):
                    yield block

    return EventStreamResponse(
        blocks(),
        keep_alive=KEEP_ALIVE,
        keep_alive_seconds=server.options.keep_alive_seconds,
        on_error=lambda error: error_event(error) + DONE,
        on_gone=lambda: server.client_left(job),
        on_close=place.close,
    )
