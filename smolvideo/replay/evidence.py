"""Replay of ``ask --why`` and ``--check``: the frames that carry an answer, and its controls."""

from smolvideo.answer import Answer, AnswerCheck, AnswerEvidence
from smolvideo.engines import Engine, Session
from smolvideo.evidence import (
    AnswerPrompt,
    AnswerScores,
    check_answer,
    explain_answer,
)
from smolvideo.pipeline import PreparedPrompt
from smolvideo.records import AnswerRecord
from smolvideo.replay.comparison import Comparison

_TOLERANCE = 1e-3
"""Of scores and shares: they are equal to the bit where the arithmetic is."""


def compare_evidence(
    found: Comparison,
    record: AnswerRecord,
    prepared: PreparedPrompt,
    answer: Answer,
    engine: Engine,
    session: Session | None,
    answer_prompt: AnswerPrompt,
) -> None:
    """Find the frames that carry ``answer``, and ask with other frames, as far as ``record`` has
    either.

    ``session`` holds the frames of ``prepared``; without one the frames that carry the answer are
    not compared. Raises ModelError where the device fails.
    """
    if record.evidence is not None and session is not None:
        scores = AnswerScores(session, engine.checkpoint, prepared, answer)
        _compare_why(found, record.evidence, explain_answer(scores))
    if record.check is not None:
        again = check_answer(answer_prompt, engine.checkpoint, prepared, answer)
        compare_check(found, record.check, again)


def _compare_why(found: Comparison, before: AnswerEvidence, now: AnswerEvidence) -> None:
    names = ("verdict", "text")
    for name, key in zip(("why", "sentence of the evidence"), names, strict=True):
        found.values("evidence", {name: getattr(before, key)}, {name: getattr(now, key)})
    places = [
        [(frame.source, round(frame.time, 3)) for frame in one.frames] for one in (before, now)
    ]
    if places[0] != places[1]:
        times = [", ".join(f"{time} s" for _, time in one) or "none" for one in places]
        text = f"the frames that carry the answer were {times[0]}, and are {times[1]}"
        found.differs("evidence", text, *times)
        return
    pairs = [
        ("score", before.score, now.score),
        ("score with grey frames", before.blank_score, now.blank_score),
        *(
            (f"share of the score that the frame at {one.time} s keeps", one.kept, other.kept)
            for one, other in zip(before.frames, now.frames, strict=True)
        ),
    ]
    for name, recorded, computed in pairs:
        if abs(recorded - computed) > _TOLERANCE:
            text = f"the {name} was {recorded:.4f}, and is {computed:.4f}"
            found.differs("evidence", text, recorded, computed)
            return


def compare_check(found: Comparison, before: AnswerCheck, now: AnswerCheck) -> None:
    """Compare the verdict and the answers with other frames."""
    names = {
        "check": "verdict",
        "answer with grey frames": "blind",
        "answer with shuffled frames": "shuffled",
        "answer half a step later": "shifted",
        "depends on the order": "depends_on_order",
        "sentence of the check": "text",
    }
    found.values(
        "evidence",
        {name: getattr(before, key) for name, key in names.items()},
        {name: getattr(now, key) for name, key in names.items()},
    )
