"""Data files: questions and answers about videos and images, one JSON object per line.

Read are, each with its own names:

    our own     {"video": "a.mp4", "start": 3, "end": 9, "question": "…", "answer": "…"}
                `image`, or `sources` with several, each a path or {"path": …, "start": …, "end": …}
    messages    {"messages": [{"role": "user", "content": [{"type": "video", "path": "a.mp4"},
                {"type": "text", "text": "…"}]}, {"role": "assistant", "content": "…"}]}
    TRL         {"images": ["a.jpg"], "prompt": [{"role": "user", …}], "completion": [{…}]}, and the
                same with `messages`; pictures stand for `{"type": "image"}` in their order
    pairs       for `tune align`: `question` or `prompt`, with `chosen` and `rejected`

A conversation of several turns becomes one item for each of the assistant's turns. Frames come
before the text of the first turn, as in ``ask``. Nothing is opened here but the data file itself.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolvideo.errors import RecordError
from smolvideo.json_types import parse_json
from smolvideo.sanitize import display_path

MAX_FILE_BYTES = 2 << 30
MAX_SHOWN = 8
"""Faulty lines that an error names; the rest are counted."""
_TIMES = ("start", "end")
_MEDIA_KEYS = ("video", "videos", "image", "images", "sources")
_TEXT_KEYS = ("question", "answer", "messages", "prompt", "completion", "chosen", "rejected")
_ABOUT = ("id", "kind", "subtitles", "source", "split", "category")
"""Keys that are read past, but for ``kind``."""


@dataclass(frozen=True)
class MediaRef:
    """A file as a line names it, and the window of it in seconds."""

    path: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class Turn:
    """One question with its answer, or before it."""

    question: str
    answer: str


@dataclass(frozen=True)
class DataLine:
    """One question about some media, its answer, and the turns before it.

    ``number`` counts lines from 1 (VQAv2: questions). ``kind`` groups the scores of rehearsal.
    ``rejected`` is the worse answer of a pair.
    """

    number: int
    media: tuple[MediaRef, ...]
    question: str
    answer: str
    history: tuple[Turn, ...] = ()
    kind: str = ""
    rejected: str | None = None


@dataclass(frozen=True)
class Fault:
    """A line that cannot be used, and why."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


@dataclass(frozen=True)
class DataFile:
    """The usable lines of a file, and the faults of the others. ``folder`` resolves its paths."""

    path: Path
    folder: Path
    lines: tuple[DataLine, ...]
    faults: tuple[Fault, ...] = field(default=())


def faults_error(path: Path, faults: Sequence[Fault], total: int) -> RecordError:
    """Return the error for the faulty lines of a data file."""
    shown = "; ".join(map(str, faults[:MAX_SHOWN]))
    rest = len(faults) - MAX_SHOWN
    more = f"; and {rest} more" if rest > 0 else ""
    which = "1 line" if len(faults) == 1 else f"{len(faults)} lines"
    return RecordError(
        f"{which} of {total} in {display_path(path)} cannot be used: {shown}{more}",
        hint="correct them, or leave them out with `--skip-faulty`"
        if len({fault.number for fault in faults}) < total
        else "a line is a JSON object with `video` or `image`, `question` and `answer`",
    )


def read_lines(path: Path, *, pairs: bool = False) -> DataFile:
    """Read a file of lines; faulty ones become ``faults``. ``pairs``: each line has two answers.

    Raises RecordError where the file cannot be read or has no line at all.
    """
    content = read_bytes(path)
    lines: list[DataLine] = []
    faults: list[Fault] = []
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            value = parse_json(text.decode("utf-8-sig"), unique_keys=True)
            lines += _pairs(number, value) if pairs else _items(number, value)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(number, _reason(error)))
    if not lines and not faults:
        raise RecordError(f"{display_path(path)} has no lines")
    return DataFile(path, path.parent, tuple(lines), tuple(faults))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg}"
    if isinstance(error, UnicodeDecodeError):
        return "not valid UTF-8"
    return str(error) or "not valid JSON"


def read_bytes(path: Path) -> bytes:
    """Return the content of a data file. Raises RecordError if it is none, or too large."""
    try:
        if path.is_dir():
            raise RecordError(f"{display_path(path)} is a folder, not a file of questions")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RecordError(f"{display_path(path)} is larger than {MAX_FILE_BYTES >> 30} GB")
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"cannot read {display_path(path)}: {error.strerror or error}") from error


def _items(number: int, value: Any) -> Iterator[DataLine]:
    content = _object(value)
    media = _media(content)
    if "messages" in content or "prompt" in content:
        messages = _messages(content)
        media, turns = _conversation(messages, media)
    else:
        turns = [Turn(_text(content, "question"), _text(content, "answer"))]
    kind = content.get("kind", "")
    if not isinstance(kind, str):
        raise ValueError("`kind` must be a text")
    for place, turn in enumerate(turns):
        if turn.answer:
            history = tuple(turns[:place])
            yield DataLine(number, media, turn.question, turn.answer, history, kind)


def _pairs(number: int, value: Any) -> Iterator[DataLine]:
    content = _object(value)
    media = _media(content)
    answers = [_answer_text(content, name) for name in ("chosen", "rejected")]
    if answers[0].strip() == answers[1].strip():
        raise ValueError("`chosen` and `rejected` are the same")
    history: tuple[Turn, ...] = ()
    if "prompt" in content and not isinstance(content["prompt"], str):
        media, turns = _conversation([*_list(content, "prompt"), _assistant("x")], media)
        history, question = tuple(turns[:-1]), turns[-1].question
    else:
        question = _text(content, "prompt" if "prompt" in content else "question")
    yield DataLine(number, media, question, answers[0], history, rejected=answers[1])


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    known = {*_MEDIA_KEYS, *_TEXT_KEYS, *_TIMES, *_ABOUT}
    if unknown := sorted(set(value) - known):
        raise ValueError(f"unknown key `{unknown[0][:40]}`")
    return value


