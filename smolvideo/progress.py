"""Progress callbacks of the core, which never prints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal[
    "download", "convert", "measure", "compile", "load", "decode", "encode", "prefill", "generate",
    "explain", "check", "find",
]  # fmt: skip
"""The stages of one answer, in order, and of a search.

download  of the source or the checkpoint (unit: bytes)
convert   of the checkpoint's weights to another dtype (unit: bytes)
measure   of the machine's rates, for a prediction (no count)
compile   of kernels for this processor, once, while other stages are at work (no count)
load      of the checkpoint's weights into memory (no count)
decode    of video frames (unit: frames)
encode    of frames to visual tokens by the vision tower (unit: frames)
prefill   of the prompt by the decoder, up to the first token (no count)
generate  of tokens (unit: tokens)
explain   of the answer, by readings of groups of its frames (unit: frames)
check     of the answer, by the same question with other frames (unit: controls)
find      of moments that show a query (unit: windows)
"""


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of one stage; ``total`` is None while it is unknown.

    ``label`` names the item if it is not obvious: a file name, a checkpoint.
    """

    stage: Stage
    done: float = 0
    total: float | None = None
    label: str = ""


OnProgress = Callable[[Progress], None]
"""Called frequently from the working thread; must return quickly and raise nothing but
``Cancelled``."""


class Cancelled(BaseException):
    """Raised by an ``OnProgress`` callback to cancel the work at the user's request.

    Not an ``Exception``, so that no handler takes it for a failure.
    """


def no_progress(_: Progress) -> None:
    """The callback that ignores progress."""
