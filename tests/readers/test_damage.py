"""Damaged and truncated files: every decodable frame is read, and damaged frames are flagged."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from support import clipmaker

from smolvideo.errors import ReaderError
from smolvideo.frames import Damage, Frame, Images
from smolvideo.readers import open_video, pyav, video_stream
from smolvideo.readers.forward_decoder import DamageTracker
from smolvideo.readers.packet_times import demux_tolerant
from smolvideo.readers.pyav import PyavReader
from smolvideo.readers.registry import open_in_process
from smolvideo.sampling import DamageCount, FrameSampling, sample_frames
from smolvideo.summaries.windows import stream_windows

QUIET_X265 = {"x265-params": "log-level=none"}
FASTSTART = {"movflags": "faststart"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}

Make = Callable[[Path], clipmaker.Clip]
MAKERS: dict[str, Make] = {
    "faststart": lambda folder: clip(folder / "a.mp4", container_options=FASTSTART),
    "hevc": lambda folder: clip(
        folder / "a.mp4", codec="libx265", options=QUIET_X265, container_options=FASTSTART
    ),
    "fragmented": lambda folder: clip(folder / "a.mp4", container_options=FRAGMENTED),
    "matroska": lambda folder: clip(folder / "a.mkv"),
    "webm": lambda folder: clip(
        folder / "a.webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "-8"}
    ),
    "transport": lambda folder: clip(folder / "a.ts"),
    "flash": lambda folder: clip(folder / "a.flv"),
}


def noisy(count: int) -> list[Images]:
    """Encode numbered frames with moving noise, so that packets are large enough to damage."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (clipmaker.HEIGHT * 2, clipmaker.WIDTH, 3), dtype=np.uint8)
    images = []
    for number in range(count):
        image = clipmaker.numbered_image(number)
        image[clipmaker.HEIGHT // 2 :] += np.roll(noise, 7 * number, 0)[: clipmaker.HEIGHT // 2]
        images.append(image)
    return images


def clip(path: Path, *, gop: int = 20, **more: object) -> clipmaker.Clip:
    times = clipmaker.evenly(60, 20)
    return clipmaker.write_clip(path, times, gop=gop, images=noisy(60), **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Packet:
    seconds: float
    start: int
    size: int
    is_key: bool


def packets_in(path: Path) -> list[Packet]:
    """Return the packets of a file in order, for containers that store each in one piece."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            Packet(float(p.pts * stream.time_base), p.pos, p.size, p.is_keyframe)
            for p in container.demux(stream)
            if p.size
        ]


def spoil(path: Path, packet: Packet, share: float = 0.3, filling: bytes = b"\0") -> Path:
    """Copy the file with the end of a packet overwritten; its headers stay intact."""
    data = bytearray(path.read_bytes())
    first = packet.start + int(packet.size * (1 - share))
    data[first : packet.start + packet.size] = filling * (packet.start + packet.size - first)
    target = path.with_stem("spoilt")
    target.write_bytes(data)
    return target


def is_noticed(path: Path) -> bool:
    """Whether the decoder reports an error.

    The arithmetic coding of H.264 and HEVC has little redundancy: not all damage can be detected.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        try:
            return any(frame.is_corrupt for frame in container.decode(stream))
        except av.error.InvalidDataError:
            return True


def spoil_noticeably(path: Path, packets: Sequence[Packet]) -> Path:
    """Copy the file with one packet damaged so that the decoder notices, the largest first."""
    for packet in sorted(packets, key=lambda packet: -packet.size):
        for filling in (b"\x5a", b"\xff", b"\0"):
            for share in (0.3, 0.7, 0.9):
                if is_noticed(target := spoil(path, packet, share, filling)):
                    return target
    raise AssertionError("no damage is noticed")


def decode_alone(path: Path) -> dict[float, Images]:
    """Decode on one thread from beginning to end; map ascending seconds to frames."""
    found: dict[float, Images] = {}
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.thread_type = "NONE"
        origin = (container.start_time or 0) / 1e6
        for packet in demux_tolerant(container, stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                seconds = round(float(frame.pts * stream.time_base) - origin, 6)
                if not found or seconds > max(found):
                    found[seconds] = frame.to_ndarray(format="rgb24")
    return found


@pytest.fixture
def eight_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use eight decoding threads as on a machine with many cores, where decoders delay
    frames most.
    """
    for module in (video_stream, pyav):
        monkeypatch.setattr(module, "decoding_threads", lambda pixels: 8)
        monkeypatch.setattr(module, "usable_cores", lambda: 8)


@pytest.mark.usefixtures("eight_threads")
@pytest.mark.parametrize("name", MAKERS)
def test_threaded_decoding_keeps_all_frames_of_a_truncated_file(name: str, tmp_path: Path) -> None:
    whole = MAKERS[name](tmp_path)
    path = clipmaker.cut(whole.path, tmp_path / f"part{whole.path.suffix}", 0.6)
    expected = decode_alone(path)
    assert 10 < len(expected) < 60
    with PyavReader(path) as reader:
        found = list(reader.frames_at(sorted(expected)))
        (last,) = reader.frames_at([reader.metadata.last_pts_seconds or 0.0])
    assert [frame.pts_seconds for frame in found] == pytest.approx(sorted(expected), abs=1e-5)
    assert last.pts_seconds == pytest.approx(max(expected), abs=1e-5)
    for frame, seconds in zip(found, sorted(expected), strict=True):
        difference = np.abs(frame.image.astype(int) - expected[seconds])
        assert difference.mean() < 1, f"{seconds} s"
    assert not any(frame.damage for frame in found[:-2])


@pytest.mark.usefixtures("eight_threads")
@pytest.mark.parametrize("name", ["faststart", "matroska", "flash"])
def test_frames_are_flagged_from_the_damage_to_the_next_key_frame(
    name: str, tmp_path: Path
) -> None:
    whole = MAKERS[name](tmp_path)
    good = decode_alone(whole.path)
    packets = packets_in(whole.path)
    keys = sorted(packet.seconds for packet in packets if packet.is_key)
    path = spoil_noticeably(
        whole.path, [p for p in packets if not p.is_key and 0.1 < p.seconds - keys[1] < 0.7]
    )
    origin = packets[0].seconds - min(good)
    with PyavReader(path) as reader:
        frames = {frame.pts_seconds: frame for frame in reader.frames_at(sorted(good))}
    wrong = {
        seconds
        for seconds, frame in frames.items()
        if np.abs(frame.image.astype(int) - good[seconds]).mean() > 0.5
    }
    damaged = {seconds for seconds, frame in frames.items() if frame.damage}
    assert damaged
    assert wrong or len(frames) < len(good), "the damage shows"
    assert wrong <= damaged
    first, end = keys[1] - origin, keys[2] - origin
    assert all(first < seconds < end for seconds in damaged)


@pytest.mark.parametrize("name", ["faststart", "transport"])
def test_frame_flagged_by_the_decoder_is_corrupt(name: str, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path).path
    data = bytearray(path.read_bytes())
    if name == "transport":  # packets lost on the way
        for start in (len(data) // 2 // 188 * 188 + 188 * place for place in (0, 2)):
            data[start : start + 188] = b"G\x1f\xff\x10" + bytes(184)
    else:
        hit = packets_in(path)[30]
        data[hit.start + hit.size // 2 : hit.start + hit.size] = bytes(hit.size - hit.size // 2)
    path.write_bytes(data)
    with open_video(path) as video:
        kinds = [frame.damage for frame in video.frames_at(video.frame_times())]
    assert "corrupt" in kinds
    assert kinds.index("corrupt") > 10
    assert kinds[:10] == [""] * 10


def test_sampling_warns_with_the_number_of_damaged_frames(tmp_path: Path) -> None:
    path = MAKERS["faststart"](tmp_path).path
    path = spoil_noticeably(
        path, [p for p in packets_in(path) if not p.is_key and 1.3 < p.seconds < 1.7]
    )
    with open_video(path) as video:
        batch = sample_frames(video, FrameSampling(max_frames=30))
        early = sample_frames(video, FrameSampling(max_frames=10, end_seconds=0.9))
    (warning,) = batch.warnings
    assert warning.startswith("`spoilt.mp4` is damaged: of 30 frames ")
    assert "at 00:01; what they show may be wrong" in warning
    assert early.warnings == (), "only what was used is spoken of"


def test_last_window_has_the_damage_warning(tmp_path: Path) -> None:
    path = MAKERS["faststart"](tmp_path).path
    path = spoil_noticeably(
        path, [p for p in packets_in(path) if not p.is_key and 1.3 < p.seconds < 1.7]
    )
    with open_video(path) as video, open_video(path) as other:
        windows = list(
            stream_windows(
                video,
                window_seconds=1.0,
                frames=10,
                fit=lambda image: image,
                geometry="",
                look_closely=lambda times: list(other.frames_at(times)),
            )
        )
    assert len(windows) > 1
    assert [bool(window.batch.warnings) for window in windows[:-1]] == [False] * (len(windows) - 1)
    (warning,) = windows[-1].batch.warnings
    assert "is damaged" in warning


class Shown:
    """A reader with one frame per second, each with the given damage."""

    def __init__(self, kinds: list[Damage]) -> None:
        image = np.zeros((2, 2, 3), dtype=np.uint8)
        self.frames = [Frame(image, float(place), kind) for place, kind in enumerate(kinds)]


def counted(kinds: list[Damage], requested: int) -> DamageCount:
    count = DamageCount("a.mp4", requested)
    for frame in Shown(kinds).frames:
        count.add(frame)
    return count


def test_corrupt_majority_is_an_error_and_less_a_warning() -> None:
    some = counted(["", "corrupt", "reference", "reference"], 5)
    some.refuse_if_most()
    assert some.warnings() == [
        "1 of 5 frames of `a.mp4` could not be decoded",
        "`a.mp4` is damaged: of 4 frames 1 are corrupt and 2 refer to corrupt data, the first at "
        "00:01; what they show may be wrong",
    ]
    assert counted(["", ""], 2).warnings() == []
    counted(["reference"] * 4, 4).refuse_if_most()
    for kinds, requested in ((["corrupt"] * 3 + [""], 4), (["", "corrupt"], 4), ([], 1)):
        with pytest.raises(ReaderError, match="could be decoded") as caught:
            counted(kinds, requested).refuse_if_most()  # type: ignore[arg-type]
        assert "damaged" in str(caught.value.hint)


@dataclass
class Fed:
    """Stub of a packet, or of the frame decoded from it."""

    pts: int
    is_keyframe: bool = False
    is_corrupt: bool = False
    size: int = 1


def test_damage_propagates_in_decoding_order() -> None:
    """I0 P3 B1 B2 | I4 P5: P3 is damaged; B1 and B2 refer to it although they are shown before."""
    tracker = DamageTracker()
    packets = [Fed(0, is_keyframe=True), Fed(3), Fed(1), Fed(2), Fed(4, is_keyframe=True), Fed(5)]
    for packet in packets:
        tracker.fed(packet)
        if packet.pts == 3:
            tracker.failed(packet)
    for pts in (0, 1, 2, 4, 5):
        tracker.shown(Fed(pts))
        tracker.judge(Fed(pts))
    found = [tracker.damage_of(Fed(pts)) for pts in (0, 1, 2, 4, 5)]
    assert found == ["", "reference", "reference", "", ""]
    assert tracker
    assert tracker.failed_between(2, 3)
    assert not tracker.failed_between(3, 9)


def test_failures_before_the_first_key_frame_are_no_damage() -> None:
    tracker = DamageTracker()
    tracker.fed(Fed(0))
    tracker.failed(Fed(0))
    tracker.fed(Fed(1, is_keyframe=True))
    tracker.shown(Fed(1))
    assert not tracker
    assert tracker.damage_of(Fed(1)) == ""


def test_intact_real_clips_have_no_damage(clips: Path) -> None:
    names = ["hevc_ts.ts", "d_headless.ts", "ts_rollover.ts", "sample.flv"]
    for name in names:
        with open_video(clips / name) as video:
            batch = sample_frames(video, FrameSampling(max_frames=20))
        assert batch.warnings == (), name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("d_zerohole.mp4", "refer to corrupt data"),
        ("d_trunc60.ts", "1 are corrupt, the first at 00:06"),
    ],
)
def test_damaged_real_clips_have_a_warning(clips: Path, name: str, words: str) -> None:
    with open_video(clips / name) as video:
        batch = sample_frames(video, FrameSampling(max_frames=8))
    assert words in batch.warnings[-1]
    assert os.path.basename(name) in batch.warnings[-1]


# ---------------------------------------------------------------------- lost packets


@pytest.fixture(scope="module")
def broadcast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("broadcast") / "a.ts", b_frames=0, sound_seconds=3.0).path


@pytest.mark.parametrize("lost", [1, 4])
def test_lost_transport_packets_have_a_notice(lost: int, broadcast: Path, tmp_path: Path) -> None:
    """Whole frames may be lost, which the decoder does not see."""
    data = broadcast.read_bytes()
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    key = next(p for p in packets_in(broadcast) if p.is_key and p.seconds > 1.5)
    first = key.start // 188 + 2
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join([*packets[:first], *packets[first + lost :]]))
    with open_in_process(broadcast, "pyav") as whole, open_in_process(path, "pyav") as video:
        assert whole.metadata.gaps_seconds == whole.metadata.notices == ()
        begins = 2.0 + whole.metadata.first_pts_seconds
        assert video.metadata.gaps_seconds == pytest.approx((begins,), abs=0.05)
        (notice,) = video.metadata.notices
    assert notice.startswith("`a.ts` has lost packets (continuity errors) at 00:02:")


def test_restarted_continuity_counters_are_no_loss(broadcast: Path, tmp_path: Path) -> None:
    parts = clipmaker.split(clip(tmp_path / "b.ts", b_frames=0), tmp_path, {20: 0.0, 40: 0.0})
    with open_in_process(clipmaker.join(tmp_path / "a.ts", *parts), "pyav") as video:
        assert len(video.frame_times()) == 60
        assert video.metadata.notices == ()
