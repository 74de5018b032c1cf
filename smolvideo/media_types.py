"""Kinds of media by names: suffixes of videos and images, words of subtitles, natural order.

Subtitles: full dialogue is best; with captions for the hard of hearing it is nearly as good;
automatic captions come next; signs, songs and commentary come last, since they lack the dialogue.
"""

import re
from collections.abc import Iterable
from enum import IntEnum

VIDEO_SUFFIXES = frozenset(
    {
        ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264",
        ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg",
        ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv",
        ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    }
)  # fmt: skip
IMAGE_SUFFIXES = frozenset(
    {
        ".apng", ".avif", ".avifs", ".bmp", ".dds", ".dib", ".fits", ".heic", ".heif", ".icb",
        ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx",
        ".msp", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".ras",
        ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
    }
)  # fmt: skip
"""Images: formats that Pillow reads, without icons, formats that may hold arbitrary raw data, and
formats that it passes to other programs. HEIC requires a plug-in; its error says so."""

TEXTUAL_IMAGE_SUFFIXES = frozenset({".pbm", ".pgm", ".pnm", ".ppm", ".xbm", ".xpm"})
"""Image formats that may be ASCII text."""


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key that puts ``frame2`` before ``frame10``.

    >>> sorted(["f10.png", "f9.png", "F1.png"], key=natural_order)
    ['F1.png', 'f9.png', 'f10.png']
    """
    return [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece.casefold())
        for piece in re.split(r"(\d+)", name)
        if piece
    ]


class CaptionKind(IntEnum):
    """Kinds of captions, in order of preference."""

    FULL = 0
    HEARING_IMPAIRED = 1
    AUTOMATIC = 2
    PARTIAL = 3
    """Forced ("foreign parts only"), signs and songs, commentary: without the film's dialogue."""


_KIND_OF_WORD = {
    **dict.fromkeys(("full", "default", "dialog", "dialogue", "dialogues"), CaptionKind.FULL),
    **dict.fromkeys(("subtitle", "subtitles", "sub", "subs"), CaptionKind.FULL),
    **dict.fromkeys(("sdh", "cc", "hoh", "hearing", "impaired"), CaptionKind.HEARING_IMPAIRED),
    **dict.fromkeys(("captions", "closed"), CaptionKind.HEARING_IMPAIRED),
    **dict.fromkeys(("auto", "orig", "asr", "generated"), CaptionKind.AUTOMATIC),
    **dict.fromkeys(("automatic", "whisper"), CaptionKind.AUTOMATIC),
    **dict.fromkeys(("forced", "foreign", "narrative"), CaptionKind.PARTIAL),
    **dict.fromkeys(("signs", "sign", "songs", "song"), CaptionKind.PARTIAL),
    **dict.fromkeys(("lyrics", "karaoke"), CaptionKind.PARTIAL),
    **dict.fromkeys(("commentary", "comments", "descriptions"), CaptionKind.PARTIAL),
}


def words_of(text: str) -> list[str]:
    """Split a name or title into words, in lower case, without punctuation.

    >>> words_of("Signs & Songs [SDH]")
    ['signs', 'songs', 'sdh']
    """
    return re.findall(r"[^\W_]+", text.casefold())


def kind_of_word(word: str) -> CaptionKind | None:
    """Return the kind that ``word`` (in lower case) stands for; None for any other word."""
    return _KIND_OF_WORD.get(word)


def kind_of_title(title: str) -> CaptionKind:
    """Return the least complete kind that a word of a track's title names."""
    return least_complete(kind_of_word(word) for word in words_of(title))


def least_complete(kinds: Iterable[CaptionKind | None]) -> CaptionKind:
    """Return the last kind in the order of preference; ``FULL`` if there is none."""
    return max((kind for kind in kinds if kind is not None), default=CaptionKind.FULL)
