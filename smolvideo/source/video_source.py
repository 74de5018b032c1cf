"""``VideoSource``, the result of source resolution, and file-type detection by name and content."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smolvideo.media_types import IMAGE_SUFFIXES

if TYPE_CHECKING:  # frames imports numpy, which `smolvideo --help` must not wait for
    from smolvideo.frames import MediaKind

PARTIAL_DOWNLOAD_SUFFIXES = frozenset(
    {
        ".aria2", ".crdownload", ".download", ".filepart", ".opdownload", ".part", ".partial",
        ".temp", ".tmp", ".ytdl",
    }
)  # fmt: skip
"""Suffixes that browsers and downloaders give to incomplete files."""


@dataclass(frozen=True)
class VideoSource:
    """A local source: a video, a still image, or a folder of frames.

    ``given`` is the argument as typed, without the credentials of a URL. ``name`` is for display: a
    file name or the title of a download, on one line, without control characters; never a path.
    ``notices`` are messages for the user.
    """

    given: str
    path: Path
    kind: "MediaKind"
    name: str
    url: str | None = None
    notices: tuple[str, ...] = ()


def is_partial_or_hidden(name: str) -> bool:
    """Return whether a folder scan skips this file: hidden files, ``._`` files of macOS, partial
    downloads.

    yt-dlp names the fragments of a running download ``x.mp4.part-Frag3``.
    """
    last_suffix = Path(name).suffix.lower()
    return name.startswith(".") or last_suffix.split("-")[0] in PARTIAL_DOWNLOAD_SUFFIXES


def kind_of_file(name: str, head: bytes) -> "MediaKind":
    """Return image or video, by the first bytes (12 are enough) if they are known, else by suffix.

    Anything not recognised as an image is a video: the reader knows more containers than a list
    here could.
    """
    suffix = Path(name).suffix.lower()
    if _starts_like_picture(head):
        # A raw motion-JPEG stream begins like a single JPEG.
        return "video" if suffix in (".mjpeg", ".mjpg") else "image"
    return "image" if suffix in IMAGE_SUFFIXES and not _starts_like_video(head) else "video"


def _starts_like_picture(head: bytes) -> bool:
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*"))
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"heic", b"heix", b"mif1"))
    )


def _starts_like_video(head: bytes) -> bool:
    return (
        head[4:8] == b"ftyp"
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01"))  # Matroska and WebM, Flash
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
    )


def starts_like_video(head: bytes) -> bool:
    """Return whether the first bytes (400 are enough) are those of a known video container."""
    if _starts_like_picture(head):
        return False
    return (
        _starts_like_video(head)
        or head[4:8] in (b"moov", b"mdat", b"wide")  # QuickTime before there was `ftyp`
        or head.startswith((b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"))  # MPEG
        or head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")  # ASF
        or head.startswith(b"OggS")
        or b"GGG" in (head[:377:188], head[4:389:192])  # transport streams, also of discs
    )


def describe_non_media(head: bytes) -> str | None:
    """Return a description of a file that is certainly no video or image, by its first bytes
    (preferably some thousand); None otherwise."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<script")):
        return "a web page"
    if start.startswith(b"%pdf-"):
        return "a PDF document"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"BZh")):
        return "an archive"
    return "a text" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    if head.startswith(b"YUV4MPEG2 "):  # raw video with a text header
        return False
    if any(byte < 0x20 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and error.reason == "unexpected end of data"
    return bool(head)
