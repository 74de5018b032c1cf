"""What is worth saying to a person besides the answer."""

from collections.abc import Iterable, Iterator, Sequence

from smolvideo.frames import FrameBatch

NANO_NOTICE = (
    "nano is a small model trained on drawn scenes; for real footage use `--model smolvlm2-256m`"
)


def notices_for(
    batches: Sequence[FrameBatch], notices: Iterable[str], *, nano: bool
) -> Iterator[str]:
    """``notices``, and before them what ``nano`` (a model of that layout) makes of real footage."""
    if nano and any(not batch.metadata.is_drawn for batch in batches):
        yield NANO_NOTICE
    yield from notices
