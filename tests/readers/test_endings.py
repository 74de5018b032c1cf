"""Endings of files: truncation, trailing bytes and joined files are read or reported."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import clipmaker

from smolvideo.errors import ReaderError
from smolvideo.frames import VideoMetadata
from smolvideo.readers import open_video
from smolvideo.readers.packet_times import without_absurd
from smolvideo.readers.registry import open_in_process

FPS = 24
VP8 = {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "-8", "b:v": "2M"}}
FORMATS: dict[str, dict] = {
    "mp4": {"container_options": {"movflags": "faststart"}},
    "mkv": {},
    "webm": VP8,
    "flv": {},
    "ts": {},
    "avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "wmv": {"codec": "wmv2", "options": {"b": "4M"}},
    "ivf": VP8,
    "mxf": {"codec": "mpeg2video"},
    "nut": {},
    "mpg": {"codec": "mpeg2video"},
    "h264": {},
    "m2v": {"codec": "mpeg2video"},
    "mjpeg": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "gif": {"codec": "gif", "pixel_format": "rgb8"},
    "apng": {"codec": "apng", "pixel_format": "rgb24"},
}
SILENT_ABOUT_LENGTH = {"nut", "mpg", "h264", "m2v", "mjpeg", "gif", "apng"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("endings")


def make(folder: Path, kind: str, number: int = 0, count: int = 48) -> Path:
    path = folder / f"{number}.{count}.{kind}"
    if not path.exists():
        images = [clipmaker.numbered_image(number + place) for place in range(count)]
        clipmaker.write_clip(path, clipmaker.evenly(count, FPS), images=images, **FORMATS[kind])
    return path


def metadata(path: Path) -> VideoMetadata:
    with open_in_process(path, "pyav") as video:
        return video.metadata


def numbers(path: Path) -> list[int]:
    with open_in_process(path, "pyav") as video:
        frames = video.frames_at(video.frame_times())
        return [clipmaker.number_of(frame.image) for frame in frames]


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in SILENT_ABOUT_LENGTH])
def test_truncated_file_has_a_notice(kind: str, folder: Path, tmp_path: Path) -> None:
    whole = make(folder, kind)
    assert metadata(whole).notices == ()
    known = metadata(clipmaker.cut(whole, tmp_path / f"a.{kind}", 0.7))
    assert known.truncated
    assert known.duration_seconds < 2.0
    (notice,) = known.notices
    last = int(10 * known.last_pts_seconds) / 10
    assert notice.startswith(f"`a.{kind}` is truncated: the file breaks off at 00:0{last:.1f}")
    if kind in ("mp4", "mkv", "webm", "flv", "mxf"):
        assert notice.endswith(" of 00:02.0")
        assert known.claimed_seconds == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("reader", ["opencv", "decord"])
def test_other_readers_report_truncation(reader: str, folder: Path, tmp_path: Path) -> None:
    path = clipmaker.cut(make(folder, "mkv"), tmp_path / "a.mkv", 0.7)
    with open_video(path, reader=reader) as video:
        assert video.metadata.reader == reader
        assert video.metadata.notices[0].startswith("`a.mkv` is truncated")


def test_duration_in_the_header_reveals_truncation(folder: Path, tmp_path: Path) -> None:
    """An FLV that ends between two tags looks complete otherwise."""
    whole = make(folder, "flv").read_bytes()
    tag, ends = 13, []
    while tag < len(whole):
        tag += 15 + int.from_bytes(whole[tag + 1 : tag + 4], "big")
        ends.append(tag)
    path = tmp_path / "a.flv"
    path.write_bytes(whole[: ends[len(ends) // 2]])
    (notice,) = metadata(path).notices
    assert notice.startswith("`a.flv` is truncated")
    assert notice.endswith(" of 00:02.0")


def test_longer_text_track_is_no_truncation(tmp_path: Path) -> None:
    texts = [(0.0, 1.0, "one"), (1.0, 30.0, "two")]
    times = clipmaker.evenly(24, FPS)
    assert metadata(clipmaker.write_clip(tmp_path / "a.mp4", times, texts=texts).path).notices == ()


def test_sparse_frames_are_no_truncation(tmp_path: Path) -> None:
    times = [0.0, 20.0, 40.0]
    assert metadata(clipmaker.write_clip(tmp_path / "a.mkv", times).path).notices == ()


def test_zeros_in_place_of_the_rest_are_truncation(folder: Path, tmp_path: Path) -> None:
    """As left by a download with preallocated space."""
    whole = make(folder, "ts").read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(whole[: len(whole) // 376 * 188].ljust(len(whole), b"\0"))
    assert metadata(path).unread_bytes == pytest.approx(len(whole) / 2, abs=188)


@pytest.mark.parametrize(
    ("tail", "unread"), [(bytes(range(1, 256)) * 40, 10200), (bytes(1100), 0), (b"TAG" * 42, 0)]
)
@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_trailing_bytes_are_counted(
    kind: str, tail: bytes, unread: int, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(make(folder, kind).read_bytes() + tail)
    known = metadata(path)
    assert known.unread_bytes == pytest.approx(unread, abs=188)
    assert known.duration_seconds == pytest.approx(2.0, abs=0.1)
    said = f"{known.unread_bytes} bytes at the end of `a.{kind}` were not read"
    assert [notice.split(":")[0] for notice in known.notices] == ([said] if unread else [])


SAME = [(kind, kind) for kind in ("nut", "ivf", "mxf")]
MIXED = [("mp4", "mkv"), ("mkv", "mp4"), ("flv", "mkv"), ("ts", "mkv"), ("mkv", "ts")]
MIXED += [("mp4", "flv"), ("avi", "mp4"), ("wmv", "mp4"), ("ivf", "flv"), ("mp4", "mpg")]
MIXED += [("nut", "gif"), ("h264", "mkv"), ("m2v", "h264"), ("mjpeg", "mp4"), ("gif", "ts")]
MIXED += [("mpg", "webm"), ("flv", "avi"), ("avi", "mjpeg"), ("ivf", "h264")]


@pytest.mark.parametrize(("kind", "other"), SAME + MIXED)
def test_two_joined_files_are_both_read(
    kind: str, other: str, folder: Path, tmp_path: Path
) -> None:
    path = clipmaker.join(tmp_path / f"a.{kind}", make(folder, kind), make(folder, other, 100))
    assert numbers(path) == [*range(48), *range(100, 148)]
    known = metadata(path)
    assert known.duration_seconds == pytest.approx(4.0, abs=0.1)
    assert [place.seconds for place in known.discontinuities] == pytest.approx([2.0], abs=0.1)


@pytest.mark.parametrize(
    "kinds",
    [
        *(
            ("mp4", "mkv", "mp4"),
            ("mkv", "mp4", "mp4"),
            ("ts", "mkv", "mp4"),
            ("mkv", "ivf", "mp4"),
        ),
        *(("ts", "mkv", "ts"), ("flv", "ts", "flv"), ("mpg", "flv", "mpg"), ("mkv", "ts", "ts")),
        *(("h264", "gif", "h264"), ("nut", "mpg", "nut")),
    ],
)
def test_three_joined_files_are_all_read(
    kinds: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    files = [make(folder, kind, 100 * place) for place, kind in enumerate(kinds)]
    path = clipmaker.join(tmp_path / f"a.{kinds[0]}", *files)
    assert numbers(path) == [100 * place + number for place in range(3) for number in range(48)]


@pytest.mark.parametrize("kind", ["mkv", "webm", "mp4"])
def test_truncated_part_before_another_has_a_notice(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    cut = clipmaker.cut(make(folder, kind, 0, 96), tmp_path / f"cut.{kind}", 0.6)
    known = metadata(clipmaker.join(tmp_path / f"a.{kind}", cut, make(folder, kind, 100)))
    begins = [place.seconds for place in known.discontinuities]
    assert known.cut_seconds == pytest.approx(begins, abs=0.1)
    assert known.notices[1].startswith(f"files joined in `a.{kind}` are truncated: they break off")
    assert not known.truncated


@pytest.mark.parametrize("kind", ["ts", "mpg", "gif", "nut"])
def test_other_format_after_a_truncated_part_is_read(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    cut = clipmaker.cut(make(folder, kind, 0, 96), tmp_path / f"cut.{kind}", 0.6)
    path = clipmaker.join(tmp_path / f"a.{kind}", cut, make(folder, "mkv", 100), make(folder, kind))
    assert numbers(path)[-96:] == [*range(100, 148), *range(48)]


def test_trailing_garbage_of_ivf_has_a_notice(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ivf"
    path.write_bytes(make(folder, "ivf").read_bytes() + bytes(range(1, 256)) * 40)
    (notice,) = metadata(path).notices
    assert notice == "a part of `a.ivf` without video that can be read: missing at 00:02"


def test_unreadable_part_has_a_notice(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mpg"
    empty_animation = b"GIF89a" + bytes((16, 0, 16, 0, 0, 0, 0)) + b";"
    path.write_bytes(make(folder, "mpg").read_bytes() + empty_animation.ljust(400, b"\0"))
    notice = metadata(path).notices[-1]
    assert notice == "a part of `a.mpg` without video that can be read: missing at 00:02"


@pytest.mark.parametrize("other", ["apng", "mkv"])
def test_trailing_bytes_of_an_animation_are_counted(
    other: str, folder: Path, tmp_path: Path
) -> None:
    second = make(folder, other, 100)
    path = clipmaker.join(tmp_path / "a.apng", make(folder, "apng"), second)
    with open_in_process(path, "pictures") as video:
        assert video.metadata.unread_bytes == second.stat().st_size
        assert [notice.split(":")[0] for notice in video.metadata.notices] == [
            f"{second.stat().st_size} bytes at the end of `a.apng` were not read"
        ]


def test_very_short_part_keeps_its_frames(tmp_path: Path) -> None:
    """The next part begins at 0, a backward step below the tolerance for discontinuities."""
    files = [make(tmp_path, "mkv", number, 2) for number in (0, 100)]
    assert numbers(clipmaker.join(tmp_path / "a.mkv", *files)) == [0, 1, 100, 101]


def test_missing_movie_box_is_an_error(folder: Path, tmp_path: Path) -> None:
    clip = clipmaker.write_clip(tmp_path / "whole.mp4", clipmaker.evenly(24, FPS))
    with pytest.raises(ReaderError, match="header is lost") as caught:
        metadata(clipmaker.cut(clip.path, tmp_path / "a.mp4", 0.6))
    assert "truncated" in (caught.value.hint or "")


# ---------------------------------------------------------------------- absurd times


@given(
    st.lists(st.floats(0.01, 3600.0), min_size=8, max_size=60),
    st.lists(st.floats(1e9, 1e16) | st.floats(-1e16, -1e9), max_size=2),
)
def test_time_stamps_years_apart_are_dropped(steps: Sequence[float], odd: list[float]) -> None:
    times = [sum(steps[:place]) for place in range(len(steps))]
    assert without_absurd([*odd, *times]) == times


@given(st.lists(st.floats(0.0, 1e5), min_size=1, max_size=40))
def test_time_stamps_without_a_gap_of_days_are_kept(times: list[float]) -> None:
    kept = without_absurd(times)
    if all(after - before < 86400 for before, after in pairwise(sorted(times))):
        assert kept == sorted(times)
    assert kept
