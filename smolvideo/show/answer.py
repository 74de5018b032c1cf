"""Streaming of the answer to stdout, wrapped between words, and the footer with its cost."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from rich.cells import cell_len
from rich.text import Text

from smolvideo.answer import Answer, AnswerStream, Usage
from smolvideo.engines import Engine, format_dtype
from smolvideo.formatting import format_bytes, format_count, format_seconds
from smolvideo.pipeline import PreparedPrompt, effective_settings
from smolvideo.sanitize import escape_controls
from smolvideo.show.console import Output


class WordWrap:
    """Breaks text between words for a terminal of ``width`` cells, which would break within them.

    A word is buffered until its end is known; a word wider than a line is left to the terminal.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._blanks = ""
        self._word = ""

    def wrap(self, piece: str) -> str:
        """Add ``piece`` and return the text that can be printed now."""
        shown = ""
        for char in piece:
            if char == "\n":
                shown += self.flush() + char
                self._column, self._blanks = 0, ""
            elif char.isspace():
                shown += self.flush()
                self._blanks += " "  # the terminal alone knows the width of a tab
            else:
                # Chinese and Japanese may break anywhere, and have no spaces to wait for.
                is_wide = cell_len(char) > 1
                if is_wide:
                    shown += self.flush()
                self._word += char
                if is_wide or cell_len(self._word) >= self._width:
                    shown += self.flush()
        return shown

    def flush(self) -> str:
        """Return the buffered word, after its spaces or on a new line."""
        if not self._word:
            return ""
        before, word = self._blanks, self._word
        self._blanks = self._word = ""
        if self._column and self._column + cell_len(before + word) > self._width:
            before, self._column = "\n", 0
        self._column += cell_len(before.removeprefix("\n") + word)
        return before + word


_BETWEEN = " · "
STAGES_IN_FOOTER = ("download", "decode", "load", "encode", "prefill", "generate")


def stream_answer(
    screen: Output, stream: AnswerStream, *, before_first: Callable[[], None] = lambda: None
) -> Answer:
    """Write the answer to stdout as it streams, like ``stream_pieces``; return it complete."""
    if not stream_pieces(screen, stream, before_first=before_first):
        before_first()
        screen.write("\n")
    return stream.result()


def stream_pieces(
    screen: Output, pieces: Iterable[str], *, before_first: Callable[[], None] = lambda: None
) -> bool:
    """Write the pieces to stdout as they come, then a newline. Return False if there were none.

    Control characters are written as escapes: a model must never control the terminal. In a
    terminal lines break between words. ``before_first`` is called before anything is written, to
    clear the progress display.
    """
    lines = WordWrap(screen.out.width) if screen.out.is_terminal else None
    begun = False
    try:
        for piece in pieces:
            if not begun:
                before_first()
                begun = True
            shown = escape_controls(piece, allowed="\n\t")
            screen.write(lines.wrap(shown) if lines else shown)
    finally:
        if begun:
            screen.write((lines.flush() if lines else "") + "\n")
    return begun


def show_footer(
    screen: Output,
    usage: Usage,
    seconds: Mapping[str, float],
    *,
    frames: int | None = None,
    dropped: int = 0,
) -> None:
    """Print the footer on stderr if it is interactive; with ``--verbose`` in full, anywhere.

    ``frames`` is the number of frames for the user, if some were cut into tiles; ``dropped`` counts
    frames that the strategy left out because they show nothing new.
    """
    line = partial(footer, usage, seconds, frames=frames, dropped=dropped)
    if screen.verbose:
        screen.err.print(Text(line(), "dim"), soft_wrap=not screen.err.is_terminal)
    elif screen.is_interactive:
        screen.err.print(Text(line(width=screen.err.width), "dim"))


def footer(
    usage: Usage,
    seconds: Mapping[str, float],
    *,
    frames: int | None = None,
    dropped: int = 0,
    width: int | None = None,
) -> str:
    """``8 frames · 612 of 2048 tokens · decode 0.4 s · … · 41 tokens/s · peak 812 MB``.

    In ``width`` columns the parts are added by importance as long as they fit: the context, the
    slowest stage, speed and memory, then the other stages by their time.
    """
    stages = [stage for stage in STAGES_IN_FOOTER if stage in seconds]
    speed, memory = usage.tokens_per_second, usage.peak_memory_bytes
    parts = {
        "frames": _frames(usage, usage.frames if frames is None else frames, dropped),
        "tokens": f"{usage.prompt_tokens + usage.answer_tokens} of {usage.context_tokens} tokens",
        **{stage: f"{stage} {format_seconds(seconds[stage])}" for stage in stages},
        "speed": f"{speed:.0f} tokens/s" if speed is not None else "",
        "memory": f"peak {format_bytes(memory)}" if memory is not None else "",
    }
    slowest, *others = sorted(stages, key=lambda stage: -seconds[stage]) or [""]
    kept: list[str] = []
    for name in ("frames", "tokens", slowest, "speed", "memory", *others):
        longer = [part for part in parts if part in (*kept, name) and parts[part]]
        line = _BETWEEN.join(parts[part] for part in longer)
        if width is None or not kept or len(line) <= width:
            kept = longer
    return _BETWEEN.join(parts[part] for part in kept)


def _frames(usage: Usage, frames: int, dropped: int) -> str:
    """``50 frames``, ``2 frames, 48 dropped``, ``50 frames, all from the cache``."""
    if not frames:
        return ""
    words = format_count(frames, "frame")
    if dropped:
        words += f", {dropped} dropped"
    if not usage.frames_from_cache:
        return words
    if usage.frames_from_cache == usage.frames:
        return f"{words}, all from the cache"
    # Some tiles of a frame may be cached and others not: then tiles are counted.
    of = "" if frames == usage.frames else f" of {usage.frames} tiles"
    return f"{words}, {usage.frames_from_cache}{of} from the cache"


def show_settings(screen: Output, prepared: PreparedPrompt, engine: Engine) -> None:
    """With ``--verbose``, show the effective settings and the prompt."""
    if not screen.verbose:
        return
    checkpoint = engine.checkpoint
    revision = f" at {checkpoint.revision[:12]}" if checkpoint.revision else ""
    if checkpoint.adapter_sha256 is not None:
        revision += f" with adapter {checkpoint.adapter_sha256[:12]}"
    settings = effective_settings(
        prepared.sampling, prepared.prompt_options, prepared.generation, prepared.reader
    )
    settings |= {"layout": prepared.prompt.layout, "geometry": prepared.prompt.geometry}
    lines = [
        f"model: {checkpoint.name}{revision}, {engine.name} on {engine.device} in "
        + format_dtype(engine.dtype, engine.quantize, engine.arithmetic),
        "settings: " + ", ".join(f"{name}={value}" for name, value in settings.items()),
        f"prompt: {prepared.prompt.text}",
    ]
    for line in lines:
        screen.err.print(Text(escape_controls(line, allowed="\n\t"), "dim"), soft_wrap=True)
