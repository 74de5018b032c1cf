"""The default reader on odd real clips: frames found by seeking equal those of a full decode."""

import platform
from collections.abc import Iterator
from math import copysign
from pathlib import Path

import av
import numpy as np
import pytest
from support.project import SHARED

from smolvideo.errors import ReaderError
from smolvideo.frames import Frame
from smolvideo.readers import open_video
from smolvideo.readers.display import to_display_rgb
from smolvideo.readers.pyav import PyavReader
from smolvideo.readers.registry import open_in_process

pytestmark = [pytest.mark.clips, pytest.mark.slow]

UNREADABLE = {
    "audio_only.mp4": "no video stream",
    "d_text.mp4": "not a video",
    "d_trunc60_nomoov.mp4": "not a video",
    "d_zero_bytes.mp4": "empty",
    "vp9_invalid.webm": "no decodable video frames",
}
FRAMES = 12
FEW = {"hevc_8k24.mp4": 2}
"""Clips of which fewer frames are compared, to save time."""
TORN = {"d_bitflip60.mp4": 3}
"""Number of frames that may differ: a seek skips damage that a full decode propagates."""
TOLERANCE = 1.0
"""Allowed mean difference of a frame in grey levels."""
SHOWN = {
    # name: width, height, duration, first and last frame in seconds
    "d_rot90_dog.mp4": (720, 1280, 9.643, 0.0, 9.610),
    "rotate_and_reflect.mp4": (720, 1080, 1.067, 0.0, 0.968),
    "rotated_iphone_gps.mov": (320, 568, 4.002, 0.0, 3.968),
    "firstpts_10s.mp4": (1137, 640, 4.0, 0.0, 3.967),
    "ts_start_41748.ts": (1024, 576, 2.624, 0.544, 2.584),
    "ts_rollover.ts": (640, 360, 2.0, 0.0, 1.958),
    "editlist_positive_shift.mp4": (1920, 1080, 10.005, 1.0, 9.967),
    "d_copycut_editlist.mp4": (1280, 720, 4.141, 0.0, 4.104),
    "d_headless.ts": (1280, 720, 5.806, 4.505, 5.772),
    "d_trunc60.mkv": (1280, 720, 5.972, 0.0, 5.939),
    "fragmented_bogus_duration.mp4": (1080, 720, 1.068, 0.067, 1.034),
    "no_duration.webm": (1280, 720, 4.938, 0.0, 4.872),
    "scene_nasa_mirror.mp4": (480, 270, 13.056, 0.0, 12.980),
    "midstream_resize.mp4": (400, 300, 1.964, 0.0, 1.947),
    "d_slideshow_1per20s.mp4": (640, 360, 100.0, 0.0, 80.0),
    "mvhevc_5frames.mov": (1934, 2160, 0.056, 0.0, 0.044),
    "one_frame_2x2.mp4": (2, 2, 0.156, 0.0, 0.0),
}


def clip_names() -> list[str]:
    folder = SHARED / "clips"
    if not folder.is_dir():
        return ["(no clips)"]
    return sorted(path.name for path in folder.iterdir() if path.suffix not in {".tsv", ".md"})


def distance(one: Frame, other: Frame) -> float:
    """Return the mean difference in grey levels over every third line and column."""
    assert one.image.shape == other.image.shape
    return float(np.abs(one.image[::3, ::3].astype(np.int16) - other.image[::3, ::3]).mean())


def decode_all(path: Path, index: int, threads: int = 0) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield every frame of a plain decode with its time on the player's clock."""
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams[index]
        stream.thread_type = "AUTO"
        # Error concealment of damaged data depends on the number of threads.
        stream.codec_context.thread_count = threads
        origin = (container.start_time or 0) / 1e6
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                yield float(frame.pts * stream.time_base) - origin, frame


def decode_all_for(reader: PyavReader, path: Path, wanted: list[float]) -> list[Frame]:
    """Return the frames on screen at the ascending times ``wanted``, decoded without seeking."""
    found: list[Frame] = []
    shape = reader._shape
    standing: tuple[float, av.VideoFrame] | None = None
    left = list(wanted)

    def take(until: float) -> None:
        while left and left[0] + 0.0004 < until and standing is not None:
            left.pop(0)
            found.append(Frame(to_display_rgb(standing[1], shape), standing[0]))

    assert reader._video.index is not None
    threads = reader._cursor.stream.codec_context.thread_count
    for time, frame in decode_all(path, reader._video.index, threads):
        if standing is not None and time <= standing[0]:
            continue
        take(until=time)
        standing = time, frame
    take(until=float("inf"))
    return found


@pytest.mark.parametrize("name", clip_names())
def test_clip(clips: Path, name: str) -> None:
    path = clips / name
    if reason := UNREADABLE.get(name):
        with pytest.raises(ReaderError, match=reason) as caught:
            open_video(path)
        assert "\n" not in str(caught.value)
        return
    with open_in_process(path, "pyav") as reader:
        assert isinstance(reader, PyavReader), "none of them was joined"
        metadata = reader.metadata
        last = metadata.last_pts_seconds
        assert last is not None
        assert 0 <= metadata.first_pts_seconds <= last <= metadata.duration_seconds
        wanted = np.linspace(metadata.first_pts_seconds, last, FEW.get(name, FRAMES)).tolist()
        found = list(reader.frames_at(wanted))
        expected = decode_all_for(reader, path, wanted)
        assert len(found) == len(expected) == len(wanted)
        assert [frame.pts_seconds for frame in found] == pytest.approx(
            [frame.pts_seconds for frame in expected], abs=1e-4
        )
        assert found[-1].pts_seconds == pytest.approx(last, abs=1e-4)
        different = [
            frame.pts_seconds
            for frame, truth in zip(found, expected, strict=True)
            if distance(frame, truth) > TOLERANCE
        ]
        assert len(different) <= TORN.get(name, 0), different
        assert found[0].image.shape == (metadata.height, metadata.width, 3)
    if name in SHOWN:
        width, height, duration, first, end = SHOWN[name]
        assert (metadata.width, metadata.height) == (width, height)
        assert metadata.duration_seconds == pytest.approx(duration, abs=0.002)
        assert metadata.first_pts_seconds == pytest.approx(first, abs=0.001)
        assert last == pytest.approx(end, abs=0.001)


