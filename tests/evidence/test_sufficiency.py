"""The frames that carry an answer: by real readings of nano, and the search by planted scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.project import ROOT

from smolvideo.answer import Answer, AnswerEvidence
from smolvideo.engines import NativeEngine, Session, load_engine
from smolvideo.errors import UsageError
from smolvideo.evidence import AnswerScores, FramePosition, explain_answer, frames_of_evidence
from smolvideo.evidence.sufficiency import MIN_KEPT
from smolvideo.network import SmolVLM
from smolvideo.pipeline import PreparedPrompt, load_frames, prepare, stream_answer
from smolvideo.sampling import FrameSampling

SHOTS = ROOT / "samples" / "three_shots.mp4"
CIRCLE = ROOT / "samples" / "circle_right.mp4"
FEW = FrameSampling(max_frames=24)


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    engine = load_engine("nano", device="cpu")
    assert isinstance(engine, NativeEngine)
    return engine


def asked(
    engine: NativeEngine, source: Path | Sequence[Path], question: str
) -> tuple[Session, PreparedPrompt, Answer]:
    paths = [str(source)] if isinstance(source, Path) else [str(path) for path in source]
    prepared = prepare(engine.checkpoint, paths, question, sampling=FEW)
    session = engine.open_session()
    return session, prepared, stream_answer(session, prepared).result()


def test_colour_question_points_into_the_right_shot_without_encoding_again(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, prepared, answer = asked(engine, SHOTS, "What colour is the star?")
    encoded: list[int] = []
    encode = SmolVLM.encode_images

    def counting(self: SmolVLM, pixels: Any) -> Any:
        encoded.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(SmolVLM, "encode_images", counting)
    scores = AnswerScores(session, engine.checkpoint, prepared, answer)
    evidence = explain_answer(scores)
    assert answer.text == "blue"
    assert evidence.verdict == "frames"
    best = evidence.frames[0]
    third = prepared.batches[0].metadata.duration_seconds / 3
    assert third * 0.8 < best.time < third * 2.2
    assert best.kept >= MIN_KEPT
    assert f"{best.kept:.0%}" in evidence.text
    assert sum(encoded) == 1  # a single grey frame
    assert evidence.readings <= 3
    (shown,) = frames_of_evidence(prepared.batches, evidence)
    assert sorted(shown.pts_seconds) == sorted(frame.time for frame in evidence.frames)


@pytest.mark.parametrize(
    ("source", "question"),
    [
        (SHOTS, "What comes first?"),
        (CIRCLE, "Which way does the circle move?"),
    ],
)
def test_order_and_motion_point_nowhere(engine: NativeEngine, source: Path, question: str) -> None:
    session, prepared, answer = asked(engine, source, question)
    evidence = explain_answer(AnswerScores(session, engine.checkpoint, prepared, answer))
    assert evidence.verdict in ("order", "many")
    assert evidence.frames == ()
    assert "no single frame" in evidence.text


def test_frame_of_the_right_source_is_named(engine: NativeEngine) -> None:
    session, prepared, answer = asked(engine, [CIRCLE, SHOTS], "What colour is the star?")
    evidence = explain_answer(AnswerScores(session, engine.checkpoint, prepared, answer))
    assert evidence.frames[0].source == 1
    assert "of source 2" in evidence.text


def test_pictures_are_named_by_their_number(engine: NativeEngine, tmp_path: Path) -> None:
    frames = load_frames(SHOTS, FrameSampling(max_frames=3)).images
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, frames, strict=True):
        Image.fromarray(image).save(path)
    session, prepared, answer = asked(engine, paths, "What colour is the circle?")
    evidence = explain_answer(AnswerScores(session, engine.checkpoint, prepared, answer))
    assert evidence.text.startswith("picture 1 alone keeps")
    assert evidence.frames[0].source == 0


def test_answer_without_text_has_no_evidence(engine: NativeEngine) -> None:
    session, prepared, answer = asked(engine, CIRCLE, "What moves?")
    empty = Answer(" ", "empty", answer.usage)
    with pytest.raises(UsageError, match="without text"):
        AnswerScores(session, engine.checkpoint, prepared, empty)


class PlantedScores:
    """Scores of an answer that any of the frames ``carriers`` carries."""

    def __init__(self, count: int, carriers: set[int], *, reversed_score: float = 1.0) -> None:
        self.positions = tuple(
            FramePosition(0, index, float(index), f"#{index}") for index in range(count)
        )
        self.carriers = carriers
        self.reversed_score = reversed_score
        self.frames_read = 0

    def all(self) -> float:
        return 0.9

    def blank(self, count: int) -> float:
        self.frames_read += count
        return 0.1

    def reordered(self, shown: Sequence[int], at: Sequence[int]) -> float:
        assert sorted(shown) == [*at]
        self.frames_read += len(shown)
        return self.reversed_score

    def group(self, places: Sequence[int]) -> float:
        self.frames_read += len(places)
        return 0.9 if self.carriers & set(places) else 0.1


def explain(scores: PlantedScores, **options: float) -> AnswerEvidence:
    return explain_answer(scores, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", range(1, 65))
def test_any_single_frame_is_found_within_the_budget(count: int) -> None:
    for carrier in range(count):
        scores = PlantedScores(count, {carrier})
        evidence = explain(scores)
        assert [frame.time for frame in evidence.frames] == [float(carrier)]
        assert scores.frames_read <= 3 * max(20, count)
        assert evidence.frames[0].kept == 1.0


@given(count=st.integers(2, 60), budget=st.floats(0, 4))
def test_budget_of_readings_is_kept(count: int, budget: float) -> None:
    scores = PlantedScores(count, {count // 2})
    explain(scores, max_readings=budget)
    assert scores.frames_read <= max(1.0, budget) * max(20, count)


def test_answer_that_no_group_carries_names_no_frame() -> None:
    assert explain(PlantedScores(40, set())).verdict == "many"
    assert explain(PlantedScores(40, {3}, reversed_score=0.1)).verdict == "order"


class GradedScores(PlantedScores):
    """Pairs of frames score alike; of single frames the later ones score higher."""

    def group(self, places: Sequence[int]) -> float:
        super().group(places)
        return 0.8 + 0.004 * places[0] if len(places) == 1 else 0.9 - 0.001 * places[0]


def test_best_frame_comes_first_though_its_group_did_not() -> None:
    kept = [frame.kept for frame in explain(GradedScores(24, set())).frames]
    assert len(kept) > 1
    assert kept == sorted(kept, reverse=True)
