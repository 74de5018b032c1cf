"""Encrypted media are refused by name: no sample reaches a decoder, a prompt or an answer."""

from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from support import clipmaker
from support import encryptedclips as made

from smolvideo.cli.main import cli
from smolvideo.errors import ReaderError
from smolvideo.readers import READERS, open_video
from smolvideo.readers.encryption import Encryption, encryption_in, transport_packet_bytes
from smolvideo.readers.mp4_boxes import child_box, child_boxes
from smolvideo.readers.registry import open_in_process


@pytest.fixture(scope="module")
def cenc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_cenc(tmp_path_factory.mktemp("cenc") / "locked.mp4")


def refuses(path: Path, scheme: str, reader: str = "auto") -> None:
    with pytest.raises(ReaderError, match=f"`{path.name}` is encrypted") as caught:
        open_video(path, reader=reader)
    assert scheme in str(caught.value)
    assert "DRM" in str(caught.value)
    assert caught.value.exit_code == 3
    assert caught.value.hint


@pytest.mark.parametrize("reader", ["auto", *READERS])
def test_every_reader_refuses_an_encrypted_mp4(cenc: Path, reader: str) -> None:
    refuses(cenc, "CENC `cenc`", reader)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "m4v"])
@pytest.mark.parametrize("fragmented", [False, True])
def test_encrypted_mp4_in_all_layouts(tmp_path: Path, suffix: str, fragmented: bool) -> None:
    refuses(made.write_cenc(tmp_path / f"a.{suffix}", fragmented=fragmented), "CENC")


@pytest.mark.parametrize("codec", ["libvpx-vp9", "mpeg4"])
def test_encrypted_mp4_of_any_codec(tmp_path: Path, codec: str) -> None:
    refuses(made.write_cenc(tmp_path / "a.mp4", codec=codec), "CENC")


def test_other_encryption_schemes_are_named(cenc: Path, tmp_path: Path) -> None:
    refuses(made.replaced(cenc, tmp_path / "cbcs.mp4", (b"cenc", b"cbcs")), "CENC `cbcs`")
    fairplay = (b"encv", b"drmi"), (b"cenc", b"itun")
    refuses(made.replaced(cenc, tmp_path / "film.m4v", *fairplay), "FairPlay")
    # A file may lack the scheme box: the sample entry names it then.
    bare = (b"encv", b"drmi"), (b"sinf", b"free")
    refuses(made.replaced(cenc, tmp_path / "bare.m4v", *bare), "FairPlay")


def test_track_with_default_is_protected_0_is_clear(cenc: Path, tmp_path: Path) -> None:
    """ISO/IEC 23001-7, 8.2: the track is prepared for encryption but not encrypted."""
    data = bytearray(cenc.read_bytes())
    place = data.index(b"tenc") + 4 + 6
    assert data[place] == 1
    data[place] = 0
    path = tmp_path / "prepared.mp4"
    path.write_bytes(data)
    assert encryption_in(path) == []


def write_sound_and_video(path: Path, options: dict[str, str]) -> Path:
    """Write an audio track first, then numbered frames."""
    with av.open(str(path), "w", options=options) as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        video = container.add_stream("libx264", rate=10, options={"crf": "12", "bf": "0"})
        video.pix_fmt, video.width, video.height = "yuv420p", clipmaker.WIDTH, clipmaker.HEIGHT
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 16000
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(clipmaker.numbered_image(number), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    return path


def test_clear_video_with_encrypted_sound_is_read(tmp_path: Path) -> None:
    clear = write_sound_and_video(tmp_path / "clear.mp4", {})
    locked = write_sound_and_video(tmp_path / "locked.mp4", made.CENC)
    refuses(locked, "CENC")
    path = made.declared_clear(locked, clear, tmp_path / "sound.mp4")
    (found,) = encryption_in(path)
    assert (found.media, found.stream_id) == ("other", 1)
    for reader in ("auto", "pyav"):
        with open_video(path, reader=reader) as video:
            (frame,) = video.frames_at([1.0])
        assert clipmaker.number_of(frame.image) == 10


def test_encrypted_matroska_is_refused(tmp_path: Path) -> None:
    path = made.write_encrypted_matroska(tmp_path / "a.webm")
    assert encryption_in(path) == [Encryption("Matroska ContentEncryption", media="video", place=0)]
    for reader in ("auto", *READERS):
        refuses(path, "Matroska ContentEncryption", reader)


@pytest.mark.parametrize("first", ["clear", "encrypted"])
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_clear_parts_of_joined_files_are_read(
    kind: str, first: str, cenc: Path, tmp_path: Path
) -> None:
    """Each part is checked for encryption; a notice names those left out."""
    clear = clipmaker.write_clip(tmp_path / f"clear.{kind}", clipmaker.evenly(24, 24)).path
    locked = cenc if kind == "mp4" else made.write_encrypted_matroska(tmp_path / "locked.webm")
    files = [clear, locked] if first == "clear" else [locked, clear]
    with open_in_process(clipmaker.join(tmp_path / f"a.{kind}", *files), "pyav") as video:
        found = [clipmaker.number_of(one.image) for one in video.frames_at(video.frame_times())]
        known = video.metadata
    assert found == [*range(24)]
    assert known.missing_seconds == pytest.approx((1.0 if first == "clear" else 0.0,), abs=0.1)
    assert "without video that can be read" in known.notices[-1]


def test_scrambled_transport_and_program_streams_are_refused(tmp_path: Path) -> None:
    path = made.write_scrambled_transport_stream(tmp_path / "a.ts")
    assert encryption_in(path) == [Encryption("scrambled transport stream", stream_id=0x100)]
    refuses(path, "scrambled transport stream")
    disc = tmp_path / "a.m2ts"
    data = path.read_bytes()
    disc.write_bytes(b"".join(bytes(4) + data[s : s + 188] for s in range(0, len(data), 188)))
    refuses(disc, "scrambled transport stream")
    refuses(made.write_scrambled_program_stream(tmp_path / "a.vob"), "CSS")


def test_encrypted_windows_media_and_flash_are_refused(tmp_path: Path) -> None:
    refuses(made.write_locked_asf(tmp_path / "a.wmv"), "Windows Media DRM")
    refuses(made.write_filtered_flv(tmp_path / "a.flv"), "FLV filter")


def test_sample_aes_is_recognised_by_the_stream_type(tmp_path: Path) -> None:
    path = clipmaker.write_clip(tmp_path / "a.ts", clipmaker.evenly(20, 10)).path
    locked = made.replaced(path, tmp_path / "b.ts", (b"\x1b\xe1\x00\xf0", b"\xdb\xe1\x00\xf0"))
    assert encryption_in(locked) == [Encryption("HLS SAMPLE-AES", stream_id=0x100)]
    refuses(locked, "HLS SAMPLE-AES")


def test_segment_of_an_encrypted_stream_is_an_error_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "seg0.ts"
    clear = clipmaker.write_clip(tmp_path / "clear.ts", clipmaker.evenly(20, 10)).path
    path.write_bytes(made.scrambled(clear.read_bytes()))
    with pytest.raises(ReaderError, match=r"seg0\.ts") as caught:
        open_video(path, reader="pyav")
    assert "encrypted" in str(caught.value.hint)


def test_clear_program_stream_is_read(tmp_path: Path) -> None:
    path = made.write_program_stream(tmp_path / "a.vob")
    assert encryption_in(path) == []
    with open_video(path) as video:
        assert video.metadata.codec == "mpeg2video"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "ts", "flv", "wmv", "avi"])
