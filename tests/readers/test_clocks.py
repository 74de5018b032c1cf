"""Recordings whose time stamps restart or jump are read on one continuous clock."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import pytest
from support import clipmaker

from smolvideo.errors import ReaderError
from smolvideo.frames import VideoMetadata
from smolvideo.pipeline import load_frames
from smolvideo.readers import open_video
from smolvideo.readers.discontinuities import Part
from smolvideo.readers.joined_reader import JoinedReader
from smolvideo.readers.part_finder import find_parts
from smolvideo.readers.pyav import PyavReader
from smolvideo.readers.registry import open_in_process
from smolvideo.sampling import FrameSampling

FPS = 24
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
FORMATS = {
    "ts": {},
    "m2ts": {"container_options": {"mpegts_m2ts_mode": "1"}},
    "mpg": {"codec": "mpeg2video"},
    "vob": {"codec": "mpeg2video"},
    "flv": {},
    "mp4": {"container_options": FRAGMENTED},
    "mkv": {},
    "webm": {"codec": "libvpx", "options": {"deadline": "realtime", "b:v": "2M"}},
    "wmv": {"codec": "wmv2", "options": {"b": "4M"}},
    "mov": {"container_options": {"movflags": "frag_keyframe"}},
}
SHIFTED = [kind for kind in FORMATS if kind not in ("mov", "webm", "wmv")]
"""Formats for shifted clips: mov has frames outside of fragments; webm and wmv act like mkv."""
NEAR = 0.002
"""Tolerance in seconds: FLV rounds to milliseconds."""

Make = Callable[..., clipmaker.Clip]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that writes a cached clip of ``count`` frames numbered from ``number``."""
    made: dict[str, clipmaker.Clip] = {}
    folder = tmp_path_factory.mktemp("parts")

    def make(kind: str, count: int = 24, *, number: int = 0, size=(128, 96), **options):
        key = repr((kind, count, number, size, options))
        if key not in made:
            images = [clipmaker.numbered_image(number + place, *size) for place in range(count)]
            times = options.pop("times", clipmaker.evenly(count, options.pop("fps", FPS)))
            path = folder / f"{len(made)}.{kind}"
            made[key] = clipmaker.write_clip(
                path, times, images=images, **{**FORMATS[kind], **options}
            )
            if kind == "mp4":
                clipmaker.shift_fragments(path, options.get("starts_at", 0.0))
        return made[key]

    return make


def shown(path: Path, seconds: Sequence[float]) -> list[int]:
    with open_video(path) as video:
        return [clipmaker.number_of(frame.image) for frame in video.frames_at(seconds)]


def metadata(path: Path) -> VideoMetadata:
    with open_video(path) as video:
        return video.metadata


def check_continuous(path: Path, numbers: Sequence[int], fps: int = FPS) -> VideoMetadata:
    """Check that the file shows frames with these numbers in order at a steady rate."""
    with open_video(path) as video:
        times = video.frame_times()
        first = video.metadata.first_pts_seconds  # after 0 where the sound begins before it
        assert times == pytest.approx(
            [first + place / fps for place in range(len(numbers))], abs=NEAR
        )
        assert first < 0.1
        found = list(video.frames_at(times))
        assert [clipmaker.number_of(frame.image) for frame in found] == list(numbers)
        assert [frame.pts_seconds for frame in found] == pytest.approx(times, abs=NEAR)
        assert not any(frame.damage for frame in found)
        middles = [time + 0.5 / fps for time in times[::5]]
        between = [clipmaker.number_of(frame.image) for frame in video.frames_at(middles)]
        assert between == list(numbers)[::5]
        assert video.metadata.last_pts_seconds == pytest.approx(times[-1], abs=NEAR)
        assert times[-1] < video.metadata.duration_seconds < times[-1] + 0.2
        assert video.metadata.average_fps == pytest.approx(fps, rel=0.05)
        return video.metadata


def places(known: VideoMetadata) -> list[float]:
    return [place.seconds for place in known.discontinuities]


