"""A conversation as a file, for people or programs: Markdown, JSON, or a web page with frames."""

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from PIL import Image

from smolvideo.conversation.moments import moments_in, nearest_frame
from smolvideo.conversation.settings import Settings, settings_as_json
from smolvideo.conversation.turns import Look, Turn
from smolvideo.errors import UsageError
from smolvideo.frames import format_timestamp
from smolvideo.safe_text import clean_name, visible

KIND = "smolvideo.conversation/1"
SUFFIXES = (".md", ".json", ".html")
_SHOWN_HEIGHT = 120
"""Pixels of a frame in the web page: fifty are a megabyte."""


def transcript(
    suffix: str, settings: Settings, looks: Sequence[Look], turns: Sequence[Turn]
) -> str:
    """The conversation in the format of ``suffix``. Raises UsageError for another one."""
    match suffix.lower():
        case ".md":
            return _markdown(settings, looks, turns)
        case ".json":
            return _json(settings, looks, turns)
        case ".html" | ".htm":
            return _web_page(settings, looks, turns)
    raise UsageError(
        f"a conversation is saved as .md, .json or .html, not `{clean_name(suffix or 'that')}`",
        hint="`/save talk.md`",
    )


def _facts(look: Look) -> str:
    metadata = look.batch.metadata
    parts = [clean_name(look.source.name)]
    if look.moves:
        start, end = look.window or (0.0, metadata.duration_seconds)
        parts.append(f"{format_timestamp(start)} to {format_timestamp(end)}")
        parts.append(f"{len(look.batch)} frames")
    return ", ".join(parts)


def _markdown(settings: Settings, looks: Sequence[Look], turns: Sequence[Turn]) -> str:
    lines = ["# Conversation with " + _escaped(settings.model), ""]
    lines += [f"- {_escaped(_facts(look))}" for look in looks]
    for turn in turns:
        lines += ["", f"## {_escaped(clean_name(turn.question, 10_000))}", ""]
        if turn.text:
            lines.append(visible(turn.text, keep="\n\t"))
        if turn.outcome == "stopped":
            lines += ["", "*stopped*"]
        if turn.error is not None:
            lines += ["", f"*Error: {_escaped(visible(turn.error))}*"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Markdown that shows ``text`` as it is."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>()#+-!|" else char for char in text)


def _json(settings: Settings, looks: Sequence[Look], turns: Sequence[Turn]) -> str:
    content = {
        "conversation": KIND,
        "settings": settings_as_json(settings),
        "looks": [
            {
                "source": look.source.given,
                "name": look.source.name,
                "kind": look.source.kind,
                "url": look.source.url,
                "turn": min(look.turn, len(turns)),
                "window": look.window,
                "frame_times": look.batch.pts_seconds,
                "subtitles": look.subtitles,
            }
            for look in looks
        ],
        "turns": [asdict(turn) for turn in turns],
    }
    return json.dumps(content, indent=2) + "\n"


_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
.strip { display: flex; overflow-x: auto; gap: 4px; padding-bottom: .5rem; }
figure { margin: 0; text-align: center; font-size: .75rem; opacity: .85; }
h2 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { white-space: pre-wrap; margin: .25rem 0; }
.error { color: #c33; } .aside { opacity: .6; font-size: .85rem; }
a { color: inherit; }
"""


def _web_page(settings: Settings, looks: Sequence[Look], turns: Sequence[Turn]) -> str:
    title = f"Conversation with {html.escape(settings.model)}"
    # Nothing of the page runs or is fetched, whatever an answer says.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>",
    ]
    parts += [_strip(look) for look in looks]
    for turn in turns:
        parts.append(f"<h2>{html.escape(clean_name(turn.question, 10_000))}</h2>")
        if turn.text:
            parts.append(f"<p>{_linked(visible(turn.text, keep=chr(10)), looks)}</p>")
        if turn.outcome == "stopped":
            parts.append('<p class="aside">stopped</p>')
        if turn.error is not None:
            parts.append(f'<p class="error">{html.escape(visible(turn.error))}</p>')
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _strip(look: Look) -> str:
    figures = []
    for number, (image, seconds) in enumerate(
        zip(look.batch.images, look.batch.pts_seconds, strict=True)
    ):
        name = f"f{look.number}-{number}"
        caption = format_timestamp(seconds) if look.moves else str(number + 1)
        source = _jpeg(Image.fromarray(image), look)
        figures.append(
            f'<figure id="{name}"><img alt="{caption}" src="{source}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return (
        f'<p class="aside">{html.escape(_facts(look))}</p>'
        f'<div class="strip">{"".join(figures)}</div>'
    )


def _jpeg(picture: Image.Image, look: Look) -> str:
    metadata = look.batch.metadata
    squeezed = look.batch.geometry in ("official", "direct") and metadata.height > 0
    aspect = metadata.width / metadata.height if squeezed else picture.width / picture.height
    size = max(1, min(1000, round(_SHOWN_HEIGHT * aspect))), _SHOWN_HEIGHT
    encoded = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(encoded, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")


def _linked(text: str, looks: Sequence[Look]) -> str:
    """``text`` as HTML, its times leading to the frame of the last video."""
    look = next((look for look in reversed(looks) if look.moves), None)
    if look is None:
        return html.escape(text)
    done, parts = 0, []
    for moment in moments_in(text, look.batch.metadata.duration_seconds):
        frame = nearest_frame(look.batch.pts_seconds, moment.seconds)
        parts.append(html.escape(text[done : moment.start]))
        clock = html.escape(text[moment.start : moment.end])
        parts.append(f'<a href="#f{look.number}-{frame}">{clock}</a>')
        done = moment.end
    return "".join([*parts, html.escape(text[done:])])
