"""Content parts of chat messages: every form in which clients send videos, images and frames.

OpenAI's interface has no video part; all of these are conventions of servers and their clients.

    video_url      {"url": "data:video/…;base64,…"}, a bare string, or a list of frames; vLLM,
                   SGLang, transformers serve, OpenRouter. `data:video/jpeg;base64,A,B,C` are
                   JPEG frames
    video          {"type": "video", "video": …}; mlx-vlm, Qwen's samples
    input_video    {"data": base64} or base64, llama.cpp; {"source": {"type": "base64", …}}
    image_url      {"url": "data:image/…;base64,…", "detail": …}; several in a row are the frames of
                   one video (Frigate)
    image, input_image   the same by other names
    file           {"file_data": "data:…", "filename": …}, or "file_id" with an address

What is not understood is an error, with the path of the part: media that a server drops without a
word are the commonest fault of this kind of interface.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from smolvideo.serve.api_errors import ApiError, invalid

MediaType = Literal["video", "image"]


@dataclass(frozen=True)
class MediaPart:
    """One medium as sent: its bytes, an address, or the bytes of several frames.

    ``declared`` is what the client says it is; the bytes decide. ``options`` is the part's own
    ``video`` object: window, rate and number of frames. ``param`` is its path in the request.
    """

    declared: MediaType
    param: str
    content: bytes | None = None
    url: str | None = None
    frames: tuple[bytes, ...] = ()
    options: Mapping[str, Any] | None = None


Part = str | MediaPart

_DATA_URI = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.IGNORECASE)
_WHITESPACE = re.compile(rb"[ \t\r\n]+")
_KNOWN = "text, video_url, input_video, video, image_url, input_image, image, file"


def parse_content(content: Any, param: str, *, max_frames: int) -> list[Part]:
    """Return the texts and media of a message's ``content``: a string, or a list of parts.

    ``max_frames`` bounds a list of frames in one part, before they are decoded. Raises ApiError.
    """
    if isinstance(content, str):
        return [content] if content else []
    if content is None:
        return []
    if not isinstance(content, list):
        raise invalid("content must be a string or a list of parts", param=param)
    parts: list[Part] = []
    for place, part in enumerate(content):
        parts += _parse_part(part, f"{param}[{place}]", max_frames)
    return parts


def _parse_part(part: Any, param: str, max_frames: int) -> Iterator[Part]:
    if not isinstance(part, dict):
        raise invalid("a content part must be an object", param=param)
    kind = part.get("type")
    if kind in ("text", "input_text"):
        if not isinstance(part.get("text"), str):
            raise invalid("a text part needs a string `text`", param=f"{param}.text")
        if part["text"]:
            yield part["text"]
    elif kind in ("video_url", "video", "input_video"):
        yield _video_part(part, kind, param, max_frames)
    elif kind in ("image_url", "image", "input_image"):
        yield _image_part(part, kind, param)
    elif kind == "file":
        yield _file_part(part, param, max_frames)
    elif kind in ("input_audio", "audio", "audio_url"):
        raise ApiError(415, "the model gets no sound", param=param, code="unsupported_media")
    else:
        shown = repr(kind)[:60]
        raise invalid(
            f"unknown kind of content part: {shown}; known are {_KNOWN}",
            param=f"{param}.type",
            code="unknown_content_part",
        )


def _video_part(part: Mapping[str, Any], kind: str, param: str, max_frames: int) -> MediaPart:
    options = part.get("video") if kind != "video" else None
    value = part.get(kind, part.get("source"))
    if kind == "video" and value is None:
        value = part.get("video_url")
    where = f"{param}.{kind}"
    if isinstance(value, Mapping):
        options = value.get("options", options)
        value = _named(value, ("url", "data", "base64"), where)
    if isinstance(value, list):
        if not value:
            raise invalid("the list of frames is empty", param=where)
        frames = tuple(_frame(one, f"{where}.url", max_frames, value) for one in value)
        return MediaPart("video", param, frames=frames, options=options)
    return _from_text(value, "video", where, options, max_frames, param)


def _image_part(part: Mapping[str, Any], kind: str, param: str) -> MediaPart:
    value = part.get(kind)
    for other in ("image_url", "url", "source"):
        value = part.get(other) if value is None else value
    where = f"{param}.{kind}"
    if isinstance(value, Mapping):
        value = _named(value, ("url", "data", "base64"), where)
    return _from_text(value, "image", where, None, 1, param)


def _file_part(part: Mapping[str, Any], param: str, max_frames: int) -> MediaPart:
    value, where = part.get("file"), f"{param}.file"
    if not isinstance(value, Mapping):
        raise invalid("a file part needs an object `file`", param=where)
    for name in ("file_data", "file_id"):
        if value.get(name) is not None:
            return _from_text(value[name], "video", f"{where}.{name}", None, max_frames, param)
    raise invalid("a file part needs `file_data` or the address as `file_id`", param=where)


def _named(value: Mapping[str, Any], names: tuple[str, ...], param: str) -> Any:
    for name in names:
        if value.get(name) is not None:
            return value[name]
    raise invalid(f"one of {', '.join(f'`{name}`' for name in names)} is needed", param=param)


def _from_text(
    value: Any,
    declared: MediaType,
    where: str,
    options: Any,
    max_frames: int,
    param: str,
) -> MediaPart:
    """Return the part of a data URI, an address, or plain base64."""
    if not isinstance(value, str) or not value:
        raise invalid("a string is needed: a data URI, base64 or an address", param=where)
    if options is not None and not isinstance(options, Mapping):
        raise invalid("`video` must be an object", param=f"{param}.video")
    if value[:5].lower() == "data:":
        found = _DATA_URI.match(value)
        if found is None or not found["parameters"].lower().endswith(";base64"):
            raise invalid("a data URI must be `data:TYPE;base64,…`", param=where)
        payload = value[found.end() :]
        if declared == "video" and "," in payload:
            frames = payload.split(",", max_frames)
            _check_count(payload.count(",") + 1, max_frames, where)
            return MediaPart(
                "video", where, frames=tuple(_decode(one, where) for one in frames), options=options
            )
        return MediaPart(declared, where, content=_decode(payload, where), options=options)
    # A path is an address, too; the bytes of no file begin with a slash in base64 (JPEG: `/9j/`).
    if "://" in value[:40] or (value.startswith(("/", "~")) and not value.startswith("/9j/")):
        return MediaPart(declared, where, url=value, options=options)
    return MediaPart(declared, where, content=_decode(value, where), options=options)


def _frame(value: Any, where: str, max_frames: int, all_frames: list[Any]) -> bytes:
    _check_count(len(all_frames), max_frames, where)
    part = _from_text(value, "image", where, None, 1, where)
    if part.content is None:
        raise invalid("a list of frames must hold data URIs or base64", param=where)
    return part.content


def _check_count(count: int, max_frames: int, where: str) -> None:
    if count > max_frames:
        raise too_many_frames(count, max_frames, where)


def too_many_frames(count: int, max_frames: int, param: str | None) -> ApiError:
    """Return the 400 for more frames or images than the server takes."""
    return invalid(
        f"{count} frames are more than the {max_frames} that this server takes at most",
        param=param,
        code="too_many_frames",
    )


def _decode(text: str, where: str) -> bytes:
    """Decode base64, standard or URL-safe, with blanks and without padding, as clients write it."""
    try:
        raw = _WHITESPACE.sub(b"", text.encode("ascii"))
        if b"-" in raw or b"_" in raw:
            raw = raw.translate(bytes.maketrans(b"-_", b"+/"))
        raw += b"=" * (-len(raw) % 4)
        content = base64.b64decode(raw, validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise invalid("this is no base64", param=where, code="invalid_base64") from error
    if not content:
        raise invalid("the medium is empty", param=where, code="invalid_media")
    return content
