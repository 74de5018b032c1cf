"""The answer as it is made, and the one line of what it cost."""

from collections.abc import Callable, Mapping

from rich.text import Text

from smolvideo.answer import Answer, AnswerStream, Usage
from smolvideo.show.console import Screen
from smolvideo.show.text import format_bytes, format_count, format_seconds, visible

STAGES_IN_FOOTER = ("download", "decode", "load", "encode", "read", "answer")


def stream_answer(
    screen: Screen, stream: AnswerStream, *, before_first: Callable[[], None] = lambda: None
) -> Answer:
    """Write the pieces to stdout as they come, ended by a new line; the whole answer comes back.

    Control characters are written as escapes: a model must never steer the terminal.
    ``before_first`` is called before anything is written, to clear the screen of progress.
    """
    begun = False
    try:
        for piece in stream:
            if not begun:
                before_first()
                begun = True
            screen.write(visible(piece, keep="\n\t"))
    finally:
        if begun:
            screen.write("\n")
    if not begun:
        before_first()
        screen.write("\n")
    return stream.result()


def show_footer(screen: Screen, usage: Usage, seconds: Mapping[str, float]) -> None:
    """One line on stderr where somebody watches, or asked to be told more."""
    if not (screen.watched or screen.verbose):
        return
    text = Text(footer(usage, seconds), "dim")
    screen.err.print(text, soft_wrap=not screen.err.is_terminal)


def footer(usage: Usage, seconds: Mapping[str, float]) -> str:
    """``8 frames · 612 of 2048 tokens · decode 0.4 s · … · 41 tokens/s · peak 812 MB``."""
    parts = [format_count(usage.frames, "frame")] if usage.frames else []
    used = usage.prompt_tokens + usage.answer_tokens
    parts.append(f"{used} of {usage.context_tokens} tokens")
    parts += [
        f"{stage} {format_seconds(seconds[stage])}"
        for stage in STAGES_IN_FOOTER
        if stage in seconds
    ]
    if usage.tokens_per_second is not None:
        parts.append(f"{usage.tokens_per_second:.0f} tokens/s")
    if usage.peak_memory_bytes is not None:
        parts.append(f"peak {format_bytes(usage.peak_memory_bytes)}")
    return " · ".join(parts)
