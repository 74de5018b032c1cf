"""What a set of subtitles holds, by the words of its file name or of its track's title.

Full dialogue is wanted; with the sounds of the hard of hearing it is nearly as good; captions that
a machine heard come next; and what translates signs, sings or comments holds none of what is said.
"""

import re
from collections.abc import Iterable
from enum import IntEnum


class CaptionKind(IntEnum):
    """In the order of preference."""

    FULL = 0
    HEARING_IMPAIRED = 1
    AUTOMATIC = 2
    PARTIAL = 3
    """Forced ("foreign parts only"), signs and songs, commentary: not what is said in the film."""


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
    """The words of a name or title in small letters, without the marks between them.

    >>> words_of("Signs & Songs [SDH]")
    ['signs', 'songs', 'sdh']
    """
    return re.findall(r"[^\W_]+", text.casefold())


def kind_of_word(word: str) -> CaptionKind | None:
    """What ``word`` (in small letters) says of the subtitles; None for any other word."""
    return _KIND_OF_WORD.get(word)


def kind_of_title(title: str) -> CaptionKind:
    """What the title of a track says of it: the least complete thing that a word names."""
    return least_complete(kind_of_word(word) for word in words_of(title))


def least_complete(kinds: Iterable[CaptionKind | None]) -> CaptionKind:
    """The last in the order of preference; ``FULL`` where nothing is said."""
    return max((kind for kind in kinds if kind is not None), default=CaptionKind.FULL)
