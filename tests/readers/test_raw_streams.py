"""Streams with few or wrong time stamps: raw video, repeated frames."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from support import clipmaker

from smolvideo.readers.pyav import PyavReader
from smolvideo.readers.registry import open_in_process


def packets_of(codec: str, first: int, count: int, options: dict[str, str]) -> list[bytes]:
    """Return the packets of numbered frames; concatenated they are a raw stream."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = 176, 144, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 24), Fraction(24)
    context.gop_size, context.bit_rate = 12, 2_000_000
    context.options = {"qmin": "2", "qmax": "3", **options}
    found = []
    for number in range(count):
        image = clipmaker.numbered_image(first + number, 176, 144)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = number
        found += [bytes(packet) for packet in context.encode(frame)]
    return [*found, *(bytes(packet) for packet in context.encode(None))]


def raw(path: Path, codec: str, *starts: int, count: int = 36, **options: str) -> Path:
    path.write_bytes(b"".join(b"".join(packets_of(codec, n, count, options)) for n in starts))
    return path


@pytest.mark.parametrize("codec", ["h263", "h261", "mpeg4", "mpeg2video"])
def test_raw_video_is_read_in_order(codec: str, tmp_path: Path) -> None:
    """FFmpeg marks every packet of H.263 and H.261 as a key frame, so seeking would land on any."""
    suffix = {"mpeg4": "m4v", "mpeg2video": "m2v"}.get(codec, codec)
    with open_in_process(raw(tmp_path / f"a.{suffix}", codec, 0), "pyav") as video:
        times = video.frame_times()
        shown = [clipmaker.number_of(frame.image) for frame in video.frames_at(times)]
        assert shown == [*range(36)]
        rate = 35 / (times[-1] - times[0])
        assert video.metadata.average_fps == pytest.approx(rate, rel=0.02)
        late = [clipmaker.number_of(frame.image) for frame in video.frames_at(times[::-1][:1])]
        assert late == [35]
        quick = [*video.frames_at(times[5::10], keyframes=True)]
        assert [clipmaker.number_of(frame.image) for frame in quick]


@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_joined_raw_mpeg4_has_continuous_times(b_frames: str, tmp_path: Path) -> None:
    path = raw(tmp_path / "a.m4v", "mpeg4", 0, 100, bf=b_frames)
    with open_in_process(path, "pyav") as video:
        frames = video.frames_at(video.frame_times())
        assert [clipmaker.number_of(one.image) for one in frames] == [*range(36), *range(100, 136)]
        assert video.metadata.duration_seconds == pytest.approx(3.0, abs=0.1)
        assert len(video.metadata.discontinuities) == 1


def test_empty_packets_repeat_the_previous_frame(tmp_path: Path) -> None:
    """As in Theora, where nothing moves. A decoder takes an empty packet for the end of the
    stream.
    """
    path = tmp_path / "a.nut"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = clipmaker.WIDTH, clipmaker.HEIGHT, "yuv420p"
        for number, content in enumerate(still_packets(48)):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 24)
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            container.mux(packet)
    with open_in_process(path, "pyav") as video:
        assert isinstance(video, PyavReader)
        asked = [place / 24 + 0.01 for place in range(48)]
        frames = [*video.frames_at(asked)]
        # every third one is new
        assert [clipmaker.number_of(one.image) for one in frames] == [n // 3 for n in range(48)]
        assert not any(one.damage for one in frames)
        assert video.metadata.duration_seconds == pytest.approx(2.0, abs=0.05)
        assert video.metadata.average_fps == pytest.approx(24.0, rel=0.05)
        assert video.metadata.notices == ()


def still_packets(count: int) -> list[bytes]:
    context = av.CodecContext.create("mpeg4", "w")
    context.width, context.height, context.pix_fmt = clipmaker.WIDTH, clipmaker.HEIGHT, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 24), Fraction(24)
    context.bit_rate = 2_000_000
    found: list[bytes] = []
    for number in range(count):
        if number % 3:
            found.append(b"")
            continue
        frame = av.VideoFrame.from_ndarray(clipmaker.numbered_image(number // 3), format="rgb24")
        frame.pts = number
        found += [bytes(packet) for packet in context.encode(frame)]
    return found


def test_time_base_finer_than_a_microsecond(tmp_path: Path) -> None:
    """WTV counts in tenths of a microsecond."""
    path = clipmaker.write_clip(
        tmp_path / "a.wtv", clipmaker.evenly(48, 24), codec="mpeg2video"
    ).path
    with open_in_process(path, "pyav") as video:
        frames = video.frames_at(video.frame_times())
        assert [clipmaker.number_of(one.image) for one in frames] == [*range(48)]
