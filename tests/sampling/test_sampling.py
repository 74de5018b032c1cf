"""Sampling times: time expressions, official samplers, uniform, windows; then frames of real
videos.
"""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import clipmaker

from smolvideo.errors import ReaderError, UsageError
from smolvideo.frames import Frame, VideoMetadata
from smolvideo.progress import Progress
from smolvideo.readers import open_video
from smolvideo.sampling import (
    FrameSampling,
    RelativeTime,
    choose_times,
    parse_time,
    resolve_window,
    sample_frames,
    sample_times,
    smolvlm2_indices,
    v1_indices,
)


def video(num_frames: int = 250, fps: float = 25.0) -> VideoMetadata:
    return VideoMetadata(
        width=64,
        height=48,
        duration_seconds=num_frames / fps,
        num_frames=num_frames,
        average_fps=fps,
        name="a.mp4",
        last_pts_seconds=(num_frames - 1) / fps,
    )


# ---------------------------------------------------------------------- time expressions


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        (" 90 s ", 90.0),
        ("0", 0.0),
        (".5", 0.5),
        ("1:30", 90.0),
        ("0:01:30.5", 90.5),
        ("1:00:00", 3600.0),
        ("75:03", 4503.0),
        ("50%", RelativeTime(0.5)),
        ("12.5 %", RelativeTime(0.125)),
    ],
)
def test_parse_time(text: str, time: float | RelativeTime) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize(
    "text",
    [
        "\N{ARABIC-INDIC DIGIT THREE}",
        "",
        "now",
        "-1",
        "1:60",
        "1:61:00",
        "1:2:3:4",
        "101%",
        "-5%",
        "9" * 400,
        "nan",
        "inf",
        "1e3",
        "1:",
        ":30",
    ],
)
def test_parse_time_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time|share"):
        parse_time(text)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59_999))
def test_parse_time_reads_clock_and_seconds_alike(
    hours: int, minutes: int, milliseconds: int
) -> None:
    total = hours * 3600 + minutes * 60 + milliseconds / 1000
    clock = f"{hours}:{minutes:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"
    assert parse_time(clock) == pytest.approx(total)
    assert parse_time(f"{total:.3f}") == pytest.approx(total)


@given(st.floats(0, 100).map(lambda share: round(share, 3)))
def test_percentages_round_trip(share: float) -> None:
    parsed = parse_time(f"{share:.3f}%")
    assert isinstance(parsed, RelativeTime)
    assert parsed.fraction == pytest.approx(share / 100)


