"""Notices: warnings about model, frames and question that accompany an answer.

They are stored in ``PreparedPrompt.notices`` and copied to ``Answer.notices``, turns and records,
from which the commands show them; no notice exists on the screen alone.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from smolvideo.errors import ModelError
from smolvideo.frames import FrameBatch
from smolvideo.models import Checkpoint

NANO_NOTICE = (
    "nano is a small model trained on drawn scenes; for real footage use `--model smolvlm2-256m`"
)
_MAX_WORDS = 3
"""Maximum number of unknown words that a notice lists."""


def notices_for_model(checkpoint: Checkpoint, batches: Iterable[FrameBatch]) -> Iterator[str]:
    """Warn about nano on real footage, if ``batches`` hold any that is not synthetic.

    Raises ModelError if nano was not named: ``auto`` chose it for drawn videos alone.
    """
    if checkpoint.is_nano and any(not batch.metadata.is_synthetic for batch in batches):
        if checkpoint.model_reason is not None:
            raise ModelError(
                "nano was chosen for drawn videos, and this is other footage",
                hint="name a model for it: `--model smolvlm2-256m`",
            )
        yield NANO_NOTICE


def notices_of_frames(batches: Sequence[FrameBatch]) -> Iterator[str]:
    """Yield the warnings of decoding and the notes of frame selection."""
    for batch in batches:
        yield from batch.warnings
    yield from (batch.selection_note for batch in batches if batch.selection_note)


def unknown_word_notices(question: str, checkpoint: Checkpoint) -> Iterator[str]:
    """Warn about words of the question outside the model's training vocabulary (nano)."""
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