def test_clear_files_are_read(tmp_path: Path, suffix: str) -> None:
    codec = {"webm": "libvpx", "wmv": "msmpeg4", "flv": "flv"}
    clip = clipmaker.write_clip(
        tmp_path / f"a.{suffix}", clipmaker.evenly(20, 10), codec=codec.get(suffix, "libx264")
    )
    assert encryption_in(clip.path) == []


def test_real_clips_are_not_encrypted(clips: Path) -> None:
    assert [path.name for path in clips.iterdir() if encryption_in(path)] == []


@pytest.mark.parametrize("begin", [b"\0\0\0\x08ftyp", b"\x1a\x45\xdf\xa3", b"FLV\1", b"G" * 188])
def test_garbage_after_a_valid_header_ends(tmp_path: Path, begin: bytes) -> None:
    path = tmp_path / "odd"
    for filling in (b"", b"\0" * 4000, b"\xff" * 4000, made.scrambled(bytes(4000))):
        path.write_bytes(begin + filling)
        assert encryption_in(path) in ([], [Encryption("FLV filter")])


def test_transport_streams_are_recognised_by_their_sync_bytes() -> None:
    packet = b"G" + bytes(187)
    assert transport_packet_bytes(packet * 8) == (0, 188)
    assert transport_packet_bytes((packet * 8)[100:]) == (88, 188)
    assert transport_packet_bytes((bytes(4) + packet) * 8) == (4, 192)
    assert transport_packet_bytes((packet + bytes(16)) * 8) == (0, 204)
    assert transport_packet_bytes(bytes(2048)) is None


def test_commands_report_encryption_in_one_line(cenc: Path) -> None:
    commands = [
        ["ask", str(cenc), "What moves?", "--model", "nano", "--no-keep"],
        ["frames", str(cenc)],
        ["summarise", str(cenc), "--model", "nano"],
    ]
    for words in commands:
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 3, done.stderr
        assert "`locked.mp4` is encrypted (DRM: CENC `cenc`)" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("size", ["32 bits", "64 bits", "to the end", "past the end"])
def test_child_box_is_found_with_every_size_field(size: str) -> None:
    """ISO/IEC 14496-12, 4.2: a size of 1 precedes 64 bits, 0 is to the end of the container."""
    header = {
        "32 bits": (8 + 3).to_bytes(4, "big") + b"tenc",
        "64 bits": (1).to_bytes(4, "big") + b"tenc" + (16 + 3).to_bytes(8, "big"),
        "to the end": bytes(4) + b"tenc",
        "past the end": (2**31).to_bytes(4, "big") + b"tenc",
    }[size]
    inner = (8).to_bytes(4, "big") + b"free" + header + b"abc"
    outer = (8 + len(inner)).to_bytes(4, "big") + b"schi" + inner
    assert child_box(outer, b"schi", b"tenc") == b"abc"
    assert [kind for kind, _ in child_boxes(inner)] == [b"free", b"tenc"]
    assert list(child_boxes((7).to_bytes(4, "big") + b"free" + bytes(8))) == []
