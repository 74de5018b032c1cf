"""Requests of ``/v1/chat/completions``: fields checked, values within the server's limits.

Known fields that cannot be honoured are an error; fields that are unknown, or make no difference
here, are ignored as everybody does, and named to the operator once.
https://platform.openai.com/docs/api-reference/chat/create, and what vLLM adds for video
(``media_io_kwargs``, ``mm_processor_kwargs``, ``repetition_penalty``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smolvideo.engines import GenerationOptions
from smolvideo.errors import ModelError, UsageError
from smolvideo.prompt import Role
from smolvideo.sampling import FrameSampling
from smolvideo.serve.api_errors import ApiError, invalid, unsupported
from smolvideo.serve.json_fields import read_boolean, read_integer, read_number
from smolvideo.serve.media_parts import MediaPart, Part, parse_content, too_many_frames
from smolvideo.serve.options import ServerOptions
from smolvideo.serve.video_options import VideoOptions, apply_video_options, read_video_options

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_MAX_TOP_LOGPROBS = 20
_MAX_MESSAGES = 1000
_MAX_SCHEMA_BYTES = 64_000
_FORMAT = "response_format"

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "top_k": (-1, 0),
    "min_p": (0,),
    "length_penalty": (1,),
    "use_beam_search": (False,),
    "prompt_logprobs": (0,),
    "echo": (False,),
    "audio": (),
}
"""Fields that are not supported, with the values besides null that ask for nothing."""

_IGNORED = frozenset(
    {
        "model", "user", "metadata", "store", "service_tier", "parallel_tool_calls",
        "safety_identifier", "prompt_cache_key", "reasoning_effort", "verbosity", "prediction",
        "stream_options", "keep_alive",
    }
)  # fmt: skip
_USED = frozenset(
    {
        "messages", "stream", "temperature", "top_p", "max_tokens", "max_completion_tokens",
        "seed", "stop", "logprobs", "top_logprobs", "repetition_penalty", "response_format",
        "video", "fps", "media_io_kwargs", "mm_processor_kwargs",
    }
)  # fmt: skip


@dataclass(frozen=True)
class ChatMessage:
    """A message as sent: role, texts and media, and its path in the request."""

    role: Role
    parts: tuple[Part, ...]
    param: str


@dataclass(frozen=True)
class ChatRequest:
    """A checked request. ``max_new_tokens`` is what the client asks at most, before the context is
    known; ``generation`` has the other options."""

    messages: tuple[ChatMessage, ...]
    generation: GenerationOptions
    sampling: FrameSampling
    video: VideoOptions
    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    unknown_fields: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def media(self) -> list[MediaPart]:
        """All media parts, in order."""
        return [
            part for message in self.messages for part in message.parts if not isinstance(part, str)
        ]


def parse_chat_request(body: Any, options: ServerOptions, model: str) -> ChatRequest:
    """Check the body of a request for ``model``. Raises ApiError."""
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    check_model(body.get("model"), model)
    for name, neutral in _NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            raise unsupported(f"`{name}` is not supported by this server", param=name)
    messages = parse_messages(body.get("messages"), options.sampling.max_frames)
    video = read_video_options(body)
    sampling, notices = apply_video_options(options.sampling, video)
    stream = read_boolean(body, "stream")
    logprobs = read_boolean(body, "logprobs")
    top = read_integer(body, "top_logprobs", 0, _MAX_TOP_LOGPROBS) or 0
    if top and not logprobs:
        raise invalid("`top_logprobs` needs `logprobs: true`", param="top_logprobs")
    request = ChatRequest(
        messages=messages,
        generation=with_schema(
            _generation(body, options), parse_response_format(body.get(_FORMAT))
        ),
        sampling=sampling,
        video=video,
        stream=stream,
        include_usage=_include_usage(body),
        logprobs=logprobs,
        top_logprobs=top,
        unknown_fields=tuple(
            sorted(str(name)[:60] for name in body.keys() - _USED - _IGNORED - _NEUTRAL.keys())
        ),
        notices=notices,
    )
    check_media_count(request.media, options.sampling.max_frames)
    return request


def check_model(given: Any, model: str) -> None:
    """Raise ApiError 404 for another model than the one that is served; none is fine."""
    if given is None or given == "":
        return
    if not isinstance(given, str):
        raise invalid("`model` must be a string", param="model")
    if given != model:
        raise ApiError(
            404,
            f"the model `{given[:100]}` is not served here; `{model}` is",
            param="model",
            code="model_not_found",
        )


def parse_messages(given: Any, max_frames: int) -> tuple[ChatMessage, ...]:
    """Check ``messages``: known roles, content in known forms, a question at the end."""
    if not isinstance(given, list) or not given:
        raise invalid("`messages` must be a list of one message or more", param="messages")
    if len(given) > _MAX_MESSAGES:
        raise invalid(f"more than {_MAX_MESSAGES} messages", param="messages")
    messages = []
    for place, item in enumerate(given):
        param = f"messages[{place}]"
        if not isinstance(item, dict):
            raise invalid("a message must be an object", param=param)
        role = _ROLES.get(item["role"]) if isinstance(item.get("role"), str) else None
        if role is None:
            raise invalid(
                f"a message is of {', '.join(_ROLES)}, not of {item.get('role')!r:.60}",
                param=f"{param}.role",
            )
        if item.get("tool_calls"):
            raise unsupported("tools are not supported", param=f"{param}.tool_calls")
        parts = parse_content(item.get("content"), f"{param}.content", max_frames=max_frames)
        if role != "user" and any(isinstance(part, MediaPart) for part in parts):
            raise invalid(f"only a user's message may hold media, not one of `{role}`", param=param)
        if not parts:
            raise invalid("the message has no content", param=f"{param}.content")
        messages.append(ChatMessage(role, tuple(parts), param))
    last = messages[-1]
    if last.role != "user" or not any(
        isinstance(part, str) and part.strip() for part in last.parts
    ):
        raise invalid("the last message must be a question of the user", param=last.param)
    return tuple(messages)


def check_media_count(media: Sequence[MediaPart], max_frames: int) -> None:
    """Raise ApiError for more media, or frames of image lists, than the server takes frames."""
    count = sum(len(part.frames) or 1 for part in media)
    if count > max_frames:
        raise too_many_frames(count, max_frames, "messages")


def _generation(body: Mapping[str, Any], options: ServerOptions) -> GenerationOptions:
    asked = [
        count
        for name in ("max_completion_tokens", "max_tokens")
        if (count := read_integer(body, name, 1, 2**31)) is not None
    ]
    seed = read_integer(body, "seed", -(2**63), 2**63 - 1)
    temperature = read_number(body, "temperature", 0, 100)
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise invalid("`stop` must be a string or a list of them", param="stop")
    if len(stops) > 16 or any(len(one) > 1000 for one in stops):
        raise invalid("at most 16 stop strings of 1,000 characters", param="stop")
    top_p = read_number(body, "top_p", 0, 1)
    try:
        return GenerationOptions(
            max_new_tokens=min(asked, default=options.max_new_tokens),
            temperature=temperature or 0.0,
            top_p=1.0 if top_p is None else max(top_p, 1e-6),
            repetition_penalty=read_number(body, "repetition_penalty", 1e-3, 100) or 1.0,
            seed=None if seed is None else seed % 2**63,
            stop=tuple(one for one in stops if one),
        )
    except UsageError as error:
        raise invalid(str(error)) from error


def _include_usage(body: Mapping[str, Any]) -> bool:
    given = body.get("stream_options")
    if given is None:
        return False
    if not isinstance(given, dict):
        raise invalid("`stream_options` must be an object", param="stream_options")
    return given.get("include_usage") is True


def parse_response_format(given: Any) -> Mapping[str, Any] | None:
    """Return the JSON schema of a ``response_format``; None for plain text.

    ``{"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}``, or ``json_object`` for
    any object. Raises ApiError.
    """
    if given is None:
        return None
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise invalid(
            "`response_format` is of type text, json_object or json_schema", param=_FORMAT
        )
    inner = given.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else given.get("schema")
    if not isinstance(schema, Mapping):
        raise invalid("`json_schema.schema` must be an object", param=f"{_FORMAT}.json_schema")
    if len(json.dumps(schema)) > _MAX_SCHEMA_BYTES:
        raise invalid(f"the schema is larger than {_MAX_SCHEMA_BYTES // 1000} kB", param=_FORMAT)
    return schema


def with_schema(
    generation: GenerationOptions, schema: Mapping[str, Any] | None
) -> GenerationOptions:
    """Return ``generation`` with a schema. Raises ApiError 422, which names the keyword, for one
    that is not supported."""
    if schema is None:
        return generation
    try:
        return replace(generation, schema=dict(schema))
    except UsageError as error:
        raise ApiError(422, str(error), param=_FORMAT, code="unsupported_schema") from error
    except ModelError as error:  # the extra is not installed
        raise unsupported(f"{error} ({error.hint})", param=_FORMAT) from error
