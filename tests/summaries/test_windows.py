"""Windows of long videos: they cover the film once, with boundaries at shot changes."""

from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clipmaker import evenly, write_clip
from support.longfilm import TrueChapter, plan_film, write_film

from smolvideo.engines import Engine, load_engine
from smolvideo.errors import UsageError
from smolvideo.frames import VideoMetadata
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.readers import open_video
from smolvideo.summaries import SummaryOptions, summarise
from smolvideo.summaries.windows import (
    MAX_WINDOW_FACTOR,
    Window,
    count_windows,
    find_cut,
    frame_difference,
    sampling_grid,
    stream_windows,
    thumbnail,
)

WINDOW = 20.0
FRAMES = 10


@pytest.fixture(scope="module")
def chapters() -> list[TrueChapter]:
    return plan_film(120, Random(3), shortest=12, longest=30)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, chapters: list[TrueChapter]) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", chapters)


@pytest.fixture(scope="module")
def nano() -> Engine:
    return load_engine("nano")


def windows_of(film: Path, on_progress: OnProgress = no_progress) -> list[Window]:
    with open_video(film) as reader, open_video(film) as second:
        return list(
            stream_windows(
                reader,
                window_seconds=WINDOW,
                frames=FRAMES,
                fit=lambda image: image[:32, :32],
                geometry="direct",
                look_closely=lambda times: list(second.frames_at(times)),
                on_progress=on_progress,
            )
        )


def test_windows_cover_the_film_without_gap_or_overlap(
    film: Path, chapters: list[TrueChapter]
) -> None:
    windows = windows_of(film)
    assert windows[0].start_seconds == 0
    assert windows[-1].end_seconds == pytest.approx(chapters[-1].end_seconds, abs=0.6)
    for before, after in pairwise(windows):
        assert before.end_seconds == after.start_seconds
    for window in windows:
        assert window.end_seconds - window.start_seconds <= MAX_WINDOW_FACTOR * WINDOW + 0.5
        assert 1 <= len(window.batch) <= FRAMES
        inside = (window.start_seconds, window.end_seconds)
        assert inside[0] <= window.frame_times[0] <= window.frame_times[-1] < inside[1]
        # Times in the prompt are relative to the window.
        assert window.batch.pts_seconds[0] <= 3
        assert window.batch.metadata.duration_seconds == pytest.approx(inside[1] - inside[0])


def test_window_boundaries_are_at_shot_changes(film: Path, chapters: list[TrueChapter]) -> None:
    changes = [chapter.start_seconds for chapter in chapters[1:]]
    edges = [window.start_seconds for window in windows_of(film) if window.at_shot_change]
    assert len(edges) == len(changes)
    # The film's time base is a millisecond.
    assert edges == pytest.approx(changes, abs=0.002)


def test_windows_are_synthetic_where_their_video_is(tmp_path: Path, film: Path) -> None:
    camera = write_clip(tmp_path / "camera.mp4", evenly(60, 10)).path
    for video, expected in ((film, True), (camera, False)):
        windows = windows_of(video)
        assert windows
        assert {window.batch.metadata.is_synthetic for window in windows} == {expected}