# ---------------------------------------------------------------------- joined


@pytest.mark.parametrize("count", [4, 8])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_short_parts_are_read_completely(
    count: int, b_frames: int, make: Make, tmp_path: Path
) -> None:
    """Their backward steps are as small as those of B-frame reordering."""
    parts = [make("ts", count, number=100 * place, b_frames=b_frames) for place in range(6)]
    with open_in_process(clipmaker.join(tmp_path / "joined.ts", *parts), "pyav") as video:
        found = [clipmaker.number_of(one.image) for one in video.frames_at(video.frame_times())]
        assert len(places(video.metadata)) == 5
    assert found == [100 * part + place for part in range(6) for place in range(count)]


@pytest.mark.parametrize(("kind", "count"), [*((kind, 3) for kind in FORMATS), ("ts", 10)])
def test_joined_recordings_are_shown_one_after_the_other(
    kind: str, count: int, make: Make, tmp_path: Path
) -> None:
    parts = [make(kind, number=100 * place) for place in range(count)]
    path = clipmaker.join(tmp_path / f"joined.{kind}", *parts)
    numbers = [100 * part + frame for part in range(count) for frame in range(24)]
    known = check_continuous(path, numbers)
    assert places(known) == pytest.approx(list(range(1, count)), abs=NEAR)
    for place in known.discontinuities:
        assert place.jump_seconds == pytest.approx(-1.0, abs=NEAR)


@pytest.mark.parametrize(
    ("kind", "begins"),
    [*((kind, begins) for kind in SHIFTED for begins in (0.5, 12.0)), ("ts", 3600.0)],
)
def test_backward_and_forward_jumps_are_discontinuities(
    kind: str, begins: float, make: Make, tmp_path: Path
) -> None:
    """Half a second repeated, and gaps of 11 s and an hour."""
    path = clipmaker.join(
        tmp_path / f"joined.{kind}",
        make(kind, starts_at=5.0),
        make(kind, number=100, starts_at=5.0 + begins),
    )
    known = check_continuous(path, [*range(24), *range(100, 124)])
    assert places(known) == pytest.approx([1.0], abs=NEAR)
    assert known.discontinuities[0].jump_seconds == pytest.approx(begins - 1, abs=NEAR)


@pytest.mark.parametrize("kind", SHIFTED)
def test_gaps_of_nine_seconds_are_kept(kind: str, make: Make, tmp_path: Path) -> None:
    path = clipmaker.join(
        tmp_path / f"joined.{kind}",
        make(kind, starts_at=5.0),
        make(kind, number=100, starts_at=15.0),
    )
    known = metadata(path)
    assert known.discontinuities == ()
    assert known.last_pts_seconds == pytest.approx(10 + 23 / FPS, abs=NEAR)
    assert shown(path, [0.0, 0.5, 10.001, 10.501, 11.0]) == [0, 12, 100, 112, 123]


# ---------------------------------------------------------------------- parts that differ


@pytest.mark.parametrize(
    "second",
    [
        {"size": (256, 192)},
        {"container_options": {"mpegts_start_pid": "0x300"}},
        {"codec": "mpeg2video"},
        {"codec": "mpeg2video", "container_options": {"mpegts_start_pid": "0x300"}},
        {"gop": 5, "b_frames": 0, "options": {"profile": "baseline"}},
        {"sound_seconds": 1.0},
        {"starts_at": 3600.0, "sound_seconds": 1.0},
    ],
    ids=["size", "pids", "codec", "codec_and_pids", "profile", "sound", "sound_later"],
)
@pytest.mark.parametrize("turned", [False, True], ids=["after", "before"])
def test_each_part_is_decoded_with_its_own_streams(
    second: dict[str, object], turned: bool, make: Make, tmp_path: Path
) -> None:
    parts = [make("ts"), make("ts", number=100, **second)]
    numbers = [*range(24), *range(100, 124)]
    if turned:
        parts, numbers = parts[::-1], [*numbers[24:], *numbers[:24]]
    path = clipmaker.join(tmp_path / "joined.ts", *parts)
    known = check_continuous(path, numbers)
    assert places(known) == pytest.approx([1.0 + known.first_pts_seconds], abs=NEAR)
    assert (known.width, known.height) == ((256, 192) if turned and "size" in second else (128, 96))