@pytest.mark.parametrize(
    "name", ["scene_street_bikes.mp4", "vfr_flir.mp4", "d_copycut_editlist.mp4"]
)
def test_packet_times_equal_decoded_times(clips: Path, name: str) -> None:
    with PyavReader(clips / name) as reader:
        times = reader.frame_times()
        assert reader._video.index is not None
        decoded = [time for time, _ in decode_all(clips / name, reader._video.index)]
    assert times == pytest.approx(decoded, abs=1e-4)
    assert reader.metadata.num_frames == len(times)


def test_all_clips_named_here_exist(clips: Path) -> None:
    named = {*UNREADABLE, *FEW, *TORN, *SHOWN, *OTHERS_TORN, *ODD_AT_THE_START}
    assert named <= {path.name for path in clips.iterdir()}


@pytest.mark.needs("decord")
@pytest.mark.parametrize("name", ["d_headless.ts", "ts_rollover.ts"])
def test_decord_refuses_transport_streams_instead_of_hanging(clips: Path, name: str) -> None:
    with pytest.raises(ReaderError, match="hang"):
        open_video(clips / name, reader="decord")


@pytest.mark.needs("decord")
@pytest.mark.parametrize("name", ["d_copycut_editlist.mp4", "vp9_10bit.webm"])
def test_decord_refuses_what_it_miscounts(clips: Path, name: str) -> None:
    with pytest.raises(ReaderError, match=r"miscounts|wrongly"):
        open_video(clips / name, reader="decord")


OTHERS_TOLERANCE = 10.0
"""Allowed mean difference in grey levels: other readers always use the BT.601 matrix."""
OTHERS_TORN = {"d_bitflip60.mp4"}
"""Damaged clips, whose error concealment differs between decoders without a right result."""


ORDINARY = ("film_", "scene_", "screen_", "timer_")
"""Beginnings of the names of clips without oddities."""
ODD_AT_THE_START = (
    "av1_hdr10.mp4",
    "d_copycut_editlist.mp4",
    "d_headless.ts",
    "d_odd_853x479_444.mp4",
    "d_rot90_dog.mp4",
    "editlist_positive_shift.mp4",
    "hevc10_hls.ts",
    "hevc_hdr10_sdrcontainer.mp4",
    "overflow_720p.ts",
    "rotated180_vfr.mp4",
)
"""Clips whose oddity is in the header or in the first frames. Of these and of the ordinary ones the
first ``COMPARED_SECONDS`` are compared: these readers decode all frames up to the wanted ones."""
COMPARED_SECONDS = 3.0
COUNTED = ("scene_", "timer_")
"""Of these, MP4 files must be read, and have a frame for each packet."""
OTHER_READERS = ("opencv", "decord") if platform.machine() in ("x86_64", "AMD64") else ("opencv",)
"""decord has wheels for x86 alone."""


def count_packets(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


@pytest.mark.parametrize("name", clip_names())
def test_other_readers_are_right_or_refuse(clips: Path, name: str) -> None:
    ours: list[Frame] = []  # decoded once for both
    is_counted = name.startswith(COUNTED) and name.endswith(".mp4") and "nasa_mirror" not in name
    for reader in OTHER_READERS:
        try:
            with open_video(clips / name, reader=reader) as other:
                assert name not in UNREADABLE
                assert other.metadata.reader == reader
                if is_counted:
                    assert other.metadata.num_frames == count_packets(clips / name) > 0
                if not ours:
                    with open_video(clips / name, reader="pyav") as video:
                        first = video.metadata.first_pts_seconds
                        end = video.metadata.duration_seconds
                        if name.startswith(ORDINARY) or name in ODD_AT_THE_START:
                            end = min(end, first + COMPARED_SECONDS)
                        # Between two frames, because OpenCV rounds to milliseconds.
                        wanted = np.linspace(first, end, 1 if name in FEW else 6) + 0.004
                        ours = list(video.frames_at(wanted))
                theirs = list(other.frames_at(wanted))
        except ReaderError:
            assert not is_counted, reader
            continue
        for one, expected in zip(theirs, ours, strict=True):
            assert one.pts_seconds == pytest.approx(expected.pts_seconds, abs=2e-3), reader
            if name not in OTHERS_TORN:
                assert distance(one, expected) < OTHERS_TOLERANCE, reader


def test_text_tracks_of_real_clips(clips: Path) -> None:
    with open_video(clips / "subs_srt.mkv") as video:
        texts = video.text_track()
    assert texts
    assert texts[0].format == "subrip"
    with open_video(clips / "subs_pgs.mkv") as video:
        assert video.text_track() == [], "pictures are no text"


@pytest.mark.parametrize("reader", ["pyav", "opencv"])
def test_no_video_begins_at_negative_zero(clips: Path, reader: str) -> None:
    """The start of a transport stream is rounded from just below zero."""
    if reader == "opencv":
        pytest.importorskip("cv2")
    with open_video(clips / "ts_rollover.ts", reader=reader) as video:
        times = [*video.frame_times(), video.metadata.first_pts_seconds]
    assert all(copysign(1, time) > 0 for time in times)
