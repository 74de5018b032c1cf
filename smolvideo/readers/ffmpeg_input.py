"""Input of FFmpeg: one file, or a byte range of it, and nothing that the file refers to.

A truncated file may have another appended to it, whose header begins the next range. Files that
refer to others are playlists (HLS, DASH), edit lists (ffconcat, IMF), session descriptions and
index files, and a name with `%03d`, which is read as an image sequence. FFmpeg detects these
formats by content, whatever the file name.
"""

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from smolvideo.readers.base import NotAVideoError
from smolvideo.readers.ipc import beat


@dataclass(frozen=True)
class ByteRange:
    """Bytes ``start`` to ``end`` of a file, readable by FFmpeg's ``demuxer`` if preceded by the
    bytes ``head`` and ``gap`` zeros."""

    start: int
    end: int
    demuxer: str
    head: bytes = field(default=b"", repr=False)
    gap: int = 0

    @property
    def head_bytes(self) -> int:
        """Number of bytes in front of the file's own."""
        return len(self.head) + self.gap


class FileSlice(io.RawIOBase):
    """Read-only, seekable file object over a ``ByteRange``.

    Raises OSError if the file cannot be opened.
    """

    def __init__(self, path: Path, byte_range: ByteRange) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._start = byte_range.start
        self._head = byte_range.head
        self._begin = byte_range.head_bytes  # offset of the file's own bytes
        self._size = self._begin + byte_range.end - byte_range.start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._size - self._position))
        if not wanted:
            return 0
        if self._position < self._begin:
            part = self._head[self._position : self._position + wanted]
            part = part or bytes(min(wanted, self._begin - self._position))
            buffer[: len(part)] = part
            count = len(part)
        else:
            self._file.seek(self._start + self._position - self._begin)
            count = self._file.readinto(memoryview(buffer)[:wanted]) or 0
        self._position += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


_BLOCK = 2**20
LOOK_AHEAD = 320
"""Bytes from the start of a header that ``is_header`` may inspect."""


def find_header(
    file: BinaryIO, start: int, end: int, magic: bytes, is_header: Callable[[bytes], bool]
) -> int | None:
    """Return the first byte offset from ``start`` at which ``magic`` is found and ``is_header``
    accepts the bytes; None if there is none before ``end``."""
    while start < end:
        beat()
        file.seek(start)
        data = file.read(min(_BLOCK, end - start) + LOOK_AHEAD)
        offset = data.find(magic)
        while 0 <= offset < _BLOCK:
            if is_header(data[offset : offset + LOOK_AHEAD]):
                return start + offset
            offset = data.find(magic, offset + 1)
        start += _BLOCK
    return None


_OPEN_OTHERS = {
    *("concat", "dash", "hls", "imf", "sdp", "vobsub", "webm_dash_manifest"),
    *("avisynth", "vapoursynth", "tee"),
}
"""FFmpeg's demuxers that open files named in the content; those of devices and networks have the
flag ``no_file``."""
_PICTURES = "image2"
OPTIONS = {
    "protocol_whitelist": "file",
    "pattern_type": "none",  # of image2: no expansion of `%d` and `*` in a name
    "enable_drefs": "0",  # of mov: no media in other files
    "use_absolute_path": "0",
}
"""FFmpeg's options for a local file, for every reader."""
_SEARCHED_BYTES = 2**20
"""Bytes that FFmpeg reads to detect a format."""
_LISTS = (
    (rb"\A#EXTM3U", "an HLS playlist"),
    (rb"\Affconcat version", "an ffconcat list"),
    (rb"<MPD[\s>]", "a DASH manifest"),
    (rb"<CompositionPlaylist[\s>]", "an IMF composition"),
    (rb"<SmoothStreamingMedia[\s>]", "a Smooth Streaming manifest"),
    (rb"(?:\A|\n)(?:c|m)=(?:IN IP|video|audio) ", "a session description (SDP)"),
    (rb"\A# VobSub index file", "a VobSub index"),
    (rb"\A(?:RTSPtext|\[reference\]|<asx)", "a playlist"),
)
_SEQUENCE = re.compile(r"%\d*d|%[*?\[{]")
"""Patterns in a name that FFmpeg's image-sequence reader replaces."""


@cache
def format_whitelist() -> str:
    """Return FFmpeg's demuxers that read nothing but the given file, comma-separated."""
    import av

    names = []
    for name in av.formats_available:
        try:
            found = av.format.ContainerFormat(name, "r")
        except ValueError:  # a muxer only
            continue
        if found.name == _PICTURES or not (found.no_file or found.name in _OPEN_OTHERS):
            names.append(name)
    return ",".join(sorted(names))


def refuse_list(path: Path) -> None:
    """Raise NotAVideoError for a file that refers to others, by its text before the first zero
    byte."""
    with path.open("rb") as file:
        while (head := file.read(10)).startswith(b"ID3") and len(head) == 10:
            size = 0  # an ID3 tag, which FFmpeg skips: seven bits in each byte (ID3v2.4, 3.1)
            for byte in head[6:]:
                size = size << 7 | byte & 0x7F
            file.seek(size, os.SEEK_CUR)
        text = (head + file.read(_SEARCHED_BYTES)).split(b"\0", 1)[0]
    text = text.removeprefix(b"\xef\xbb\xbf")
    for pattern, what in _LISTS:
        if re.search(pattern, text, re.IGNORECASE):
            raise NotAVideoError(
                f"`{path.name}` is {what}: it names other files and is no video itself",
                hint="name the video itself, or give its address to have it downloaded",
            )


def refuse_text(path: Path) -> None:
    """Raise NotAVideoError for a playlist or any other text file."""
    refuse_list(path)
    with path.open("rb") as file:
        head = file.read(1024)
    if not any(byte < 9 or 13 < byte < 27 for byte in head):
        raise NotAVideoError(f"`{path.name}` is a text, not a video")


def names_a_sequence(path: Path) -> bool:
    """Return whether FFmpeg without ``OPTIONS`` may read the name as a pattern of image files."""
    return _SEQUENCE.search(str(path)) is not None


_BUFFER = 2**18
"""Bytes that FFmpeg reads per call from a byte range of a file."""


def open_container(path: Path, byte_range: ByteRange | None = None) -> Any:
    """Open a local file or a byte range of it. The protocol and format whitelists keep a playlist
    from making us fetch the files it refers to."""
    import av

    # PyAV up to version 18 fails on a metadata tag that is not UTF-8.
    lenient = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
    options = {**OPTIONS, "format_whitelist": format_whitelist()}
    if byte_range is None:
        return av.open(str(path.absolute()), options=options, **lenient)
    return av.open(
        FileSlice(path, byte_range),
        format=byte_range.demuxer,
        options=options,
        buffer_size=_BUFFER,
        **lenient,
    )