@given(st.text(max_size=12))
def test_parse_time_returns_a_time_or_explains_the_formats(text: str) -> None:
    try:
        time = parse_time(text)
    except ValueError as error:
        assert "%" in str(error)  # noqa: PT017 - most texts are no times, some are
    else:
        assert 0 <= (time.fraction if isinstance(time, RelativeTime) else time) < math.inf


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_frames": 0},
        {"max_frames": 2.5},
        {"max_frames": "50"},
        {"fps": 0.0},
        {"fps": math.inf},
        {"fps": "2"},
        {"start_seconds": math.nan},
        {"end_seconds": math.inf},
        {"start_seconds": "1:30"},
        {"strategy": "best"},
        {"strategy": "v1", "fps": 2.0},
    ],
)
def test_invalid_options_are_usage_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        FrameSampling(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- the official samplers


def test_v1_golden() -> None:
    """Values from running the official script."""
    assert v1_indices(360, 30) == [30 * second for second in range(12)]
    chosen = v1_indices(3000, 29.97)
    assert len(chosen) == 50
    assert chosen[:5] + chosen[-3:] == [0, 58, 116, 174, 232, 2842, 2900, 2987]
    chosen = v1_indices(18000, 23.976)
    assert len(chosen) == 50
    assert chosen[:3] + chosen[-1:] == [0, 345, 713, 17986]


def test_v1_below_one_frame_a_second() -> None:
    assert v1_indices(5, 0.05) == [0, 1, 2, 3, 4]
    assert v1_indices(0, 25) == []


@pytest.mark.parametrize(
    ("num_frames", "fps", "indices"),
    [
        (90, 30, [0, 44, 89]),
        (300, 30, [0, 33, 66, 99, 132, 166, 199, 232, 265, 299]),
        (10, 30, [0]),
        (1, 30, [0]),
        (0, 30, []),
    ],
)
def test_smolvlm2_golden(num_frames: int, fps: float, indices: list[int]) -> None:
    """Values from running transformers 5.23."""
    assert smolvlm2_indices(num_frames, fps) == indices


@pytest.mark.parametrize(
    ("num_frames", "fps", "first", "last"),
    [
        (1950, 30, [0], 1949),
        (1980, 30, [0], 1979),  # 66 s less 2 s do not exceed 64 s, so nothing is skipped
        (3000, 29.97, [29, 75, 122], 2970),
        (18000, 30, [30], 17970),
    ],
)
def test_smolvlm2_golden_long(num_frames: int, fps: float, first: list[int], last: int) -> None:
    chosen = smolvlm2_indices(num_frames, fps)
    assert len(chosen) == 64
    assert chosen[: len(first)] == first
    assert chosen[-1] == last


@given(st.integers(1, 10**6), st.floats(0.05, 240), st.integers(1, 80))
def test_official_indices_are_valid(count: int, fps: float, max_frames: int) -> None:
    for chosen in (v1_indices(count, fps, max_frames), smolvlm2_indices(count, fps, max_frames)):
        assert 1 <= len(chosen) <= max_frames
        assert min(chosen) >= 0
        assert max(chosen) < count
        assert all(a < b for a, b in pairwise(chosen))


def test_official_strategies_map_frames_to_true_times() -> None:
    times = [place**2 / 2700 for place in range(90)]
    metadata = video(90, 30.0)
    chosen = sample_times(metadata, FrameSampling(strategy="v1"), times)
    assert chosen == [times[0], times[30], times[60]]
    chosen = sample_times(metadata, FrameSampling(strategy="smolvlm2"), times)
    assert chosen == [times[0], times[44], times[89]]
    with pytest.raises(ValueError, match="times of all frames"):
        sample_times(metadata, FrameSampling(strategy="v1"))


# ---------------------------------------------------------------------- uniform


def test_uniform_includes_first_and_last_frame() -> None:
    times = sample_times(video(), FrameSampling(max_frames=50))
    assert len(times) == 50
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(9.96)
    gaps = np.diff(times)
    assert gaps.max() - gaps.min() < 1e-9


def test_uniform_takes_each_frame_once_where_there_are_few() -> None:
    frame_times = [0.0, 0.04, 3.0, 3.04, 9.0]
    assert sample_times(video(), FrameSampling(max_frames=5), frame_times) == frame_times
    assert sample_times(video(8, 4.0), FrameSampling()) == [place / 4 for place in range(8)]
    assert len(sample_times(video(), FrameSampling(max_frames=4), frame_times)) == 4


def test_uniform_with_one_frame_takes_the_middle() -> None:
    assert sample_times(video(), FrameSampling(max_frames=1)) == [pytest.approx(4.98)]


def test_last_frame_time_is_derived_from_the_rate() -> None:
    metadata = VideoMetadata(width=1, height=1, duration_seconds=10.0, average_fps=10.0)
    assert sample_times(metadata, FrameSampling(max_frames=3)) == [0.0, pytest.approx(4.95), 9.9]


def test_fps_limits_the_frames() -> None:
    times = sample_times(video(), FrameSampling(fps=2.0, max_frames=100))
    assert times == pytest.approx([place / 2 for place in range(20)])
    thinned = sample_times(video(), FrameSampling(fps=2.0, max_frames=5))
    assert len(thinned) == 5
    assert thinned[0] == 0.0
    assert thinned[-1] == 9.5
    assert all((2 * time).is_integer() for time in thinned)


def test_window_bounds() -> None:
    def window(
        start: float | RelativeTime | None, end: float | RelativeTime | None
    ) -> tuple[float, float]:
        return resolve_window(video(), FrameSampling(start_seconds=start, end_seconds=end))

    assert window(None, None) == (0.0, 10.0)
    assert window(2.0, 99.0) == (2.0, 10.0)
    assert window(RelativeTime(0.25), RelativeTime(0.5)) == (2.5, 5.0)
    times = sample_times(
        video(), FrameSampling(3, start_seconds=2.0, end_seconds=RelativeTime(0.4))
    )
    assert times == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("start", "end"),
    [(5.0, 5.0), (6.0, 5.0), (10.0, None), (11.0, 12.0), (RelativeTime(1.0), None), (None, 0.0)],
)
def test_window_without_a_frame_error_names_the_duration(
    start: float | RelativeTime | None, end: float | RelativeTime | None
) -> None:
    with pytest.raises(ReaderError, match=r"`a\.mp4` lasts 10 s") as caught:
        sample_times(video(), FrameSampling(start_seconds=start, end_seconds=end))
    assert caught.value.exit_code == 3


