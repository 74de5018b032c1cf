"""The frames that carry an answer in the terminal: a filmstrip of them, and what was found."""

from smolvideo.answer import AnswerEvidence
from smolvideo.evidence import frames_of_evidence
from smolvideo.pipeline import PreparedPrompt
from smolvideo.show.console import Output
from smolvideo.show.filmstrip import FilmstripChoice, show_filmstrip


def show_evidence(
    screen: Output,
    prepared: PreparedPrompt,
    evidence: AnswerEvidence,
    filmstrip: FilmstripChoice = "auto",
) -> None:
    """Show the frames of ``evidence`` on stderr, and what was found as a notice."""
    batches = frames_of_evidence(prepared, evidence)
    if batches and not screen.quiet:
        show_filmstrip(screen, batches, filmstrip, layout=prepared.prompt.layout)
    screen.notice(f"why: {evidence.text}", requested=True)
