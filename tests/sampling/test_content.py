"""Sampling strategies that compare images: scenes, changes, key frames."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import clipmaker

from smolvideo.errors import UsageError
from smolvideo.frames import Images
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, choose_times, sample_frames
from smolvideo.sampling.options import Strategy, subsample
from smolvideo.sampling.scene_detection import (
    Thumbnails,
    key_frames_within,
    select_changes,
    select_scenes,
)

FPS = 10


def plain(level: int) -> Images:
    return np.full((96, 128, 3), level, np.uint8)


@pytest.fixture(scope="module")
def three_shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 2 s dark, 3 s light, 1 s grey, without motion within a shot."""
    images = [plain(20)] * 20 + [plain(220)] * 30 + [plain(120)] * 10
    path = tmp_path_factory.mktemp("shots") / "shots.mp4"
    return clipmaker.write_clip(path, clipmaker.evenly(60, FPS), images=images).path


def test_scenes_take_one_frame_of_each_static_shot(three_shots: Path) -> None:
    with open_video(three_shots) as video:
        batch = sample_frames(video, FrameSampling(strategy="scenes"))
    assert len(batch) == 3
    first, second, third = batch.pts_seconds
    assert first < 2 <= second < 5 <= third
    assert batch.num_dropped == 47
    assert "3 shots" in batch.selection_note
    assert "47 of 50 frames dropped" in batch.selection_note


def test_changes_skip_repeated_frames(three_shots: Path) -> None:
    with open_video(three_shots) as video:
        batch = sample_frames(video, FrameSampling(strategy="changes"))
        assert [round(float(image.mean()), -1) for image in batch.images] == [20, 220, 120]
        later = sample_frames(video, FrameSampling(strategy="changes", start_seconds=3.0))
    assert len(later) == 2


def test_static_video_gives_one_frame(tmp_path: Path) -> None:
    path = clipmaker.write_clip(
        tmp_path / "still.mp4", clipmaker.evenly(50, FPS), images=[plain(90)] * 50
    ).path
    with open_video(path) as video:
        for strategy in ("scenes", "changes"):
            assert len(sample_frames(video, FrameSampling(strategy=strategy))) == 1  # type: ignore[arg-type]


def test_budget_is_spent_where_the_picture_changes(tmp_path: Path) -> None:
    still = [plain(90)] * 60
    moving = [np.roll(clipmaker.numbered_image(number), 3 * number, 1) for number in range(60)]
    path = clipmaker.write_clip(
        tmp_path / "late.mp4", clipmaker.evenly(120, FPS), images=[*still, *moving]
    ).path
    with open_video(path) as video:
        times = choose_times(video, FrameSampling(max_frames=8, strategy="changes"))
    assert 2 < len(times) <= 8
    assert sum(time >= 5.9 for time in times) >= len(times) - 1


@pytest.mark.parametrize("strategy", ["scenes", "changes", "keyframes"])
@pytest.mark.parametrize(("start", "end"), [(None, 1.5), (None, 4.0), (2.5, 4.0), (2.5, None)])
def test_chosen_frames_are_inside_the_window(
    three_shots: Path, strategy: Strategy, start: float | None, end: float | None
) -> None:
    sampling = FrameSampling(strategy=strategy, start_seconds=start, end_seconds=end, max_frames=8)
    with open_video(three_shots) as video:
        times = sample_frames(video, sampling).pts_seconds
    assert times
    assert min(times) >= (start or 0.0) - 1 / FPS
    assert max(times) <= (end or 6.0)
    # Shots at 0 to 2, 2 to 5 and 5 to 6 s.
    first, last = start or 0.0, end or 6.0
    shots = sum(first < upper and last > lower for lower, upper in ((0, 2), (2, 5), (5, 6)))
    if strategy != "keyframes":
        assert len({(time >= 2) + (time >= 5) for time in times}) == shots


def test_window_without_key_frames_takes_the_frame_on_screen() -> None:
    keys = [0.0, 2.0, 4.0, 8.0]
    assert key_frames_within(keys, 5.0, 7.0) == [4.0]
    assert key_frames_within(keys, 9.0, 10.0) == [8.0]
    assert key_frames_within(keys, 1.0, 1.5) == [0.0]
    assert key_frames_within([1.0, 3.0], 0.0, 0.5) == [1.0]
    assert key_frames_within(keys, 2.0, 4.0) == [2.0, 4.0]


def test_keyframes_strategy_takes_key_frames_of_the_file(tmp_path: Path) -> None:
    path = clipmaker.write_clip(tmp_path / "a.mp4", clipmaker.evenly(100, FPS), gop=20).path
    with open_video(path) as video:
        assert video.key_frame_times() == pytest.approx([0, 2, 4, 6, 8])
        batch = sample_frames(video, FrameSampling(strategy="keyframes"))
        assert [clipmaker.number_of(image) for image in batch.images] == [0, 20, 40, 60, 80]
        few = choose_times(video, FrameSampling(strategy="keyframes", max_frames=3))
        assert few == pytest.approx([0, 4, 8])
        quick = sample_frames(video, FrameSampling(seek="keyframes", max_frames=4))
        assert [clipmaker.number_of(image) for image in quick.images] == [0, 20, 60, 80]
        # The times are 0, 3.3, 6.6 and 9.9 s: the last is the farthest from its key frame.
        [warning] = [warning for warning in quick.warnings if "quick look" in warning]
        assert "up to 1.9 s too early" in warning


@pytest.mark.parametrize("reader", ["opencv", "decord"])
def test_other_readers_refuse_key_frames(reader: str, three_shots: Path) -> None:
    with open_video(three_shots, reader=reader) as video:
        with pytest.raises(UsageError, match="key frames"):
            choose_times(video, FrameSampling(strategy="keyframes"))
        with pytest.raises(UsageError, match="key frames"):
            sample_frames(video, FrameSampling(seek="keyframes"))
        assert len(sample_frames(video, FrameSampling(strategy="scenes"))) == 3


def test_incompatible_options_are_usage_errors() -> None:
    for strategy in ("scenes", "changes", "keyframes", "v1"):
        with pytest.raises(UsageError, match="fps"):
            FrameSampling(strategy=strategy, fps=1.0)  # type: ignore[arg-type]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_strategies_give_ascending_times_up_to_the_maximum(
    count: int, most: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    pictures = np.repeat(chance.integers(0, 256, (count, 9, 16), dtype=np.uint8), 1, axis=0)
    looks = Thumbnails(tuple(float(place) for place in range(count)), pictures)
    for choose in (select_changes, select_scenes):
        times = choose(looks, most).times
        assert 1 <= len(times) <= most
        assert list(times) == sorted(times)
        assert 0 <= times[0] <= times[-1] <= count - 1


@given(st.lists(st.floats(0, 100), min_size=1, unique=True), st.integers(1, 30))
def test_subsample_keeps_distinct_members(times: list[float], count: int) -> None:
    ordered = sorted(times)
    kept = subsample(ordered, count)
    assert len(kept) == min(count, len(ordered)) == len(set(kept))
    assert set(kept) <= set(ordered)


@given(count=st.integers(1, 500), wanted=st.integers(1, 500))
def test_subsample_is_evenly_spaced(count: int, wanted: int) -> None:
    chosen = subsample(range(count), wanted)
    steps = {after - before for before, after in pairwise(chosen)}
    assert len(chosen) == min(count, wanted)
    assert not steps or max(steps) - min(steps) <= 1
    assert min(steps, default=1) >= 1