def test_static_film_has_windows_of_equal_length(
    tmp_path: Path, chapters: list[TrueChapter]
) -> None:
    scene = next(chapter.scene for chapter in chapters if chapter.scene.moving_object is None)
    still = write_film(tmp_path / "still.mp4", [TrueChapter(0, 70, scene)])
    told: list[Progress] = []
    windows = windows_of(still, told.append)
    assert {(one.stage, one.total) for one in told} == {("decode", len(told))}
    assert [one.done for one in told] == list(range(1, len(told) + 1))
    assert [window.start_seconds for window in windows] == [0, 20, 40, 60]
    assert [len(window.batch) for window in windows] == [FRAMES, FRAMES, FRAMES, FRAMES // 2]
    assert not any(window.at_shot_change for window in windows)


@given(
    duration=st.floats(1, 5000),
    window=st.floats(1, 600),
    frames=st.integers(1, 100),
)
@settings(max_examples=60)
def test_sampling_grid_spans_first_to_last_frame(
    duration: float, window: float, frames: int
) -> None:
    metadata = VideoMetadata(64, 64, duration, last_pts_seconds=duration)
    if duration / window * frames > 50_000:
        return
    times = sampling_grid(metadata, window, frames)
    assert times[0] == 0
    assert times[-1] <= duration + 1e-3
    assert times[-1] > duration - window / frames - 1e-3


def test_sampling_grid_of_known_and_unknown_ends() -> None:
    known = VideoMetadata(64, 64, 10.0, first_pts_seconds=1.0, last_pts_seconds=7.0)
    assert sampling_grid(known, 6, 2) == [1, 4, 7]
    unknown = VideoMetadata(64, 64, 10.0, first_pts_seconds=1.0)
    assert unknown.last_pts_seconds is None
    assert sampling_grid(unknown, 6, 2) == [1, 4, 7, 10]


def test_count_windows() -> None:
    assert [count_windows(length, 60) for length in (1, 60, 89, 91, 3600)] == [1, 1, 1, 2, 60]


def test_camera_motion_is_not_a_shot_change() -> None:
    steady_motion = [0.0] + [20.0 + place % 3 for place in range(40)]
    assert find_cut(steady_motion, 1, 40) is None
    cut = [*steady_motion]
    cut[17] = 90.0
    assert find_cut(cut, 1, 40) == 17
    assert find_cut(cut, 20, 40) is None
    assert find_cut(cut, 5, 5) is None


def test_boundaries_use_all_changes_or_the_strongest_of_many() -> None:
    differences = [0.0] * 30
    differences[10], differences[20] = 40.0, 80.0
    assert find_cut(differences, 1, 30) == 10
    differences[5] = differences[15] = 30.0
    assert find_cut(differences, 1, 30) == 20


def test_thumbnails_suppress_grain_and_keep_brightness() -> None:
    random = np.random.default_rng(0)
    grey = np.full((360, 641, 3), 100, np.uint8)
    grain = (grey + random.integers(-20, 20, grey.shape)).astype(np.uint8)
    assert frame_difference(thumbnail(grey), thumbnail(grain)) < 4
    assert frame_difference(thumbnail(grey), thumbnail(grey + 50)) == pytest.approx(50)
    assert thumbnail(np.zeros((1, 3, 3), np.uint8)).shape == (16, 16, 3)


def test_window_length_follows_duration_and_style() -> None:
    brief = SummaryOptions(window_seconds=60)
    assert brief.window_seconds_for(60) is None
    assert brief.window_seconds_for(90) is None
    assert brief.window_seconds_for(91) == 60
    chapters = SummaryOptions(style="chapters")
    assert chapters.window_seconds_for(48) == 8
    assert chapters.window_seconds_for(20) == 5
    assert chapters.window_seconds_for(4) is None
    assert chapters.window_seconds_for(3600) == 60
    with pytest.raises(UsageError, match="1 second"):
        SummaryOptions(window_seconds=0.5)
    with pytest.raises(UsageError, match="style"):
        SummaryOptions(style="long")  # type: ignore[arg-type]


def test_chapters_of_half_an_hour_match_its_true_changes(nano: Engine, tmp_path: Path) -> None:
    """End-to-end measure: at least four of five chapters begin within one window of a true change,
    and most changes are found.
    """
    true = plan_film(1800, Random(1), shortest=60, longest=480)
    # A frame every four seconds and at each scene start: half an hour is rendered in a second.
    film = write_film(tmp_path / "half_hour.mp4", true, fps=0.25)
    options = SummaryOptions(style="chapters", max_frames=6)
    (record,) = summarise(nano, film, options=options)
    assert record.error is None
    assert record.window_seconds == 60
    changes = [chapter.start_seconds for chapter in true[1:]]
    begins = [chapter.start_seconds for chapter in record.chapters[1:]]
    near = [begin for begin in begins if min(abs(begin - change) for change in changes) <= 60]
    assert len(near) >= 0.8 * len(begins)
    found = [change for change in changes if min(abs(begin - change) for begin in begins) <= 1]
    assert len(found) >= 0.8 * len(changes)
    assert record.chapters[0].start_seconds == 0
    assert record.chapters[-1].end_seconds == pytest.approx(1800, abs=2)
