"""Long recordings: decoded packets and held frames do not grow with the gaps between wanted
frames.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import clipmaker

from smolvideo.readers.forward_decoder import DamageTracker
from smolvideo.readers.gop import MAX_REORDERED, _SegmentDecoder
from smolvideo.readers.pyav import PyavReader
from smolvideo.readers.registry import open_in_process

FPS = 25
FRAMES = 600


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[str, Path] = {}

    def write(name: str, gop: int, **options: object) -> Path:
        key = repr((name, gop, options))
        if key not in made:
            path = tmp_path_factory.mktemp("long") / name
            times = clipmaker.evenly(FRAMES, FPS)
            made[key] = clipmaker.write_clip(path, times, gop=gop, **options).path
        return made[key]

    return write


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count packets sent to decoders: by the GOP decoder, and by the forward decoder."""
    counts = [0, 0]
    feed, follow = _SegmentDecoder._feed, DamageTracker.fed

    def count_feed(decoder: _SegmentDecoder, packet: object, tick: float) -> None:
        counts[0] += 1
        feed(decoder, packet, tick)

    def count_fed(tracker: DamageTracker, packet: object) -> None:
        counts[1] += 1
        follow(tracker, packet)

    monkeypatch.setattr(_SegmentDecoder, "_feed", count_feed)
    monkeypatch.setattr(DamageTracker, "fed", count_fed)
    return counts


def without_key_marks(path: Path, target: Path) -> Path:
    """Copy the transport stream without ``random_access_indicator``, as some encoders write it."""
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), 188):
        if data[place + 3] & 0x20 and data[place + 4]:
            data[place + 5] &= ~0x40
    target.write_bytes(bytes(data))
    return target


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
@pytest.mark.parametrize("b_frames", [0, 3])
def test_skipped_frames_are_dropped(
    name: str, b_frames: int, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a single GOP at most the reorder depth of frames is held."""
    held = [0]
    take = _SegmentDecoder._take

    def watch(decoder: _SegmentDecoder, frames: list[object]) -> None:
        take(decoder, frames)
        held.append(len(decoder._decoded) + len(decoder._found))

    monkeypatch.setattr(_SegmentDecoder, "_take", watch)
    wanted = [0, 1, 250, 251, 599]
    with open_in_process(write(name, FRAMES, b_frames=b_frames), "pyav") as reader:
        found = [clipmaker.number_of(frame.image) for frame in reader.frames_at(at(wanted))]
    assert found == wanted
    assert len(held) > 100, "they went through the decoder of segments"
    assert max(held) <= MAX_REORDERED + 1


def at(numbers: list[int]) -> list[float]:
    """Return the middle of the time for which each frame is shown."""
    return [(number + 0.5) / FPS for number in numbers]


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.m2ts", "a.flv", "a.mkv"])
def test_only_wanted_gops_are_decoded(
    name: str, write: Callable[..., Path], fed: list[int]
) -> None:
    options = {"container_options": {"mpegts_m2ts_mode": "1"}} if name == "a.m2ts" else {}
    wanted = list(range(5, FRAMES, 60))
    with open_in_process(write(name, 12, **options), "pyav") as reader:
        fed[:] = [0, 0]
        found = [clipmaker.number_of(frame.image) for frame in reader.frames_at(at(wanted))]
        assert found == wanted
        assert fed[0] <= len(wanted) * 12, "no more than the groups that the frames are in"
        assert fed[1] == 0, "and the cursor did not have to look again"


def test_unmarked_key_frames_are_searched(
    write: Callable[..., Path], fed: list[int], tmp_path: Path
) -> None:
    """FFmpeg's index of a transport stream lists packets that are not key frames."""
    path = without_key_marks(write("a.ts", 12), tmp_path / "a.ts")
    wanted = list(range(5, FRAMES, 60))
    with open_in_process(path, "pyav") as reader:
        assert isinstance(reader, PyavReader)
        assert reader._known_keys() is None
        fed[:] = [0, 0]
        found = [clipmaker.number_of(frame.image) for frame in reader.frames_at(at(wanted))]
        assert found == wanted
        assert sum(fed) < FRAMES, "less than all of it"
        keys = reader.key_frame_times()
        assert keys == pytest.approx([place / FPS for place in range(0, FRAMES, 12)], abs=0.001)


@pytest.mark.parametrize("marked", [True, False])
def test_seek_in_a_transport_stream_uses_the_nearest_key_frame(
    marked: bool, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write("a.ts", 12)
    if not marked:
        path = without_key_marks(path, tmp_path / "a.ts")
    wanted = list(range(5, FRAMES, 31))
    with open_in_process(path, "pyav") as reader:
        found = list(reader.frames_at(at(wanted), keyframes=True))
    expected = [number - number % 12 for number in wanted]
    assert [clipmaker.number_of(frame.image) for frame in found] == expected


def test_key_times_of_a_transport_stream_come_from_the_first_scan(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_in_process(write("a.ts", 12), "pyav") as reader:
        monkeypatch.setattr("smolvideo.readers.pyav.read_key_times", lambda *_: pytest.fail("read"))
        keys = reader.key_frame_times()
    assert keys == pytest.approx([place / FPS for place in range(0, FRAMES, 12)], abs=0.001)


def test_joined_parts_seek_to_their_key_frames(
    write: Callable[..., Path], fed: list[int], tmp_path: Path
) -> None:
    path = clipmaker.join(tmp_path / "a.ts", write("a.ts", 12), write("a.ts", 12))
    with open_in_process(path, "pyav") as reader:
        fed[:] = [0, 0]
        times = at([5, 305, 605, 905, 1199])
        found = [clipmaker.number_of(frame.image) for frame in reader.frames_at(times)]
        assert found == [5, 305, 5, 305, 599]
        assert fed[0] <= 5 * 12
        keys = reader.key_frame_times()
    assert keys == pytest.approx([place / FPS for place in range(0, 2 * FRAMES, 12)], abs=0.001)
