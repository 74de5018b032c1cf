"""Sidecar subtitle files: the best subtitle file next to a video, by its name.

Names as players, downloaders and media servers write them: ``film.srt``, ``film.en.srt``,
``film.en.forced.srt``, ``film.forced.en.srt``, ``film.zh-Hant-TW.sdh.srt``, ``film.en-orig.vtt``.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from smolvideo.file_names import normal_form
from smolvideo.media_types import CaptionKind, kind_of_word, least_complete, words_of

SUBTITLE_SUFFIXES = (
    ".srt", ".vtt", ".ass", ".ssa", ".ttml", ".dfxp", ".smi", ".sami", ".srv3", ".srv2", ".srv1",
    ".json3", ".sub", ".sbv",
)  # fmt: skip
"""Suffixes of subtitle files, in order of preference."""

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_SUBTAG = re.compile(r"[a-z0-9]{1,11}")
"""Subtag of a script, region or variant (BCP 47); YouTube also puts a track name there."""
_NAMED_LANGUAGES = frozenset(
    {
        "arabic", "brazilian", "bulgarian", "catalan", "chinese", "croatian", "czech", "danish",
        "dutch", "english", "estonian", "finnish", "french", "german", "greek", "hebrew", "hindi",
        "hungarian", "indonesian", "italian", "japanese", "korean", "latvian", "lithuanian",
        "malay", "norwegian", "persian", "polish", "portuguese", "romanian", "russian", "serbian",
        "simplified", "slovak", "slovenian", "spanish", "swedish", "thai", "traditional",
        "turkish", "ukrainian", "vietnamese",
    }
)  # fmt: skip
_ENGLISH = ("en", "eng", "english")
_MAX_PARTS = 6

_VIDEO_SUFFIXES = frozenset(
    {
        ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv",
        ".ts", ".webm", ".wmv",
    }
)  # fmt: skip
_VOBSUB = b"\x00\x00\x01\xba"
"""First bytes of an MPEG program stream: VobSub's image subtitles also have the suffix .sub."""


def is_sidecar(path: Path, video_path: Path) -> bool:
    """Return whether ``find_sidecar`` would consider a file of this name."""
    same_folder = os.path.realpath(path.parent) == os.path.realpath(video_path.parent)
    return same_folder and _name_of(path, video_path) is not None


def sidecar_kind(path: Path, video_path: Path) -> CaptionKind:
    """Return the kind of captions that a file name states; ``FULL`` if it states none."""
    name = _name_of(path, video_path)
    return CaptionKind.FULL if name is None else name.kind


def find_sidecar(video_path: Path) -> Path | None:
    """Return the subtitle file next to a video: ``film.srt`` or ``film.en.srt`` for ``film.mp4``.

    Order of preference: full dialogue before forced subtitles, signs and commentary; no language or
    English before others; without captions for the hard of hearing, and not automatic; no language
    tag before English; then by suffix, .srt first. A file whose whole name belongs to another video
    of the folder (``film.2.srt`` next to ``film.2.mp4``) is not taken. None if there is none.
    """
    try:
        neighbours = sorted(video_path.parent.iterdir())
    except OSError:
        return None
    others = {
        normal_form(path.stem)
        for path in neighbours
        if path.suffix.lower() in _VIDEO_SUFFIXES and path.name != video_path.name
    } - {normal_form(video_path.stem)}
    ranked = [
        (name, path)
        for path in neighbours
        if (name := _name_of(path, video_path)) is not None
        and normal_form(path.stem) not in others
        and path.is_file()
        and not _is_vobsub(path)
    ]
    return min(ranked, key=lambda one: (one[0].rank, one[1].name))[1] if ranked else None


@dataclass(frozen=True)
class _SidecarName:
    """The parts of a file name between the video's name and the suffix."""

    suffix: str
    language: str = ""
    kind: CaptionKind = CaptionKind.FULL
    number: int = 0

    @property
    def rank(self) -> tuple[bool, bool, CaptionKind, bool, int, int]:
        foreign = self.language not in ("", *_ENGLISH)
        order = SUBTITLE_SUFFIXES.index(self.suffix)
        is_partial = self.kind is CaptionKind.PARTIAL
        return is_partial, foreign, self.kind, self.language != "", self.number, order


def _name_of(path: Path, video_path: Path) -> _SidecarName | None:
    """Parse the file name; None if the file does not belong to the video."""
    suffix = path.suffix.lower()
    if suffix not in SUBTITLE_SUFFIXES:
        return None
    stem = normal_form(path.stem)
    for begins in (normal_form(video_path.name), normal_form(video_path.stem)):
        if stem == begins:
            return _SidecarName(suffix)
        if stem.startswith(begins + "."):
            return _read_parts(stem.removeprefix(begins + ".").split("."), suffix)
    return None


def _read_parts(parts: Iterable[str], suffix: str) -> _SidecarName | None:
    """Parse language, kind and number, in any order; None if a part is none of these.

    ``hi`` is Hindi, but "hearing impaired" if another language is named as well.
    """
    parts = [part.lower() for part in parts]
    if len(parts) > _MAX_PARTS:
        return None
    languages: list[str] = []
    kinds: list[CaptionKind] = []
    number = 0
    for part in parts:
        words = words_of(part)
        of_words = [kind_of_word(word) for word in words]
        if words and None not in of_words:
            kinds.append(least_complete(of_words))
        elif part.isdecimal() and len(part) <= 2:
            number = int(part)
        elif (tag := _language_tag(words)) is not None:
            languages.append(tag)
            kinds.append(least_complete(of_words))
        else:
            return None
    if "hi" in languages and len(languages) > 1:
        languages.remove("hi")
        kinds.append(CaptionKind.HEARING_IMPAIRED)
    if len(languages) > 2:
        return None
    language = languages[0] if languages else ""
    return _SidecarName(suffix, language, least_complete(kinds), number)


def _language_tag(words: list[str]) -> str | None:
    """Return the language of ``zh-Hant-TW``, ``en_US``, ``en-forced`` or ``English (SDH)``."""
    if not words or len(words) > _MAX_PARTS:
        return None
    first, *rest = words
    if not _LANGUAGE.fullmatch(first) and first not in _NAMED_LANGUAGES:
        return None
    return first if all(map(_SUBTAG.fullmatch, rest)) else None


def _is_vobsub(path: Path) -> bool:
    if path.suffix.lower() != ".sub":
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_VOBSUB)) == _VOBSUB
    except OSError:
        return False