@pytest.mark.parametrize("kind", ["ts", "flv"])
def test_truncated_recording_before_the_next(kind: str, make: Make, tmp_path: Path) -> None:
    """Cut within a packet, so that the next packet is misaligned."""
    cut = clipmaker.cut(make(kind, gop=6).path, tmp_path / f"cut.{kind}", 0.7)
    path = clipmaker.join(tmp_path / f"joined.{kind}", cut, make(kind, number=100))
    known = metadata(path)
    assert len(known.discontinuities) == 1
    begins = known.discontinuities[0].seconds
    assert 0.3 < begins < 1.0
    assert known.last_pts_seconds == pytest.approx(begins + 23 / FPS, abs=NEAR)
    assert shown(path, [0.0, begins, begins + 0.5, begins + 1]) == [0, 100, 112, 123]


def test_parts_of_another_frame_size_keep_it(make: Make, tmp_path: Path) -> None:
    path = clipmaker.join(tmp_path / "a.ts", make("ts"), make("ts", number=100, size=(96, 96)))
    with open_video(path) as video:
        (frame,) = video.frames_at([1.5])
        assert frame.image.shape == (96, 128, 3)
        assert frame.image[:, :14].max() < 8, "black on both sides"
        assert frame.image[:, -14:].max() < 8
        assert clipmaker.number_of(frame.image[:, 16:-16]) == 112
        (small,) = video.frames_at([1.5], max_side=64)
        assert small.image.shape == (48, 64, 3)


def test_changed_streams_on_a_continuous_clock(make: Make, tmp_path: Path) -> None:
    """A new program map table without a discontinuity."""
    later = make("ts", number=100, starts_at=6.0, container_options={"mpegts_start_pid": "0x300"})
    path = clipmaker.join(tmp_path / "a.ts", make("ts", starts_at=5.0), later)
    assert check_continuous(path, [*range(24), *range(100, 124)]).discontinuities == ()


# ---------------------------------------------------------------------- MPEG's clock


def test_mpeg_clock_wraps_after_a_day(make: Make, tmp_path: Path) -> None:
    wrap = 2**33 / 90_000
    around = make("ts", 48, starts_at=wrap - 1)
    assert check_continuous(around.path, range(48)).discontinuities == ()

    path = clipmaker.join(tmp_path / "a.ts", around, make("ts", number=100, starts_at=31.0))
    known = check_continuous(path, [*range(48), *range(100, 124)])
    assert places(known) == pytest.approx([2.0], abs=NEAR)
    assert known.discontinuities[0].jump_seconds == pytest.approx(30.0, abs=NEAR)

    before = make("ts", number=200, starts_at=wrap - 3)
    path = clipmaker.join(tmp_path / "b.ts", before, around)
    assert metadata(path).discontinuities == (), "a gap of a second"
    assert shown(path, [0.5, 2.5, 3.5]) == [212, 12, 36]


@pytest.mark.parametrize("kind", ["ts", "flv", "mp4"])
def test_slow_recordings_have_no_discontinuities(kind: str, make: Make) -> None:
    """One frame every twenty seconds."""
    times = [20.0 * place for place in range(6)]
    clip = make(kind, 6, times=times)
    known = metadata(clip.path)
    assert known.discontinuities == known.notices == ()
    if kind != "mp4":  # mp4 states the duration of its last frame
        assert known.duration_seconds == pytest.approx(120.0, abs=0.2)
    assert shown(clip.path, [0, 19, 21, 61, 100]) == [0, 0, 1, 3, 5]


