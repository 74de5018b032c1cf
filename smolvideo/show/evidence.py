"""The frames that carry an answer in the terminal: a filmstrip of them, and what was found."""

from collections.abc import Sequence

from smolvideo.answer import AnswerEvidence
from smolvideo.evidence import frames_of_evidence
from smolvideo.frames import FrameBatch
from smolvideo.models import PromptFormat
from smolvideo.show.console import Output
from smolvideo.show.filmstrip import FilmstripChoice, show_filmstrip


def show_evidence(
    screen: Output,
    batches: Sequence[FrameBatch],
    evidence: AnswerEvidence,
    filmstrip: FilmstripChoice = "auto",
    *,
    layout: PromptFormat | None = None,
) -> None:
    """Show the frames of ``evidence`` among ``batches`` on stderr, and what was found as a
    notice."""
    carrying = frames_of_evidence(batches, evidence)
    if carrying and not screen.quiet:
        show_filmstrip(screen, carrying, filmstrip, layout=layout)
    screen.notice(f"why: {evidence.text}", requested=True)
