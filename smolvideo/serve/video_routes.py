"""What is about video alone: the frames that the model gets, and typed decisions.

    POST /v1/video/frames      {"content": [media…], "video": {…}}
    POST /v1/video/decisions   the same with "questions": {NAME: {"type": …, "instructions": …}}

A question is of type ``bool``, ``choice`` (with ``choices``) or ``score`` (``min`` to ``max``).

A decision is read from the logits after the question: the probability of each choice, calibrated
where ``smolvideo ask --calibrate`` has fitted a scale. Its fields are those of mlx-vlm's
``/v1/decisions``.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smolvideo.answer import Answer
from smolvideo.engines.choices import check_choices
from smolvideo.errors import UsageError
from smolvideo.frames import Images
from smolvideo.pipeline import parse_rating
from smolvideo.prompt import PLACEHOLDER_QUESTION
from smolvideo.serve.api_errors import ApiError, invalid, name_fields
from smolvideo.serve.chat import PreparedChat
from smolvideo.serve.chat_request import ChatRequest
from smolvideo.serve.json_fields import read_integer
from smolvideo.serve.responses import error_response, json_response, unless_gone
from smolvideo.serve.server import Handler, Server, guarded, new_job

_MAX_SIDE = 256
_QUALITY = 80
_MAX_QUESTIONS = 50


def video_routes(server: Server) -> list[Route]:
    """Return the routes about video."""
    handlers = {
        "/v1/video/frames": _frames_handler(server),
        "/v1/video/decisions": _decisions_handler(server),
    }
    return [
        Route(
            path,
            guarded(server, path, handler, failure_response=_failure_response),
            methods=["POST"],
        )
        for path, handler in handlers.items()
    ]


def _failure_response(error: ApiError) -> Response:
    """Return an error whose ``param`` is a path in the request, not in the chat made of it."""
    if error.param is not None:
        inner = error.param.removeprefix("messages").removeprefix("[0]").removeprefix(".")
        error.param = (inner or "content") if inner != error.param else error.param
    return error_response(error)


def _frames_handler(server: Server) -> Handler:
    async def respond(request: Request) -> Response:
        with server.worker.admit():
            body = await server.read_body(request)
            chat = await server.parse_chat(as_chat(body, PLACEHOLDER_QUESTION))
            job = new_job()
            prepared = await unless_gone(
                server.prepare(chat, job), request.receive, lambda: server.client_left(job)
            )
            return json_response(frames_json(prepared, server))

    return respond


def _decisions_handler(server: Server) -> Handler:
    async def respond(request: Request) -> Response:
        with server.worker.admit():
            body = await server.read_body(request)
            questions = parse_questions(body)
            job = new_job()

            chat = await server.parse_chat(as_chat(body, PLACEHOLDER_QUESTION))
            del body

            async def decide() -> dict[str, Any]:
                found = {}
                for name, question in questions.items():
                    prepared = await server.prepare(with_question(chat, question), job)
                    answer = await server.in_engine(
                        partial(server.service.decide, prepared, question.choices), job
                    )
                    found[name] = question.to_json(answer)
                return found

            found = await unless_gone(decide(), request.receive, lambda: server.client_left(job))
            return json_response(
                {"object": "video.decisions", "model": server.model, "decisions": found}
            )

    return respond


@dataclass(frozen=True)
class Question:
    """A question with its choices; ``kind`` is bool, choice or score."""

    kind: str
    instructions: str
    choices: tuple[str, ...]

    def to_json(self, answer: Answer) -> dict[str, Any]:
        """Return the decision: the most likely value, and the probabilities of all."""
        assert answer.choices is not None
        value: Any = answer.text
        if self.kind == "bool":
            value = answer.text == "yes"
        elif self.kind == "score":
            value = answer.choices.rating
        return {
            "type": self.kind,
            "value": value,
            "probabilities": dict(answer.choices.probabilities),
            "mass": answer.choices.mass,
            "calibrated": answer.choices.calibration is not None,
            "notices": list(map(name_fields, answer.notices)),
            "usage": {
                "prompt_tokens": answer.usage.prompt_tokens,
                "completion_tokens": 0,
                "total_tokens": answer.usage.prompt_tokens,
            },
        }


def with_question(chat: ChatRequest, question: Question) -> ChatRequest:
    """Return the request about the same media with another question."""
    (message,) = chat.messages
    asked = replace(message, parts=(*message.parts[:-1], question.instructions))
    return replace(chat, messages=(asked,))


def parse_questions(body: Any) -> dict[str, Question]:
    """Check ``questions`` of a request for decisions. Raises ApiError."""
    given = body.get("questions") if isinstance(body, dict) else None
    if not isinstance(given, dict) or not given:
        raise invalid("`questions` must be an object with one question or more", param="questions")
    if len(given) > _MAX_QUESTIONS:
        raise invalid(f"more than {_MAX_QUESTIONS} questions", param="questions")
    return {name: _question(one, f"questions.{name:.60}") for name, one in given.items()}


def _question(given: Any, param: str) -> Question:
    if not isinstance(given, dict):
        raise invalid("a question must be an object", param=param)
    kind = given.get("type", "bool")
    instructions = given.get("instructions")
    if not isinstance(instructions, str) or not instructions.strip():
        raise invalid("`instructions` must be the question", param=f"{param}.instructions")
    try:
        return Question(kind, instructions, check_choices(_choices_of(given, kind, param)))
    except UsageError as error:
        raise invalid(str(error), param=f"{param}.choices") from error


def _choices_of(given: Mapping[str, Any], kind: Any, param: str) -> tuple[str, ...]:
    """Return the choices of a question. Raises ApiError and UsageError."""
    if kind == "bool":
        return ("yes", "no")
    if kind == "choice":
        listed = given.get("choices", given.get("criteria"))
        if not isinstance(listed, list):
            raise invalid("`choices` must be a list of texts", param=f"{param}.choices")
        return tuple(listed)
    if kind == "score":
        low = read_integer(given, "min", 0, 100, param)
        high = read_integer(given, "max", 0, 100, param)
        return parse_rating(f"{1 if low is None else low}-{5 if high is None else high}")
    raise invalid("a question is of type bool, choice or score", param=f"{param}.type")


def as_chat(body: Any, question: str) -> Any:
    """Return a request about media, ``content`` and ``video``, as the chat that asks
    ``question``."""
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    content = body.get("content")
    if not isinstance(content, list) or not content:
        raise invalid("`content` must be a list of media parts", param="content")
    message = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
    return {"model": body.get("model"), "video": body.get("video"), "messages": [message]}


def frames_json(chat: PreparedChat, server: Server) -> dict[str, Any]:
    """Return the frames as small JPEG images, with their times and the cost of the prompt."""
    prepared = chat.prepared
    return {
        "object": "list",
        "model": server.model,
        "data": [
            {
                "medium": source.name,
                "kind": batch.metadata.kind,
                "seconds": round(seconds, 3),
                "image": _data_uri(image),
            }
            for source, batch in zip(prepared.sources, prepared.batches, strict=True)
            for seconds, image in zip(batch.pts_seconds, batch.images, strict=True)
        ],
        "prompt_tokens": len(prepared.prompt),
        "context_tokens": prepared.prompt.context_tokens,
        "notices": list(map(name_fields, dict.fromkeys((*chat.notices, *prepared.notices)))),
    }


def _data_uri(image: Images) -> str:
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
