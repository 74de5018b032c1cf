"""Heartbeat: long loops of a reader report progress, so that a hang can be told from slow work.

In the decoder subprocess each beat is forwarded to the client, which kills a decoder without beats.
"""

from collections.abc import Callable

_tell: Callable[[], None] | None = None


def beat() -> None:
    """Report progress: a packet was read or a frame decoded. Cheap, and thread safe."""
    if _tell is not None:
        _tell()


def on_beat(tell: Callable[[], None]) -> None:
    """Register the callback for all beats of this process."""
    global _tell
    _tell = tell
