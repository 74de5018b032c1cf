"""GOPs decoded in parallel give the frames of a full decode, from fewer packets."""

from pathlib import Path

import pytest
from support import clipmaker

from smolvideo.readers.gop import ParallelSegmentDecoder, decode_gop, plan_gops
from smolvideo.readers.pyav import PyavReader

TIMES = clipmaker.evenly(200, 20)


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return clipmaker.write_clip(folder / f"a.{request.param}", TIMES, gop=40, b_frames=3).path


@pytest.mark.parametrize("step", [1, 3, 17, 60, 199])
def test_parallel_decode_needs_no_sequential_fallback(
    clip: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = TIMES[::step]
    with PyavReader(clip) as reader:
        monkeypatch.setattr(reader._cursor, "frame_at", lambda _: pytest.fail("fell back"))
        found = [clipmaker.number_of(frame.image) for frame in reader.frames_at(wanted)]
    assert found == list(range(0, 200, step))


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_parallel_decoders_keep_the_order(clip: Path, lanes: int) -> None:
    with PyavReader(clip) as reader:
        container, stream = reader._video.open()
        ticks = [reader._ticks(time) for time in TIMES]
        with container:
            segments = plan_gops(container, stream, ticks) or []
        assert len(segments) == 5
        side_by_side = ParallelSegmentDecoder(
            lambda: reader._video.open(1), decode_gop, segments, lanes=lanes, max_buffered=2
        )
        assert [place for place, _ in side_by_side.frames()] == list(range(200))


def test_parallel_decoders_stop_when_the_iterator_is_closed(clip: Path) -> None:
    with PyavReader(clip) as reader:
        frames = reader.frames_at(TIMES)
        next(frames)
        frames.close()  # type: ignore[attr-defined] -- a generator
        assert len(list(reader.frames_at([1.0, 5.0]))) == 2


def test_errors_of_opening_in_a_thread_reach_the_caller(clip: Path) -> None:
    def refuse() -> tuple[object, object]:
        raise OSError("gone")

    with PyavReader(clip) as reader:
        container, stream = reader._video.open()
        with container:
            segments = plan_gops(container, stream, [0.0]) or []
    with pytest.raises(OSError, match="gone"):
        list(ParallelSegmentDecoder(refuse, decode_gop, segments, lanes=2, max_buffered=2).frames())
