"""Opening a source opens no other file and no address, whatever its name or content."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from support import clipmaker

from smolvideo.cli.main import cli
from smolvideo.errors import ReaderError
from smolvideo.readers import READERS, open_video
from smolvideo.readers.ffmpeg_input import format_whitelist
from smolvideo.readers.registry import open_in_process

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n"
LISTS = {
    "hls": HLS,
    "ffconcat": "ffconcat version 1.0\nfile {url}\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT5S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="0" bandwidth="1"><BaseURL>{url}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>\n",
    "imf": "<?xml version='1.0'?><CompositionPlaylist xmlns='http://www.smpte-ra.org/schemas/2067-3/"
    "2013'><Id>{url}</Id></CompositionPlaylist>\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "vobsub": "# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\n",
    "asx": '<asx version="3"><entry><ref href="{url}"/></entry></asx>\n',
}
NAMES = ["list.m3u8", "list.mp4", "list.txt", "list"]


@pytest.fixture
def requests() -> Iterator[tuple[int, list[bytes]]]:
    """Listen on a port of this machine and record connections."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                seen.append(b"")
                connection.close()

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], seen
        ended.set()
        thread.join()


@pytest.fixture
def neighbour(tmp_path: Path) -> str:
    """Write a video in the same folder, which must not be read."""
    clipmaker.write_clip(tmp_path / "secret.ts", clipmaker.evenly(20, 10))
    return "secret.ts"


def is_refused(path: Path, reader: str, *, kind: str = "video") -> None:
    with pytest.raises(ReaderError, match=path.name) as caught:
        open_video(path, reader=reader, kind=kind)  # type: ignore[arg-type]
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("reader", ["auto", *READERS])
@pytest.mark.parametrize("name", LISTS)
def test_playlists_in_video_files_open_nothing(
    name: str, reader: str, tmp_path: Path, neighbour: str, requests: tuple[int, list[bytes]]
) -> None:
    port, seen = requests
    for url in (neighbour, f"http://127.0.0.1:{port}/a.ts"):
        path = tmp_path / NAMES[len(name) % 2 + (url != neighbour)]
        path.write_text(LISTS[name].format(url=url, port=port))
        is_refused(path, reader)
    assert seen == []


@pytest.mark.parametrize("name", NAMES)
def test_playlists_are_refused_under_any_name(name: str, tmp_path: Path, neighbour: str) -> None:
    for text in (HLS, LISTS["ffconcat"]):
        path = tmp_path / name
        path.write_text(text.format(url=neighbour))
        with pytest.raises(ReaderError, match="it names other files"):
            open_in_process(path, "pyav")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["hls", "ffconcat"])
def test_binary_prefix_does_not_hide_a_playlist(
    name: str, reader: str, tmp_path: Path, neighbour: str
) -> None:
    text = LISTS[name].format(url=neighbour).encode()
    first, rest = text.split(b"\n", 1)
    for content in (first + b"\n#\x01\x02\0\n" + rest, b"ID3\4\0\0\0\0\0\x05\0\0\0\0\0" + text):
        path = tmp_path / "list.mp4"
        path.write_bytes(content)
        is_refused(path, reader)


@pytest.mark.parametrize("suffix", [".png", ".dpx"])
@pytest.mark.parametrize("reader", READERS)
def test_pattern_in_a_name_is_not_an_image_sequence(
    reader: str, suffix: str, tmp_path: Path
) -> None:
    """`img%03d.png` is that file, not `img001.png` next to it."""
    for number in (0, 1, 2):
        Image.new("RGB", (64, 64), (250, 0, 0)).save(tmp_path / f"img{number:03d}.png")
        (tmp_path / f"img{number:03d}.png").rename(tmp_path / f"img{number:03d}{suffix}")
    Image.new("RGB", (64, 64), (0, 0, 250)).save(tmp_path / "own.png")
    for name in ("img%03d", "img%*", "img?01"):
        path = (tmp_path / "own.png").rename(tmp_path / f"{name}{suffix}")
        frames = []
        with contextlib.suppress(ReaderError), open_video(path, reader=reader) as video:
            frames = list(video.frames_at(video.frame_times()))
        assert [bool(frame.image[32, 32, 2] > 200) for frame in frames] in ([], [True])
        path.rename(tmp_path / "own.png")


@pytest.mark.parametrize(
    "given",
    [
        "concat:secret.ts|secret.ts",
        "subfile,,start,0,end,0,,:secret.ts",
        "data:video/mp2t;base64,AAAA",
        "pipe:0",
        "fd:0",
        "async:secret.ts",
        "cache:secret.ts",
        "file:secret.ts.m3u8",
        "concatf:list.txt",
        "crypto:secret.ts",
    ],
)
def test_ffmpeg_protocols_are_refused(
    given: str, tmp_path: Path, neighbour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["frames", given])
    assert done.exit_code in (2, 3), done.stdout
    assert done.stderr.startswith("Error: ")
    # A file of that name is opened as itself.
    if "/" not in given:
        path = tmp_path / given
        path.write_bytes(b"\0" * 1000)
        for reader in READERS:
            is_refused(path, reader)


def test_external_media_references_are_not_opened(tmp_path: Path, neighbour: str) -> None:
    """A QuickTime track whose data reference is an alias of another file."""
    clip = clipmaker.write_clip(tmp_path / "a.mov", clipmaker.evenly(20, 10))
    data = bytearray(clip.path.read_bytes())
    place = data.index(b"dref") + 4 + 8
    assert data[place + 4 : place + 8] in (b"url ", b"alis")
    data[place + 4 : place + 12] = b"alis\0\0\0\0"  # and not in this file
    clip.path.write_bytes(data)
    try:
        with open_video(clip.path, reader="pyav") as video:
            (frame,) = video.frames_at([0.5])
    except ReaderError:
        return
    assert clipmaker.number_of(frame.image) == 5


def test_format_whitelist_has_single_file_formats_only() -> None:
    allowed = set(format_whitelist().split(","))
    assert {"mp4", "matroska", "webm", "avi", "mpegts", "flv", "ogg", "image2", "gif"} <= allowed
    assert not allowed & {"hls", "concat", "dash", "imf", "sdp", "rtsp", "rtp", "vobsub", "lavfi"}
