"""Ollama's interface over the same service: ``/api/chat`` and ``/api/generate`` with ``images``.

Its clients (Frigate, Home Assistant, Open WebUI) send images as plain base64; several of them are
the frames of one video. https://github.com/ollama/ollama/blob/main/docs/api.md
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smolvideo.sanitize import escape_controls
from smolvideo.serve.api_errors import ApiError, invalid
from smolvideo.serve.chat import Finished, Piece, PreparedChat
from smolvideo.serve.chat_request import ChatRequest
from smolvideo.serve.chat_response import finish_reason
from smolvideo.serve.responses import EventStreamResponse, json_response, unless_gone
from smolvideo.serve.server import Handler, Server, guarded, new_job
from smolvideo.serve.worker import Job
from smolvideo.version import __version__

_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "repeat_penalty": "repetition_penalty",
    "num_predict": "max_tokens",
}
"""Ollama's name of an option → ours; others are about its own engine (``num_ctx``) and ignored."""


def ollama_routes(server: Server) -> list[Route]:
    """Return the routes of Ollama's interface."""

    def route(method: str, path: str, handler: Handler) -> Route:
        wrapped = guarded(server, path, handler, failure_response=_failure_response)
        return Route(path, wrapped, methods=[method])

    async def version(_: Request) -> Response:
        return json_response({"version": __version__})

    async def tags(_: Request) -> Response:
        return json_response({"models": [_model_entry(server)]})

    async def show(request: Request) -> Response:
        body = await server.read_body(request)
        if not isinstance(body, dict):
            raise invalid("the body must be a JSON object")
        _check_name(body.get("model") or body.get("name"), server.model)
        return json_response(_details(server))

    return [
        route("GET", "/api/version", version),
        route("GET", "/api/tags", tags),
        route("GET", "/api/ps", tags),
        route("POST", "/api/show", show),
        route("POST", "/api/chat", _handler(server, "message")),
        route("POST", "/api/generate", _handler(server, "response")),
    ]


def _handler(server: Server, field: str) -> Handler:
    """Return the handler of ``/api/chat`` (``field`` message) or ``/api/generate`` (response)."""

    async def respond(request: Request) -> Response:
        with ExitStack() as place:
            place.enter_context(server.worker.admit())
            body = await server.read_body(request)
            converted = to_chat_body(body, server.model)
            chat = await server.parse_chat(converted)
            job = new_job()
            if body.get("stream") is not False:
                return _stream(server, chat, job, place.pop_all(), field)
            prepared, finished = await unless_gone(
                server.whole_answer(chat, job), request.receive, lambda: server.client_left(job)
            )
            text = finished.answer.text
            return json_response(_last_line(server, prepared, finished, field, text))

    return respond


def _failure_response(error: ApiError) -> Response:
    """Return an error in Ollama's shape."""
    names = {ours: theirs for theirs, ours in _OPTIONS.items()}
    message = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), error.message)
    response = json_response({"error": escape_controls(message)}, error.status)
    response.headers.update(error.headers)
    return response


