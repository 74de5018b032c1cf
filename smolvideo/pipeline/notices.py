"""Notices: what the user must know besides the answer.

They belong to what they are about: ``Prepared.notices``, and from there ``Answer.notices``, turns
and records. Commands show them; none is made only to be shown.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from smolvideo.frames import FrameBatch
from smolvideo.models import Checkpoint

NANO_NOTICE = (
    "nano is a small model trained on drawn scenes; for real footage use `--model smolvlm2-256m`"
)
_MAX_WORDS = 3
"""Of the words that a model was never taught, so many are named."""


def notices_for_model(checkpoint: Checkpoint, batches: Iterable[FrameBatch]) -> Iterator[str]:
    """What nano makes of real footage, where there is some among ``batches``."""
    if checkpoint.is_nano and any(not batch.metadata.is_synthetic for batch in batches):
        yield NANO_NOTICE


def notices_of_frames(batches: Sequence[FrameBatch]) -> Iterator[str]:
    """What reading and choosing the frames gave rise to."""
    for batch in batches:
        yield from batch.warnings
    yield from (batch.selection_note for batch in batches if batch.selection_note)


def unknown_word_notices(question: str, checkpoint: Checkpoint) -> Iterator[str]:
    """What a model that was taught few words, as nano was, cannot make of the question."""
    known = checkpoint.training_vocabulary
    if known is None:
        return
    asked = dict.fromkeys(re.findall(r"[^\W\d_]+", question.lower()))
    foreign = [word for word in asked if word not in known]
    if foreign:
        named = ", ".join(f"`{word}`" for word in foreign[:_MAX_WORDS])
        more = ", …" if len(foreign) > _MAX_WORDS else ""
        yield (
            f"nano knows the words of its drawn world, and not {named}{more}: "
            "its answer may mean nothing"
        )
