"""How the core says what it is doing: it calls back, it never prints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["download", "load", "decode", "encode", "read", "answer"]
"""The stages of one answer, in their order.

download  the source or the checkpoint comes over the network (unit: bytes)
load      the checkpoint's weights come into memory (no count)
decode    frames are read from the video (unit: frames)
encode    the vision tower turns frames into tokens (unit: frames)
read      the decoder reads the prompt, up to the first token (no count)
answer    tokens are generated (unit: tokens)
"""


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of one stage; ``total`` is None while nobody knows it.

    ``label`` names what is worked on when that is not obvious: a file name, a checkpoint.
    """

    stage: Stage
    done: float = 0
    total: float | None = None
    label: str = ""


OnProgress = Callable[[Progress], None]
"""Called often and from the thread that works; must be quick and raise nothing but ``Cancelled``.
"""


class Cancelled(BaseException):
    """Raised by an ``OnProgress`` to end the work between two steps, because a person wants it so.

    No ``Exception``: nothing on the way may take it for a failure.
    """


def no_progress(_: Progress) -> None:
    """The callback of those who do not watch."""
