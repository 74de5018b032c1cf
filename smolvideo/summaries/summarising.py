"""One video that was looked at, answered: from its pieces to its record."""

from collections.abc import Iterator

from smolvideo.engines import Engine
from smolvideo.pipeline import Prepared
from smolvideo.progress import OnProgress, no_progress
from smolvideo.summaries.asking import run_asking
from smolvideo.summaries.composing import Composer
from smolvideo.summaries.looking import Opened, Piece
from smolvideo.summaries.record import SummaryRecord
from smolvideo.summaries.recording import Facts, made_record
from smolvideo.summaries.windows import Window


def summarise_pieces(
    facts: Facts,
    pieces: Iterator[Piece],
    engine: Engine,
    *,
    on_progress: OnProgress = no_progress,
) -> SummaryRecord:
    """The record of a video from the pieces that follow ``Found``.

    Raises what looking at it raises, ModelError where the device fails.
    """
    composer = Composer(facts.checkpoint, facts.options)
    opened = next(pieces)
    assert isinstance(opened, Opened)
    if opened.window_seconds is not None:
        asking = composer.windowed(piece for piece in pieces if isinstance(piece, Window))
    else:
        prepared = next(pieces)
        assert isinstance(prepared, Prepared)
        asking = composer.direct(prepared)
    composed = run_asking(engine, asking, on_progress=on_progress)
    return made_record(facts, opened, composed, engine)