def test_long_still_frame_with_continuous_sound_has_no_discontinuity(make: Make) -> None:
    """Half a minute without a frame is no jump where another stream has time stamps."""
    times = [*clipmaker.evenly(24, 24), 31.0, 31.04]
    at_once = {"times": times, "b_frames": 0, "options": {"tune": "zerolatency"}}
    silent = make("ts", 26, **at_once)
    with_sound = make("ts", 26, **at_once, sound_seconds=32.0)
    assert len(metadata(silent.path).discontinuities) == 1
    assert metadata(with_sound.path).discontinuities == ()
    assert shown(with_sound.path, [0.6, 20.0, 31.1]) == [12, 23, 24]


def test_jump_of_the_sound_alone_does_not_lengthen_the_video(make: Make, tmp_path: Path) -> None:
    clip = make("ts", 72, sound_seconds=3.0)
    path = tmp_path / "a.ts"
    with av.open(str(clip.path)) as source, av.open(str(path), "w") as target:
        copies = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio" and packet.pts * packet.time_base > 2.5:
                ticks = round(3600 / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            packet.stream = copies[packet.stream_index]
            target.mux(packet)
    known = metadata(path)
    assert known.discontinuities == ()
    assert known.duration_seconds == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize("kind", ["mpg", "vob"])
def test_program_stream_with_a_jump_between_key_frames(
    kind: str, make: Make, tmp_path: Path
) -> None:
    """A part that begins without a key frame is found in the middle and at the end."""
    clip = make(kind, 72, gop=48, starts_at=5.0)
    path = clipmaker.join(tmp_path / f"a.{kind}", *clipmaker.split(clip, tmp_path, {30: 3600.0}))
    known = metadata(path)
    assert len(known.discontinuities) == 1
    assert known.duration_seconds == pytest.approx(3.0, abs=0.2)
    assert shown(path, [0.0, 1.0, 2.5]) == [0, 24, 60]


def test_times_of_an_index_have_no_discontinuities(make: Make, tmp_path: Path) -> None:
    times = [*clipmaker.evenly(24, 24), *(3600 + time for time in clipmaker.evenly(24, 24))]
    for name in ("a.mp4", "a.mkv"):
        clip = clipmaker.write_clip(tmp_path / name, times)
        known = metadata(clip.path)
        assert known.discontinuities == ()
        assert known.last_pts_seconds == pytest.approx(times[-1], abs=NEAR)


# ---------------------------------------------------------------------- within a group of pictures


@pytest.mark.parametrize("kind", ["ts", "m2ts", "flv", "mpg", "vob"])
@pytest.mark.parametrize("jumps", [{30: 3600.0}, {30: -1.0}, {30: 3600.0, 40: -3000.0}])
def test_jump_between_key_frames(
    kind: str, jumps: dict[int, float], make: Make, tmp_path: Path
) -> None:
    """Frames that refer to frames before the jump are decoded with them."""
    clip = make(kind, 48, gop=48, starts_at=5.0)
    path = clipmaker.join(tmp_path / f"a.{kind}", *clipmaker.split(clip, tmp_path, jumps))
    known = check_continuous(path, range(48))
    assert [place.jump_seconds for place in known.discontinuities] == pytest.approx(
        list(jumps.values()), abs=NEAR
    )


def test_single_damaged_time_stamp_is_no_discontinuity(make: Make, tmp_path: Path) -> None:
    clip = make("ts", 48, gop=48, starts_at=5.0)
    parts = clipmaker.split(clip, tmp_path, {30: 700.0, 31: -700.0})
    path = clipmaker.join(tmp_path / "a.ts", *parts)
    assert metadata(path).discontinuities == ()


# ---------------------------------------------------------------------- all that has times


def test_text_tracks_follow_the_continuous_clock(make: Make, tmp_path: Path) -> None:
    texts = ((0.25, 0.5, "one"), (0.5, 0.75, "two"))
    parts = [make("mp4", number=100 * place, texts=texts) for place in range(3)]
    with open_video(parts[0].path) as video:
        alone = video.text_track()
    with open_video(clipmaker.join(tmp_path / "a.mp4", *parts)) as video:
        assert len(video.metadata.discontinuities) == 2
        found = video.text_track()
    assert [text.text for text in found] == 3 * ["one", "two"]
    for name in ("start_seconds", "end_seconds"):
        expected = [part + getattr(text, name) for part in range(3) for text in alone]
        assert [getattr(text, name) for text in found] == pytest.approx(expected, abs=NEAR)


def test_sampling_and_its_window_are_on_the_continued_clock(make: Make, tmp_path: Path) -> None:
    parts = [make("ts", number=100 * place, gop=12) for place in range(3)]
    path = clipmaker.join(tmp_path / "a.ts", *parts)

    def numbers(**options: object) -> list[int]:
        batch = load_frames(path, FrameSampling(**options))
        assert [notice for notice in batch.warnings if "timestamp discontinuities" in notice]
        return [clipmaker.number_of(image) for image in batch.images]

    every = [100 * part + frame for part in range(3) for frame in range(24)]
    assert numbers(max_frames=72) == every
    assert numbers(max_frames=4, start_seconds=0.9, end_seconds=2.05) == [21, 106, 116, 201]
    assert numbers(max_frames=9, strategy="keyframes") == [0, 12, 100, 112, 200, 212]
    assert len(numbers(max_frames=9, strategy="changes")) == 9
    assert numbers(max_frames=3, strategy="v1") == [0, 100, 200]
    quick = load_frames(path, FrameSampling(max_frames=6, seek="keyframes"))
    assert quick.pts_seconds == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=NEAR)


