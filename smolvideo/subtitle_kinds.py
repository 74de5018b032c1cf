"""Classification of subtitles by words in a file name or track title, in order of preference.

Full dialogue is best; with captions for the hard of hearing it is nearly as good; automatic
captions come next; signs, songs and commentary come last, since they lack the dialogue.
"""

import re
from collections.abc import Iterable
from enum import IntEnum


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