def _text(content: Mapping[str, Any], name: str) -> str:
    text = content.get(name)
    if not isinstance(text, str):
        raise ValueError(f"`{name}` is missing" if text is None else f"`{name}` must be a text")
    if not text.strip():
        raise ValueError(f"the {name} is empty")
    return text


def _answer_text(content: Mapping[str, Any], name: str) -> str:
    """Text of ``chosen`` or ``rejected``: as it is, or TRL's list of one assistant message."""
    value = content.get(name)
    if isinstance(value, list) and len(value) == 1:
        role, parts = _message(value[0])
        texts = [part for part in parts if isinstance(part, str)]
        if role == "assistant" and len(texts) == len(parts):
            return _text({name: "".join(texts)}, name)
    return _text(content, name)


def _list(content: Mapping[str, Any], name: str) -> list[Any]:
    value = content.get(name)
    if not isinstance(value, list) or not value:
        raise ValueError(f"`{name}` must be a list that is not empty")
    return value


def _media(content: Mapping[str, Any]) -> tuple[MediaRef, ...]:
    """Media of a line, in the order of its keys; ``start`` and ``end`` are of a single one."""
    found: list[MediaRef] = []
    for name in _MEDIA_KEYS:
        if name in content:
            value = content[name]
            named = value if isinstance(value, list) else [value]
            found += [_media_ref(one, name) for one in named]
    times = {name: _seconds(content, name) for name in _TIMES if content.get(name) is not None}
    if times and len(found) != 1:
        raise ValueError("`start` and `end` are of one video: put them beside each `path`")
    if times:
        found = [MediaRef(found[0].path, times.get("start"), times.get("end"))]
    return tuple(map(_checked_window, found))


def _media_ref(value: Any, name: str) -> MediaRef:
    if isinstance(value, str) and value.strip():
        return MediaRef(value)
    if isinstance(value, dict):
        path = value.get("path", value.get("video", value.get("image", value.get("url"))))
        if isinstance(path, str) and path.strip():
            times = [_seconds(value, key) if value.get(key) is not None else None for key in _TIMES]
            return MediaRef(path, *times)
    raise ValueError(f"`{name}` must name a file")


def _seconds(content: Mapping[str, Any], name: str) -> float:
    value = content[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"`{name}` must be seconds from 0 on, not {str(value)[:20]!r}")
    return float(value)


def _checked_window(media: MediaRef) -> MediaRef:
    start, end = media.start_seconds, media.end_seconds
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"`end` {end:g} is not after `start` {start or 0:g}")
    return media


def _messages(content: Mapping[str, Any]) -> list[Any]:
    if "messages" in content:
        return _list(content, "messages")
    prompt, completion = content["prompt"], content.get("completion")
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(completion, str):
        completion = [_assistant(completion)]
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise ValueError("`prompt` needs a `completion`, each a text or a list of messages")
    return [*prompt, *completion]


def _message(value: Any) -> tuple[str, list[str | MediaRef | None]]:
    """Role and parts of a message: texts, media, and None for a picture listed elsewhere."""
    if not isinstance(value, dict) or value.get("role") not in ("user", "assistant"):
        role = value.get("role") if isinstance(value, dict) else value
        raise ValueError(f"a message is of `user` or `assistant`, not of {str(role)[:20]!r}")
    content = value.get("content")
    parts: list[str | MediaRef | None] = []
    for part in [content] if isinstance(content, str) else _list(value, "content"):
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, dict) and part.get("type") == "text":
            parts.append(_text(part, "text"))
        elif isinstance(part, dict) and part.get("type") in ("image", "video"):
            named = {*part} & {"path", "image", "video", "url"}
            parts.append(_checked_window(_media_ref(part, "content")) if named else None)
        else:
            raise ValueError("a part of a message is of type `text`, `image` or `video`")
    return value["role"], parts


def _conversation(
    messages: Sequence[Any], listed: tuple[MediaRef, ...]
) -> tuple[tuple[MediaRef, ...], list[Turn]]:
    """Media and turns of a conversation that alternates from the user to the assistant."""
    waiting, media, turns = list(listed), list[MediaRef](), list[Turn]()
    named = question = ""
    for place, message in enumerate(messages):
        role, parts = _message(message)
        if role != ("user", "assistant")[place % 2]:
            raise ValueError("messages must alternate, beginning with the user's")
        for part in parts:
            if isinstance(part, str):
                continue
            if role == "assistant" or place:
                raise ValueError("pictures and videos belong into the first message")
            if part is None and not waiting:
                raise ValueError("more `image` parts than files in `images`")
            media.append(waiting.pop(0) if part is None else part)
            named = "named"
        text = "".join(part for part in parts if isinstance(part, str))
        if not text.strip():
            raise ValueError("the question is empty" if role == "user" else "the answer is empty")
        if role == "user":
            question = text
        else:
            turns.append(Turn(question, text))
    if named and waiting:
        raise ValueError(f"{len(waiting)} files more than `image` parts")
    if len(messages) % 2 or not turns:
        raise ValueError("the last message must be the assistant's")
    return tuple(media or listed), turns
