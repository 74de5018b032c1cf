"""Refusal of files that refer to other files or URLs, which FFmpeg would open.

Such are playlists (HLS, DASH), edit lists (ffconcat, IMF), session descriptions and index files,
and a name with `%03d`, which is read as an image sequence. FFmpeg detects these formats by content,
whatever the file name.
"""

import os
import re
from functools import cache
from pathlib import Path

from smolvideo.readers.base import NotAVideoError

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