def test_window_includes_the_frame_on_screen_at_its_start() -> None:
    slides = [0.0, 20.0, 40.0, 60.0, 80.0]
    metadata = VideoMetadata(width=1, height=1, duration_seconds=100.0, last_pts_seconds=80.0)
    sampling = FrameSampling(start_seconds=30.0, end_seconds=50.0)
    assert sample_times(metadata, sampling, slides) == [30.0, 40.0]
    late = FrameSampling(start_seconds=90.0)
    assert sample_times(metadata, late, slides) == [90.0]


@given(
    st.integers(1, 3000),
    st.floats(0.1, 120),
    st.integers(1, 70),
    st.floats(0, 0.9),
    st.floats(0.01, 1.0),
    st.one_of(st.none(), st.floats(0.05, 60)),
)
def test_times_are_ascending_bounded_and_in_the_window(
    count: int, fps: float, max_frames: int, start: float, length: float, rate: float | None
) -> None:
    metadata = video(count, fps)
    sampling = FrameSampling(
        max_frames,
        rate,
        start_seconds=RelativeTime(start),
        end_seconds=RelativeTime(min(1.0, start + length)),
    )
    frame_times = [place / fps for place in range(count)]
    low, high = resolve_window(metadata, sampling)
    for known in (None, frame_times):
        times = sample_times(metadata, sampling, known)
        assert 1 <= len(times) <= max_frames
        assert all(a < b for a, b in pairwise(times))
        # A last frame that appears before the window is on screen in all of it.
        assert min(low, frame_times[-1]) - 1e-6 <= times[0]
        assert times[-1] <= high + 1e-6


# ---------------------------------------------------------------------- taking frames


class Scripted:
    """A reader of numbered frames, one per second, some of them unreadable."""

    def __init__(self, count: int, unreadable: range = range(0)) -> None:
        self.metadata = video(count, 1.0)
        self._unreadable = unreadable
        self.asked_for_all = 0

    def frame_times(self) -> list[float]:
        self.asked_for_all += 1
        return [float(place) for place in range(int(self.metadata.num_frames or 0))]

    def frames_at(self, seconds, *, max_side=None, keyframes=False):  # type: ignore[no-untyped-def]
        for time in seconds:
            place = min(int(time + 1e-6), int(self.metadata.num_frames or 1) - 1)
            if place not in self._unreadable:
                yield Frame(clipmaker.numbered_image(place), float(place))


