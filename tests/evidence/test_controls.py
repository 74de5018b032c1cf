"""Controls of an answer: grey, shuffled and shifted frames, and when two answers are the same."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.project import ROOT

from smolvideo.answer import AnswerCheck
from smolvideo.engines import NativeEngine, load_engine
from smolvideo.evidence import check_answer, is_same_answer
from smolvideo.evidence.controls import SHUFFLE_SEED
from smolvideo.evidence.other_frames import shifted_times, shuffle_frames
from smolvideo.frames import FrameBatch, VideoMetadata
from smolvideo.pipeline import prepare, stream_answer
from smolvideo.sampling import FrameSampling

SHOTS = ROOT / "samples" / "three_shots.mp4"
CIRCLE = ROOT / "samples" / "circle_right.mp4"


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    engine = load_engine("nano", device="cpu")
    assert isinstance(engine, NativeEngine)
    return engine


def checked(engine: NativeEngine, source: Path, question: str) -> AnswerCheck:
    sampling = FrameSampling(max_frames=16)
    prepared = prepare(engine.checkpoint, str(source), question, sampling=sampling)
    session = engine.open_session()
    answer = stream_answer(session, prepared).result()
    return check_answer(
        lambda prompt: session.open_with(prompt.images).stream(prompt).result(),
        engine.checkpoint,
        prepared,
        answer,
    )


def test_colour_stands_and_motion_depends_on_the_order(engine: NativeEngine) -> None:
    colour = checked(engine, SHOTS, "What colour is the star?")
    assert (colour.verdict, colour.depends_on_order) == ("stands", False)
    assert colour.shifted == "blue"
    assert colour.blind in colour.text
    motion = checked(engine, CIRCLE, "Which way does the circle move?")
    assert (motion.verdict, motion.depends_on_order) == ("stands", True)
    assert "depends on their order" in motion.text


def test_absence_that_grey_frames_say_too_is_blind(engine: NativeEngine) -> None:
    check = checked(engine, CIRCLE, "Is there a yellow cross?")
    assert check.verdict == "blind"
    assert "does not need the frames" in check.text


def test_held_frames_are_not_encoded_again(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(
        engine.checkpoint, str(CIRCLE), "What?", sampling=FrameSampling(max_frames=6)
    )
    images = prepared.prompt.images
    session = engine.open_session()
    session.encode(images)
    counted: list[int] = []
    encode = engine.network.encode_images
    monkeypatch.setattr(
        engine.network,
        "encode_images",
        lambda pixels: [counted.append(len(pixels)), encode(pixels)][1],
    )
    grey = np.full_like(images[:3], 128)
    mixed = np.concatenate((images[::-1], grey))
    other = session.open_with(mixed)
    assert sum(counted) == 1  # one grey frame: the others are held, or equal to it
    assert other._features is not None
    assert session._features is not None
    assert bool((other._features[:6] == session._features.flip(0)).all())
    assert bool((other._features[6] == other._features[8]).all())


@pytest.mark.parametrize(
    ("one", "other", "step", "same"),
    [
        ("Red.", "red", 0.0, True),
        ("red", "blue", 0.0, False),
        ("at 00:05", "at 00:06", 0.5, True),
        ("at 00:05", "at 00:08", 0.5, False),
        ("1:02:03", "1:02:04", 0.0, True),
        ("A man walks his dog in the park.", "A man walks a dog in the park.", 0.0, True),
        ("A man walks his dog in the park.", "A red circle on a grey background.", 0.0, False),
        ("yes", "", 0.0, False),
    ],
)
def test_answers_are_compared_by_words_and_times(
    one: str, other: str, step: float, same: bool
) -> None:
    assert is_same_answer(one, other, step_seconds=step) is same


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_texts_can_be_compared(one: str, other: str) -> None:
    assert is_same_answer(one, one)
    assert is_same_answer(one, other) == is_same_answer(other, one)


def batch(times: list[float], kind: str = "video", seconds: float = 10.0) -> FrameBatch:
    images = np.arange(len(times) * 3, dtype=np.uint8).reshape(-1, 1, 1, 3)
    metadata = VideoMetadata(1, 1, seconds, kind=kind)  # type: ignore[arg-type]
    return FrameBatch(images, tuple(times), metadata)


def test_shifted_times_are_half_a_step_later_within_the_video() -> None:
    assert shifted_times(batch([0.0, 4.0, 8.0])) == [2.0, 6.0, 10.0]
    assert shifted_times(batch([0.0, 5.0, 10.0])) == [2.5, 7.5, 10.0]
    assert shifted_times(batch([3.0])) is None
    assert shifted_times(batch([0.0, 1.0], kind="frames")) is None


def test_shuffled_frames_are_in_another_order() -> None:
    for count in range(2, 51):
        frames = batch([float(time) for time in range(count)])
        shuffled = shuffle_frames(frames, SHUFFLE_SEED)
        assert not np.array_equal(shuffled.images, frames.images), count
        assert shuffled.pts_seconds == frames.pts_seconds
