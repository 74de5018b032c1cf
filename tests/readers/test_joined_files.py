"""Truncated recordings followed by another file: frames of both are read, or a notice names the
loss.
"""

from pathlib import Path

import av
import numpy as np
import pytest
from support import clipmaker

from smolvideo.frames import VideoMetadata
from smolvideo.readers import open_video
from smolvideo.readers.part_finder import find_parts
from smolvideo.readers.registry import open_in_process

FPS = 24
FORMATS = {
    "mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}},
    "mkv": {},
    "webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "-8", "b:v": "2M"}},
    "wmv": {"codec": "wmv2", "options": {"b": "4M"}},
    "ogv": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "-8", "b:v": "2M"}},
}
BROKEN_OFF = [
    *((kind, cut) for kind in ("mp4", "mkv", "wmv", "ogv") for cut in (0.6, -20)),
    ("webm", 0.6),
    ("mp4", -200),
    ("mkv", -200),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reconnected")


def make(folder: Path, kind: str, count: int, number: int = 0, **options) -> Path:
    """Write a cached clip of frames numbered from ``number``."""
    path = folder / f"{len(options)}.{count}.{number}.{kind}"
    if not path.exists():
        images = [clipmaker.numbered_image(number + place) for place in range(count)]
        every = {"gop": 6, **(options or FORMATS[kind])}
        clipmaker.write_clip(path, clipmaker.evenly(count, FPS), images=images, **every)
    return path


def broken(source: Path, target: Path, cut: float) -> Path:
    """Write the first ``cut`` share of a file, or cut off ``-cut`` bytes."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * cut) if cut > 0 else int(cut)])
    return target


def shown(path: Path, seconds: list[float]) -> list[int]:
    with open_video(path) as video:
        return [clipmaker.number_of(frame.image) for frame in video.frames_at(seconds)]


def metadata(path: Path) -> VideoMetadata:
    with open_video(path) as video:
        return video.metadata


@pytest.mark.parametrize("count", [12, 72])
@pytest.mark.parametrize(("kind", "cut"), BROKEN_OFF)
def test_file_after_a_truncated_one_is_found(
    kind: str, cut: float, count: int, folder: Path, tmp_path: Path
) -> None:
    """The header of the first puts its end inside of the next file or after it."""
    first = broken(make(folder, kind, 48), tmp_path / f"cut.{kind}", cut)
    assert len(find_parts(first)) <= 1
    path = clipmaker.join(tmp_path / f"a.{kind}", first, make(folder, kind, count, 100))
    known = metadata(path)
    (begins,) = (place.seconds for place in known.discontinuities)
    assert 0.5 < begins < 2.1
    assert known.missing_seconds == ()
    assert known.duration_seconds == pytest.approx(begins + count / FPS, abs=0.1)
    wanted = [0.0, begins + 0.001, begins + 0.251, known.last_pts_seconds + 0.001]
    assert shown(path, wanted) == [0, 100, 106, 99 + count]


@pytest.mark.parametrize("flags", ["", "faststart"])
@pytest.mark.parametrize(("cut", "count"), [(0.6, 12), (0.6, 72), (-20, 12)])
def test_truncated_mp4_without_fragments_before_the_next(
    flags: str, cut: float, count: int, folder: Path, tmp_path: Path
) -> None:
    """Without its movie box the first part is lost, with a notice; the second is read."""
    options = {"container_options": {"movflags": flags}} if flags else {"b_frames": 0, "gop": 6}
    first = broken(make(folder, "mp4", 48, **options), tmp_path / "cut.mp4", cut)
    path = clipmaker.join(tmp_path / "a.mp4", first, make(folder, "mov", count, 100, gop=6))
    known = metadata(path)
    if flags or cut == -20:
        (begins,) = (place.seconds for place in known.discontinuities)
        assert shown(path, [0.0, begins + 0.001, begins + 0.251]) == [0, 100, 106]
        return
    assert known.notices == ("a part of `a.mp4` without video that can be read: missing at 00:00",)
    assert known.duration_seconds == pytest.approx(count / FPS, abs=0.1)
    assert shown(path, [0.0, 0.25]) == [100, 106]


def test_last_part_without_its_movie_box_is_reported(folder: Path, tmp_path: Path) -> None:
    whole = make(folder, "mov", 12, 100, gop=6)
    last = broken(make(folder, "mp4", 48, b_frames=0, gop=6), tmp_path / "cut.mp4", 0.6)
    known = metadata(clipmaker.join(tmp_path / "a.mp4", whole, last))
    assert known.missing_seconds == pytest.approx((0.5,), abs=0.1)
    assert known.duration_seconds == pytest.approx(0.5, abs=0.1)


def write_sound(path: Path, seconds: float) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = np.zeros((1, round(seconds * 16000)), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("with_sound", [False, True])
@pytest.mark.parametrize("seconds", [2.0, 20.0])
def test_audio_only_tail_is_not_read_as_video(
    with_sound: bool, seconds: float, folder: Path, tmp_path: Path
) -> None:
    """Its packets have the stream id of the video before it."""
    sound = {"sound_seconds": 4.0, "gop": 12} if with_sound else {"gop": 12}
    clip = make(folder, "ts", 96, **sound)
    path = clipmaker.join(tmp_path / "a.ts", clip, write_sound(tmp_path / "s.ts", seconds))
    with open_video(path) as video, open_video(clip) as alone:
        assert video.frame_times() == pytest.approx(alone.frame_times(), abs=0.002)
        assert video.metadata.duration_seconds == pytest.approx(4.0, abs=0.2)
        assert video.metadata.discontinuities == ()
        assert [notice[-16:] for notice in video.metadata.notices] == ["missing at 00:04"]
    assert shown(path, [0.2, 2.0, 3.8])[1:] == shown(clip, [0.2, 2.0, 3.8])[1:]


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("kind", ["ts", "flv", "mp4", "mkv"])
def test_audio_only_part_among_others_has_a_notice(
    kind: str, place: str, folder: Path, tmp_path: Path
) -> None:
    """FFmpeg takes its streams from the first file, which may be the audio."""
    sound = write_sound(tmp_path / f"s.{kind}", 3.0)
    count, number = 24, 100
    one, other = (make(folder, kind, count, first, gop=6) for first in (0, number))
    files = {"first": [sound, one], "middle": [one, sound, other], "last": [one, sound]}[place]
    with open_in_process(clipmaker.join(tmp_path / f"a.{kind}", *files), "pyav") as video:
        known, times = video.metadata, video.frame_times()
        found = [clipmaker.number_of(frame.image) for frame in video.frames_at(times)]
    both = place == "middle"
    assert found == [*range(count), *(range(number, number + count) if both else ())]
    assert known.missing_seconds == pytest.approx((0.0 if place == "first" else 1.0,), abs=0.1)
    assert "without video that can be read" in known.notices[-1]
    assert known.duration_seconds == pytest.approx(2.0 if both else 1.0, abs=0.1)
