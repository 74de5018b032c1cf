"""Cues: one line of text with its display interval; removal of rolling repeats, and selection."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from smolvideo.times import format_timestamp

_TOUCHING = 0.1
"""Maximum gap in seconds between two texts that replace each other on screen."""


@dataclass(frozen=True)
class Cue:
    """One line of text (no line breaks, no markup), and when it is shown, in seconds."""

    start_seconds: float
    end_seconds: float
    text: str


Block = tuple[float, float, list[str]]
"""Start and end in seconds, and the cleaned lines of a cue."""


def without_repeats(blocks: Iterable[Block]) -> Iterator[Cue]:
    """Yield cues by time, without the lines that the cue before still shows.

    Roll-up captions repeat the last lines of the previous text above each new one.
    """
    previous: Cue | None = None
    shown: list[str] = []
    for start, end, lines in sorted(blocks, key=lambda block: block[:2]):
        touches = previous is not None and start <= previous.end_seconds + _TOUCHING
        new_lines = lines[_rolled(shown, lines) :] if touches else lines
        if previous is not None and not new_lines:
            previous = replace(previous, end_seconds=max(end, previous.end_seconds))
            shown = lines
            continue
        if previous is not None:
            yield previous
        previous, shown = Cue(start, end, " ".join(new_lines)), lines
    if previous is not None:
        yield previous


def _rolled(shown: Sequence[str], lines: Sequence[str]) -> int:
    """Return how many of the first ``lines`` repeat the last of the lines ``shown`` before."""
    for count in range(min(len(shown), len(lines)), 0, -1):
        if list(shown[-count:]) == list(lines[:count]):
            return count
    return 0


def cues_near(
    cues: Sequence[Cue], pts_seconds: Sequence[float], *, within_seconds: float = 1.0
) -> list[Cue]:
    """Return the cues on screen at one of the times, or at most ``within_seconds`` before or after.

    In the order of ``cues``, each once; ``pts_seconds`` may be in any order.
    """
    times = sorted(pts_seconds)

    def is_near(cue: Cue) -> bool:
        first = bisect_left(times, cue.start_seconds - within_seconds)
        return first < len(times) and times[first] <= cue.end_seconds + within_seconds

    return [cue for cue in cues if is_near(cue)]


def cues_within(cues: Sequence[Cue], most_characters: int) -> list[Cue]:
    """Subsample the cues evenly until their formatted text fits into ``most_characters``."""
    chosen = list(cues)
    while chosen and len(format_cues(chosen)) > most_characters:
        share = most_characters / len(format_cues(chosen))
        count = min(len(chosen) - 1, max(1, int(share * len(chosen))) if len(chosen) > 1 else 0)
        chosen = [chosen[int(index * len(chosen) / count)] for index in range(count)]
    return chosen


def format_cues(cues: Iterable[Cue]) -> str:
    """Format one cue per line, with its start time: ``01:15 Where is the red ball?``."""
    return "\n".join(f"{format_timestamp(cue.start_seconds)} {cue.text}" for cue in cues)
