"""What is worth saying to a person besides the answer."""

import re
from collections.abc import Iterable, Iterator, Sequence

from smolvideo.frames import FrameBatch
from smolvideo.models import Checkpoint

NANO_NOTICE = (
    "nano is a small model trained on drawn scenes; for real footage use `--model smolvlm2-256m`"
)
_MOST_WORDS = 3
"""Of the words that a model was never taught, so many are named."""


def notices_for(
    batches: Sequence[FrameBatch], notices: Iterable[str], *, nano: bool
) -> Iterator[str]:
    """``notices``, and before them what ``nano`` (a model of that layout) makes of real footage."""
    if nano and any(not batch.metadata.is_drawn for batch in batches):
        yield NANO_NOTICE
    yield from notices


def notices_about(question: str, checkpoint: Checkpoint) -> Iterator[str]:
    """What a model that was taught few words, as nano was, cannot make of the question."""
    known = checkpoint.known_words
    if known is None:
        return
    asked = dict.fromkeys(re.findall(r"[^\W\d_]+", question.lower()))
    foreign = [word for word in asked if word not in known]
    if foreign:
        named = ", ".join(f"`{word}`" for word in foreign[:_MOST_WORDS])
        more = ", …" if len(foreign) > _MOST_WORDS else ""
        yield (
            f"nano knows the words of its drawn world, and not {named}{more}: "
            "its answer may mean nothing"
        )
