"""Export a conversation as Markdown, JSON, or an HTML page with frames."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from PIL import Image

from smolvideo.conversation.timestamps import find_timestamps, nearest_frame
from smolvideo.conversation.turns import Attachment, Settings, Turn, settings_to_json
from smolvideo.errors import UsageError
from smolvideo.formatting import format_clock, format_timestamp
from smolvideo.html_page import render_page
from smolvideo.sanitize import display_name, escape_controls

KIND = "smolvideo.conversation/1"
_SHOWN_HEIGHT = 120
"""Frame height in pixels in the HTML page: fifty frames are about a megabyte."""


def export(
    suffix: str, settings: Settings, attachments: Sequence[Attachment], turns: Sequence[Turn]
) -> str:
    """Format the conversation by file ``suffix``. Raises UsageError for an unknown one."""
    match suffix.lower():
        case ".md":
            return _markdown(settings, attachments, turns)
        case ".json":
            return _json(settings, attachments, turns)
        case ".html" | ".htm":
            return _web_page(settings, attachments, turns)
    raise UsageError(
        f"a conversation is saved as .md, .json or .html, not `{display_name(suffix or 'that')}`",
        hint="`/save talk.md`",
    )


def _facts(attachment: Attachment) -> str:
    metadata = attachment.batch.metadata
    parts = [display_name(attachment.source.name)]
    if attachment.is_video:
        start, end = attachment.window or (0.0, metadata.duration_seconds)
        parts.append(f"{format_timestamp(start)} to {format_timestamp(end)}")
        parts.append(f"{len(attachment.batch)} frames")
    return ", ".join(parts)


def _markdown(settings: Settings, attachments: Sequence[Attachment], turns: Sequence[Turn]) -> str:
    lines = ["# Conversation with " + _escaped(settings.model), ""]
    lines += [f"- {_escaped(_facts(attachment))}" for attachment in attachments]
    for turn in turns:
        lines += ["", f"## {_escaped(display_name(turn.question, 10_000))}", ""]
        if turn.text:
            lines.append(escape_controls(turn.text, allowed="\n\t"))
        if turn.outcome == "stopped":
            lines += ["", "*stopped*"]
        if turn.error is not None:
            lines += ["", f"*Error: {_escaped(escape_controls(turn.error))}*"]
        for notice in turn.notices:
            lines += ["", f"*Note: {_escaped(escape_controls(notice))}*"]
        if turn.evidence is not None:
            lines += ["", f"*Why: {_escaped(escape_controls(turn.evidence.text))}*"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Escape ``text`` for Markdown."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>()#+-!|" else char for char in text)


def _json(settings: Settings, attachments: Sequence[Attachment], turns: Sequence[Turn]) -> str:
    content = {
        "conversation": KIND,
        "settings": settings_to_json(settings),
        "looks": [
            {
                "source": attachment.source.given,
                "name": attachment.source.name,
                "kind": attachment.source.kind,
                "url": attachment.source.url,
                "turn": min(attachment.turn, len(turns)),
                "window": attachment.window,
                "frame_times": attachment.batch.pts_seconds,
                "subtitles": attachment.subtitles,
            }
            for attachment in attachments
        ],
        "turns": [asdict(turn) for turn in turns],
    }
    return json.dumps(content, indent=2) + "\n"


def _web_page(settings: Settings, attachments: Sequence[Attachment], turns: Sequence[Turn]) -> str:
    """Render the HTML page; text is escaped, so no answer can run scripts or load URLs."""
    return render_page(
        "smolvideo.conversation",
        "transcript.html",
        model=settings.model,
        attachments=[
            {"caption": _facts(attachment), "figures": _figures(attachment)}
            for attachment in attachments
        ],
        turns=[
            {
                "question": display_name(turn.question, 10_000),
                "parts": _linked(turn.text, attachments) if turn.text else [],
                "stopped": turn.outcome == "stopped",
                "error": turn.error,
                "notices": turn.notices,
                "why": turn.evidence.text if turn.evidence is not None else None,
                "evidence": _evidence(turn, attachments),
            }
            for turn in turns
        ],
    )


def _figures(attachment: Attachment) -> list[dict[str, str]]:
    return [
        {
            "id": _frame_name(attachment, number),
            "caption": format_timestamp(seconds) if attachment.is_video else str(number + 1),
            "base64": _jpeg(Image.fromarray(image), attachment),
        }
        for number, (image, seconds) in enumerate(
            zip(attachment.batch.images, attachment.batch.pts_seconds, strict=True)
        )
    ]


def _evidence(turn: Turn, attachments: Sequence[Attachment]) -> list[dict[str, str]]:
    """Figures of the frames that carry an answer, of those that are still attached."""
    found = []
    for frame in () if turn.evidence is None else turn.evidence.frames:
        if frame.source >= len(attachments):
            continue
        attachment = attachments[frame.source]
        number = nearest_frame(attachment.batch.pts_seconds, frame.time)
        caption = format_clock(frame.time, decimals=1) if attachment.is_video else str(number + 1)
        found.append(
            {
                "id": _frame_name(attachment, number),
                "caption": f"{caption} ({frame.kept:.0%})",
                "base64": _jpeg(Image.fromarray(attachment.batch.images[number]), attachment),
            }
        )
    return found


def _frame_name(attachment: Attachment, frame: int) -> str:
    """HTML id of a frame, the target of time links."""
    return f"f{attachment.number}-{frame}"


def _jpeg(picture: Image.Image, attachment: Attachment) -> str:
    metadata = attachment.batch.metadata
    squeezed = attachment.batch.geometry in ("official", "direct") and metadata.height > 0
    aspect = metadata.width / metadata.height if squeezed else picture.width / picture.height
    size = max(1, min(1000, round(_SHOWN_HEIGHT * aspect))), _SHOWN_HEIGHT
    encoded = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(encoded, "JPEG", quality=80)
    return base64.b64encode(encoded.getvalue()).decode("ascii")


def _linked(text: str, attachments: Sequence[Attachment]) -> list[dict[str, str | None]]:
    """Split ``text`` into parts; a timestamp links to the nearest ``frame`` of the last video."""
    attachment = next(
        (attachment for attachment in reversed(attachments) if attachment.is_video), None
    )
    if attachment is None:
        return [{"text": text, "frame": None}]
    done = 0
    parts: list[dict[str, str | None]] = []
    for moment in find_timestamps(text, attachment.batch.metadata.duration_seconds):
        frame = nearest_frame(attachment.batch.pts_seconds, moment.seconds)
        parts.append({"text": text[done : moment.start], "frame": None})
        clock = text[moment.start : moment.end]
        parts.append({"text": clock, "frame": _frame_name(attachment, frame)})
        done = moment.end
    return [*parts, {"text": text[done:], "frame": None}]