def test_notice_names_the_first_discontinuities(make: Make, tmp_path: Path) -> None:
    parts = [make("ts", number=100 * place) for place in range(5)]
    path = clipmaker.join(tmp_path / "a.ts", *parts)
    (notice,) = metadata(path).notices
    assert notice == (
        "timestamp discontinuities in `a.ts` at 00:01 (1 s back), 00:02 (1 s back), "
        "00:03 (1 s back) and 1 more: times count on from there"
    )
    assert metadata(parts[0].path).notices == ()


@pytest.mark.parametrize("reader", ["opencv", "decord"])
@pytest.mark.parametrize("kind", ["flv", "mp4", "mpg"])
def test_other_readers_refuse_discontinuous_files(
    reader: str, kind: str, make: Make, tmp_path: Path
) -> None:
    pytest.importorskip({"opencv": "cv2"}.get(reader, reader))
    path = clipmaker.join(tmp_path / f"a.{kind}", make(kind), make(kind, number=100))
    with pytest.raises(ReaderError, match="clocks that restart or jump"):
        open_video(path, reader=reader)


# ---------------------------------------------------------------------- what it costs


def test_continuous_files_are_scanned_without_ffmpeg(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A continuous clock is recognised from packet headers, without FFmpeg's demuxer."""
    monkeypatch.setattr(
        "smolvideo.readers.part_finder.open_container", lambda *_: pytest.fail("opened")
    )
    for kind in ("ts", "m2ts", "flv", "mp4", "mov", "mkv", "webm"):
        assert len(find_parts(make(kind).path)) <= 1


def test_only_parts_with_wanted_frames_are_opened(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clipmaker.join(tmp_path / "a.ts", *[make("ts", number=100 * n) for n in range(10)])
    opened: list[float] = []

    def count(path: Path, part: Part, *, joined: bool, followed: bool) -> PyavReader:
        opened.append(part.starts_at or 0.0)
        return PyavReader(path, part, joined=joined, followed=followed)

    with contextlib.closing(JoinedReader(path, find_parts(path))) as reader:
        monkeypatch.setattr("smolvideo.readers.joined_reader.PyavReader", count)
        found = [clipmaker.number_of(frame.image) for frame in reader.frames_at([3.0, 3.5, 7.25])]
        assert found == [300, 312, 706]
        assert opened == pytest.approx([3.0, 7.0], abs=NEAR)
        assert len(reader._open) <= 2
