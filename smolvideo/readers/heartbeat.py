"""Signs of life: every loop of a reader that may take long says that it still moves.

In the decoding process each sign travels to the program, which ends a decoder that stands still.
"""

from collections.abc import Callable

_tell: Callable[[], None] | None = None


def beat() -> None:
    """Something moved: a packet was read, a frame was decoded. Cheap, and safe in any thread."""
    if _tell is not None:
        _tell()


def on_beat(tell: Callable[[], None]) -> None:
    """From now on ``tell`` hears of every sign of life in this process."""
    global _tell
    _tell = tell
