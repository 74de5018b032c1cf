"""Packet times from a file's index, and how few packets are read for them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from support import clipmaker

from smolvideo.readers import forward_decoder, packet_times, video_stream
from smolvideo.readers.ffmpeg_input import open_container
from smolvideo.readers.packet_times import read_key_times, read_last_packets
from smolvideo.readers.pyav import PyavReader


def decoded_key_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0) if frame.key_frame]


@pytest.mark.parametrize("b_frames", [0, 2, 3])
@pytest.mark.parametrize("starts_at", [0.0, 10.0])
def test_indexed_key_times_equal_decoded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, b_frames: int, starts_at: float
) -> None:
    """MP4 indexes decoding times, which begin before zero where frames are reordered."""
    monkeypatch.setattr(packet_times, "_INDEX_PACKET_LIMIT", 10)
    path = clipmaker.write_clip(
        tmp_path / "a.mp4",
        clipmaker.evenly(60, 10),
        gop=12,
        b_frames=b_frames,
        starts_at=starts_at,
    ).path
    found = read_key_times(lambda: av.open(str(path)), 0)
    assert found == pytest.approx(decoded_key_times(path), abs=1e-6)  # less than a tick
    assert len(found) == 5


@pytest.fixture
def packets_read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record every packet that the two demuxing modules read."""
    read: list[Any] = []

    for module in (forward_decoder, packet_times):
        original = module.demux_tolerant

        def counted(*given: Any, original: Any = original, **more: Any) -> Iterator[Any]:
            for packet in original(*given, **more):
                read.append(packet.pts)
                yield packet

        monkeypatch.setattr(module, "demux_tolerant", counted)
    return read


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 600 frames with a key frame every 1.2 s."""
    path = tmp_path_factory.mktemp("minute") / "a.mp4"
    return clipmaker.write_clip(path, clipmaker.evenly(600, 10)).path


def test_last_packets_are_read_near_the_end(minute: Path, packets_read: list[Any]) -> None:
    last = read_last_packets(lambda: av.open(str(minute)), 0, 60.0)
    assert last is not None
    assert last.last_frame == pytest.approx(59.9)
    assert 0 < len(packets_read) < 150


def test_small_file_is_opened_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to decode and once for its packet times: opening dominates the cost of small videos."""
    path = clipmaker.write_clip(tmp_path / "a.mp4", clipmaker.evenly(60, 15), b_frames=2).path
    opened: list[Path] = []

    def open_(path: Path, *which: Any) -> Any:
        opened.append(path)
        return open_container(path, *which)

    monkeypatch.setattr(video_stream, "open_container", open_)
    with PyavReader(path) as reader:
        assert reader.frame_times() == pytest.approx(clipmaker.evenly(60, 15), abs=1e-5)
        assert reader.metadata.duration_seconds == pytest.approx(4.0)
    assert opened == [path] * 2


def test_distant_time_is_found_by_seeking(tmp_path: Path, packets_read: list[Any]) -> None:
    """A transport stream has no index: the decoder moves forward, or seeks."""
    path = clipmaker.write_clip(tmp_path / "a.ts", clipmaker.evenly(600, 10)).path
    with PyavReader(path) as reader:
        assert reader.metadata.duration_seconds == pytest.approx(60, abs=0.2)
        packets_read.clear()
        (frame,) = reader.frames_at([45.0])
        assert clipmaker.number_of(frame.image) == 450
    assert 0 < len(packets_read) < 150
