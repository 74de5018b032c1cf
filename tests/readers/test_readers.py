"""The contract of all readers, then behaviour of single ones."""

import os
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest
from support import clipmaker

from smolvideo.errors import ReaderError, UsageError
from smolvideo.readers import READERS, open_video
from smolvideo.readers.base import MAX_PIXELS

MAKERS: dict[str, Callable[[Path], clipmaker.Clip]] = {
    "constant": lambda path: clipmaker.write_clip(path / "a.mp4", clipmaker.evenly(48, 24)),
    "long_gop": lambda path: clipmaker.write_clip(
        path / "a.mp4", clipmaker.evenly(150, 25), gop=250
    ),
    "key_frames_only": lambda path: clipmaker.write_clip(
        path / "a.mp4", clipmaker.evenly(20, 10), gop=1, b_frames=0
    ),
    "variable": lambda path: clipmaker.write_clip(
        path / "a.mp4", [0.0, 0.04, 0.5, 0.54, 0.6, 1.5, 3.0, 3.02]
    ),
    "one_frame": lambda path: clipmaker.write_clip(path / "a.mp4", [0.0]),
    "matroska_from_10s": lambda path: clipmaker.write_clip(
        path / "a.mkv", clipmaker.evenly(60, 20), starts_at=10.0
    ),
    "transport_from_10s": lambda path: clipmaker.write_clip(
        path / "a.ts", clipmaker.evenly(60, 20), starts_at=10.0
    ),
    "mpeg4_in_avi": lambda path: clipmaker.write_clip(
        path / "a.avi", clipmaker.evenly(48, 24), codec="mpeg4"
    ),
    "vp9": lambda path: clipmaker.write_clip(
        path / "a.webm", clipmaker.evenly(30, 10), codec="libvpx-vp9"
    ),
    "fragmented": lambda path: clipmaker.write_clip(
        path / "a.mp4", clipmaker.evenly(48, 24), container_options={"movflags": "frag_keyframe"}
    ),
}
REFUSED = {("decord", "transport_from_10s"): "can hang"}
"""(reader, clip) → message, where a reader refuses a file that it would read wrongly."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], clipmaker.Clip]:
    clips: dict[str, clipmaker.Clip] = {}

    def make(name: str) -> clipmaker.Clip:
        if name not in clips:
            clips[name] = MAKERS[name](tmp_path_factory.mktemp(name))
        return clips[name]

    return make


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("reader", READERS)
def test_reader_contract(reader: str, name: str, made: Callable[[str], clipmaker.Clip]) -> None:
    clip = made(name)
    if reason := REFUSED.get((reader, name)):
        with pytest.raises(ReaderError, match=reason) as caught:
            open_video(clip.path, reader=reader)
        assert caught.value.hint
        return
    with open_video(clip.path, reader=reader) as video:
        metadata = video.metadata
        assert (metadata.width, metadata.height) == (clipmaker.WIDTH, clipmaker.HEIGHT)
        assert (metadata.reader, metadata.name, metadata.kind) == (reader, clip.path.name, "video")
        times = video.frame_times()
        assert times == pytest.approx(clip.times, abs=0.001)
        assert metadata.last_pts_seconds == pytest.approx(clip.times[-1], abs=0.001)
        assert metadata.duration_seconds >= clip.times[-1]
        assert metadata.num_frames in (None, len(times))

        each = list(video.frames_at(times))
        assert [clipmaker.number_of(frame.image) for frame in each] == list(range(len(times)))
        assert [frame.pts_seconds for frame in each] == pytest.approx(times, abs=0.001)

        # Between two frames the earlier one is on screen; times before the first or after the
        # last are clamped; and a reader can go back to earlier times.
        for stride in (1, 7, 40):
            asked = [(a + b) / 2 for a, b in zip(times[:-1:stride], times[1::stride], strict=False)]
            found = video.frames_at([-1.0, *asked, times[-1] + 100])
            expected = [0, *range(0, len(times) - 1, stride), len(times) - 1]
            assert [clipmaker.number_of(frame.image) for frame in found] == expected


@pytest.mark.parametrize("reader", READERS)
def test_frames_are_yielded_lazily(reader: str, made: Callable[[str], clipmaker.Clip]) -> None:
    with open_video(made("constant").path, reader=reader) as video:
        frames = video.frames_at([0.0, 0.01, 1.0])
        first, again, later = next(frames), next(frames), next(frames)
        assert again is first
        assert clipmaker.number_of(later.image) == 24
        assert next(frames, None) is None
        assert first.image.flags.c_contiguous
        assert list(video.frames_at([])) == []
        with pytest.raises(ValueError, match="ascending"):
            list(video.frames_at([1.0, 0.5]))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b"", b"this is a text\n" * 200], ids=["empty", "text"])
def test_non_videos_are_errors(reader: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(ReaderError, match=r"notes\.mp4") as caught:
        open_video(path, reader=reader)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_audio_only_file_is_an_error(reader: str, tmp_path: Path) -> None:
    path = clipmaker.write_sound(tmp_path / "sound.mp4")
    with pytest.raises(ReaderError, match=r"sound\.mp4"):
        open_video(path, reader=reader)


@pytest.mark.parametrize(("reader", "package"), [("opencv", "cv2"), ("decord", "decord")])
def test_missing_reader_package_is_an_error(
    reader: str,
    package: str,
    made: Callable[[str], clipmaker.Clip],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ReaderError, match="not installed") as caught:
        open_video(made("constant").path, reader=reader)
    assert caught.value.hint == "pip install 'smolvideo[readers]'"


def test_unknown_reader_and_missing_file_are_errors(
    tmp_path: Path, made: Callable[[str], clipmaker.Clip]
) -> None:
    with pytest.raises(UsageError, match="torchcodec"):
        open_video(made("constant").path, reader="torchcodec")
    with pytest.raises(ReaderError, match="no such file"):
        open_video(tmp_path / "nothing.mp4")


def test_path_may_be_a_str(made: Callable[[str], clipmaker.Clip]) -> None:
    with open_video(str(made("constant").path)) as reader:
        assert reader.metadata.name == made("constant").path.name


def test_audio_only_error_names_the_sound(tmp_path: Path) -> None:
    path = clipmaker.write_sound(tmp_path / "sound.mp4")
    with pytest.raises(ReaderError, match="no video stream") as caught:
        open_video(path)
    assert caught.value.hint == "it holds sound only"


# ---------------------------------------------------------------------- damage


def test_truncated_recording_ends_with_its_data(tmp_path: Path) -> None:
    whole = clipmaker.write_clip(tmp_path / "whole.mkv", clipmaker.evenly(100, 10), gop=10)
    path = clipmaker.cut(whole.path, tmp_path / "part.mkv", 0.5)
    with open_video(path) as video:
        last = video.metadata.last_pts_seconds
        assert last is not None
        assert 2 < last < 8
        assert video.metadata.duration_seconds < 9
        numbers = [clipmaker.number_of(f.image) for f in video.frames_at([0.0, last, 9.9])]
    assert numbers == [0, round(last * 10), round(last * 10)]


def test_missing_header_is_an_error(tmp_path: Path) -> None:
    whole = clipmaker.write_clip(tmp_path / "whole.mp4", clipmaker.evenly(50, 10))
    path = clipmaker.cut(whole.path, tmp_path / "part.mp4", 0.6)
    with pytest.raises(ReaderError, match=r"part\.mp4") as caught:
        open_video(path)
    assert caught.value.hint


def test_hole_in_a_file_loses_only_its_frames(tmp_path: Path) -> None:
    whole = clipmaker.write_clip(
        tmp_path / "whole.mp4", clipmaker.evenly(200, 10), gop=10, b_frames=0
    )
    path = clipmaker.tear(whole.path, tmp_path / "torn.mp4", 0.4, 0.6)
    times = [place / 10 for place in range(0, 200, 5)]
    with open_video(path) as video:
        frames = list(video.frames_at(times))
        (at_start,) = video.frames_at([0.0])
    assert clipmaker.number_of(at_start.image) == 0
    whole_ones = [f for f in frames if f.pts_seconds < 7 or f.pts_seconds > 14]
    assert len(whole_ones) >= 24
    assert len(times) // 2 < len(frames) < len(times), "no picture stands in for damage for long"
    for frame in whole_ones:
        assert clipmaker.number_of(frame.image) == round(frame.pts_seconds * 10)


def test_file_without_decodable_frames_is_an_error(tmp_path: Path) -> None:
    whole = clipmaker.write_clip(tmp_path / "whole.mkv", clipmaker.evenly(50, 10), codec="mpeg4")
    data = whole.path.read_bytes()
    # The stream says H.264, the packets hold something else.
    path = tmp_path / "garbage.mkv"
    path.write_bytes(data.replace(b"V_MPEG4/ISO/ASP", b"V_MPEG4/ISO/AVC"))
    with pytest.raises(ReaderError, match=r"no decodable video frames in `garbage\.mkv`"):
        open_video(path)


def test_edit_list_hides_frames_before_its_start(tmp_path: Path) -> None:
    """An edit list with a later start, as written by a cut without re-encoding."""
    clip = clipmaker.write_clip(tmp_path / "a.mp4", clipmaker.evenly(40, 10), gop=40, b_frames=0)
    data = bytearray(clip.path.read_bytes())
    place = data.index(b"elst") + 4 + 8
    duration, start = struct.unpack_from(">ii", data, place)
    # 1.5 s of the media are hidden; media time is in ticks of the track, duration of the movie.
    timescale = int.from_bytes(data[(m := data.index(b"mdhd") + 4 + 12) : m + 4], "big")
    movie = int.from_bytes(data[(m := data.index(b"mvhd") + 4 + 12) : m + 4], "big")
    struct.pack_into(">ii", data, place, duration - movie * 3 // 2, start + timescale * 3 // 2)
    clip.path.write_bytes(bytes(data))
    with open_video(clip.path) as video:
        times = video.frame_times()
        assert len(times) == 25 == video.metadata.num_frames
        assert times == pytest.approx([place / 10 for place in range(25)], abs=0.001)
        numbers = [clipmaker.number_of(frame.image) for frame in video.frames_at(times)]
    assert numbers == list(range(15, 40))


def test_raw_stream_times_follow_the_nominal_rate(tmp_path: Path) -> None:
    clip = clipmaker.write_clip(tmp_path / "raw.h264", clipmaker.evenly(50, 25), b_frames=0)
    with open_video(clip.path) as video:
        times = video.frame_times()
        assert times == pytest.approx(clip.times, abs=0.001)
        found = video.frames_at([0.5, 0.9, 9.0])
        assert [clipmaker.number_of(frame.image) for frame in found] == [12, 22, 49]
        # No times to seek by: going back decodes from the beginning.
        back = [clipmaker.number_of(next(video.frames_at([at])).image) for at in (1.5, 0.9, 0.0)]
    assert back == [37, 22, 0]


def test_playlists_open_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(ReaderError, match=r"list\.m3u8"):
        open_video(path)


def test_pipe_and_folder_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(ReaderError, match="neither a file nor a folder"):
        open_video(pipe)
    with pytest.raises(ReaderError, match="is a folder"):
        open_video(tmp_path)


def test_huge_frames_are_refused(tmp_path: Path) -> None:
    width = 20000
    bitmap = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54)
    bitmap += struct.pack("<IiiHHIIiiII", 40, width, width, 1, 24, 0, 0, 0, 0, 0, 0)
    path = tmp_path / "bomb.bmp"
    path.write_bytes(bitmap)
    assert width * width > MAX_PIXELS
    for kind in ("image", "video"):
        with pytest.raises(ReaderError, match=r"bomb\.bmp"):
            open_video(path, kind=kind)  # type: ignore[arg-type]


def test_broken_videos_in_several_threads_do_not_deadlock(tmp_path: Path) -> None:
    """Freeing a decoder while its threads log messages must not wait for Python's lock.

    This hung within seconds while FFmpeg's messages went through Python.
    """
    whole = clipmaker.write_clip(tmp_path / "whole.mp4", clipmaker.evenly(90, 30)).path
    torn = clipmaker.tear(whole, tmp_path / "torn.mp4", 0.3, 0.7)

    def read_a_little(_: int) -> int:
        with open_video(torn) as reader:
            return len(list(reader.frames_at([0.5, 2.0])))

    with ThreadPoolExecutor(3) as pool:
        assert len(list(pool.map(read_a_little, range(60)))) == 60
    assert av.logging.get_level() is None