def to_chat_body(body: Any, model: str) -> dict[str, Any]:
    """Convert a request of Ollama's to one of OpenAI's. Raises ApiError."""
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    _check_name(body.get("model"), model)
    given = body.get("options") or {}
    if not isinstance(given, Mapping):
        raise invalid("`options` must be an object", param="options")
    converted = {ours: given[theirs] for theirs, ours in _OPTIONS.items() if theirs in given}
    if isinstance(converted.get("max_tokens"), int) and converted["max_tokens"] < 1:
        del converted["max_tokens"]  # -1: without a limit, -2: what the context holds
    if "messages" in body:
        if not isinstance(body["messages"], list):
            raise invalid("`messages` must be a list", param="messages")
        messages = [_message(one, f"messages[{at}]") for at, one in enumerate(body["messages"])]
    else:
        prompt = {"role": "user", "content": body.get("prompt"), "images": body.get("images")}
        messages = [_message(prompt, "prompt")]
        if body.get("system"):
            messages.insert(0, {"role": "system", "content": body["system"]})
    answer_format = body.get("format")
    if answer_format == "json":
        converted["response_format"] = {"type": "json_object"}
    elif isinstance(answer_format, dict):
        schema = {"name": "format", "schema": answer_format}
        converted["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif answer_format:
        raise invalid("`format` is `json` or a schema", param="format")
    return {"messages": messages, "tools": body.get("tools"), **converted}


def _message(given: Any, param: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise invalid("a message must be an object", param=param)
    text, images = given.get("content"), given.get("images") or []
    if not isinstance(text, str):
        raise invalid("the text of a message must be a string", param=f"{param}.content")
    if not isinstance(images, list) or not all(isinstance(one, str) for one in images):
        raise invalid("`images` must be a list of base64 strings", param=f"{param}.images")
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": one} for one in images]
    content = [*parts, {"type": "text", "text": text}]
    return {"role": given.get("role"), "content": content, "tool_calls": given.get("tool_calls")}


def _check_name(given: Any, model: str) -> None:
    """Raise ApiError 404 for another model; Ollama's clients append ``:latest``."""
    if given is None or given == "":
        return
    if not isinstance(given, str) or given.removesuffix(":latest") != model:
        message = f"the model {given!r:.100} is not served here; `{model}` is"
        raise ApiError(404, message, param="model", code="model_not_found")


def _stream(server: Server, chat: ChatRequest, job: Job, place: ExitStack, field: str) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        prepared = await server.prepare(chat, job)
        async for event in server.events(prepared, job):
            if isinstance(event, Piece):
                line = {**_head(server), **_text(field, event.text), "done": False}
            else:
                line = _last_line(server, prepared, event, field, "")
            yield _line(line)

    return EventStreamResponse(
        lines(),
        # Its clients parse every line as JSON: a blank one would break them.
        keep_alive=json.dumps({**_head(server), **_text(field, ""), "done": False}).encode()
        + b"\n",
        keep_alive_seconds=server.options.keep_alive_seconds,
        on_error=lambda error: _line({"error": error.message}),
        on_gone=lambda: server.client_left(job),
        on_close=place.close,
        failure=_failure_response,
        media_type="application/x-ndjson",
    )


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode("ascii") + b"\n"


def _head(server: Server) -> dict[str, Any]:
    return {"model": server.model, "created_at": datetime.now(UTC).isoformat()}


def _text(field: str, text: str) -> dict[str, Any]:
    return {field: {"role": "assistant", "content": text} if field == "message" else text}


def _last_line(
    server: Server, chat: PreparedChat, finished: Finished, field: str, text: str
) -> dict[str, Any]:
    usage = finished.answer.usage
    nanoseconds = {stage: int(seconds * 1e9) for stage, seconds in usage.seconds.items()}
    return {
        **_head(server),
        **_text(field, text),
        "done": True,
        "done_reason": finish_reason(finished, chat),
        "total_duration": sum(nanoseconds.values()),
        "load_duration": 0,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": nanoseconds.get("encode", 0) + nanoseconds.get("prefill", 0),
        "eval_count": usage.answer_tokens,
        "eval_duration": nanoseconds.get("generate", 0),
    }


def _model_entry(server: Server) -> dict[str, Any]:
    weights = server.checkpoint.weights
    return {
        "name": server.model,
        "model": server.model,
        "modified_at": datetime.now(UTC).isoformat(),
        "size": 0 if weights is None else 2 * weights.parameters,
        "digest": server.checkpoint.revision or "",
        "details": _details(server)["details"],
    }


def _details(server: Server) -> dict[str, Any]:
    weights = server.checkpoint.weights
    return {
        "details": {
            "format": "safetensors",
            "family": server.checkpoint.model_type,
            "families": [server.checkpoint.model_type],
            "parameter_size": f"{(weights.parameters if weights else 0) / 1e6:.0f}M",
            "quantization_level": "",
        },
        "model_info": {"smolvlm.context_length": server.checkpoint.context_tokens},
        "capabilities": ["completion", "vision"],
    }
