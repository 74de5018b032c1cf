"""One thing to look at, and what a file is by its name and its first bytes."""

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
"""What browsers and downloaders call a file that is still growing."""


@dataclass(frozen=True)
class VideoSource:
    """One thing to look at: a video, a picture, or a folder of pictures that belong together.

    ``given`` is what the user typed, an address without its credentials. ``name`` is for people: a
    file name or the title of a download, on one line, without control characters; it is never a
    path. ``notices`` are sentences for the user.
    """

    given: str
    path: Path
    kind: "MediaKind"
    name: str
    url: str | None = None
    notices: tuple[str, ...] = ()


def is_partial_or_hidden(name: str) -> bool:
    """Files that a folder holds but nobody means: hidden ones, ``._`` twins of macOS, partial
    downloads.

    yt-dlp names the pieces of a running download ``x.mp4.part-Frag3``.
    """
    last_suffix = Path(name).suffix.lower()
    return name.startswith(".") or last_suffix.split("-")[0] in PARTIAL_DOWNLOAD_SUFFIXES


def kind_of_file(name: str, head: bytes) -> "MediaKind":
    """Picture or video, by the first bytes (12 are enough) where they are known, else by the
    suffix.

    Everything that is not recognised as a picture counts as a video: the reader knows more
    containers than any list here.
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
    """Whether a file of any name may be a video by its first bytes (400 are enough)."""
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
    """Names a file that is surely no video or picture by its first bytes (some thousand are
    best).
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<script")):
        return "a web page"
    if start.startswith(b"%pdf-"):
        return "a PDF document"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"BZh")):
        return "an archive"
    return "a text" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    if head.startswith(b"YUV4MPEG2 "):  # raw video behind a line of text
        return False
    if any(byte < 0x20 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and error.reason == "unexpected end of data"
    return bool(head)
