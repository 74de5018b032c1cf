"""Summarise one decoded video: from the loader's parts to the record."""

from collections.abc import Iterator

from smolvideo.engines import Engine
from smolvideo.pipeline import PreparedPrompt
from smolvideo.progress import OnProgress, no_progress
from smolvideo.summaries.inference import drive
from smolvideo.summaries.loader import LoadedPart, ProbedVideo
from smolvideo.summaries.record import SummaryRecord
from smolvideo.summaries.recording import RecordContext, summary_record
from smolvideo.summaries.summariser import Summariser
from smolvideo.summaries.windows import Window


def summarise_pieces(
    facts: RecordContext,
    pieces: Iterator[LoadedPart],
    engine: Engine,
    *,
    on_progress: OnProgress = no_progress,
) -> SummaryRecord:
    """Return the record of a video from the loader's parts after ``IdentifiedSource``.

    Raises as ``VideoLoader.load``, and ModelError where the device fails.
    """
    composer = Summariser(facts.checkpoint, facts.options)
    opened = next(pieces)
    assert isinstance(opened, ProbedVideo)
    if opened.window_seconds is not None:
        asking = composer.map_reduce(piece for piece in pieces if isinstance(piece, Window))
    else:
        prepared = next(pieces)
        assert isinstance(prepared, PreparedPrompt)
        asking = composer.summarise_whole(prepared)
    composed = drive(engine, asking, on_progress=on_progress)
    return summary_record(facts, opened, composed, engine)