def test_sample_frames_of_a_short_video_takes_all() -> None:
    seen: list[Progress] = []
    batch = sample_frames(Scripted(5), FrameSampling(), on_progress=seen.append)
    assert [clipmaker.number_of(image) for image in batch.images] == [0, 1, 2, 3, 4]
    assert batch.pts_seconds == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert (batch.num_requested, batch.warnings, batch.geometry) == (5, (), None)
    assert [(step.stage, step.done, step.total) for step in seen] == [
        ("decode", done, 5) for done in range(6)
    ]


def test_repeated_frame_is_transformed_once() -> None:
    fitted: list[int] = []

    def halve(image: np.ndarray) -> np.ndarray:
        fitted.append(clipmaker.number_of(image))
        return image[::2, ::2]

    batch = sample_frames(
        Scripted(5), FrameSampling(), times=[0.2, 0.5, 3.0, 3.9], transform=halve, geometry="half"
    )
    assert fitted == [0, 3]
    assert batch.pts_seconds == (0.0, 3.0)
    assert batch.images.shape == (2, clipmaker.HEIGHT // 2, clipmaker.WIDTH // 2, 3)
    assert (batch.num_requested, batch.geometry) == (4, "half")


@pytest.mark.parametrize("times", [[], [math.nan], [0.0, math.inf]])
def test_non_finite_times_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="finite numbers of seconds"):
        sample_frames(Scripted(5), FrameSampling(), times=times)


def test_frames_beyond_memory_are_an_error() -> None:
    def enlarge(image: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.uint8(0), (1 << 22, 1 << 22, 3))

    with pytest.raises(ReaderError, match="more than memory holds"):
        sample_frames(Scripted(1000), FrameSampling(max_frames=1000), transform=enlarge)


def test_few_missing_frames_are_a_warning_and_many_an_error() -> None:
    batch = sample_frames(Scripted(10, unreadable=range(3, 5)), FrameSampling())
    assert len(batch) == 8
    assert batch.num_requested == 10
    assert batch.warnings == ("2 of 10 frames of `a.mp4` could not be decoded",)
    with pytest.raises(ReaderError, match="only 4 of 10 frames"):
        sample_frames(Scripted(10, unreadable=range(3, 9)), FrameSampling())


def test_frame_times_are_read_only_where_needed() -> None:
    long = Scripted(100_000)
    choose_times(long, FrameSampling())
    choose_times(long, FrameSampling(start_seconds=0.0, end_seconds=20.0))
    assert long.asked_for_all == 0
    choose_times(long, FrameSampling(strategy="v1"))
    assert long.asked_for_all == 1
    short = Scripted(60)
    choose_times(short, FrameSampling())
    assert short.asked_for_all == 1


def test_variable_frame_rate_gives_each_frame_once(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.54, 0.6, 1.5, 3.0, 3.02]
    clip = clipmaker.write_clip(tmp_path / "variable.mp4", times)
    with open_video(clip.path) as reader:
        batch = sample_frames(reader, FrameSampling())
        assert [clipmaker.number_of(image) for image in batch.images] == list(range(8))
        assert batch.pts_seconds == pytest.approx(times, abs=0.001)
        spread = sample_frames(reader, FrameSampling(max_frames=3))
    assert [clipmaker.number_of(image) for image in spread.images] == [0, 5, 7]


def test_fifty_frames_of_a_real_file_reach_from_its_first_to_its_last(tmp_path: Path) -> None:
    clip = clipmaker.write_clip(tmp_path / "long.mp4", clipmaker.evenly(300, 25), gop=50)
    with open_video(clip.path) as reader:
        batch = sample_frames(reader, FrameSampling())
    numbers = [clipmaker.number_of(image) for image in batch.images]
    assert len(numbers) == 50
    assert (numbers[0], numbers[-1]) == (0, 299)
    assert batch.pts_seconds == pytest.approx([number / 25 for number in numbers])


def test_unknown_seek_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown seek `fast`: exact, keyframes"):
        FrameSampling(seek="fast")  # type: ignore[arg-type]
