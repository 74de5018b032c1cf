"""Chapters: neighbouring window notes merged by Jaccard similarity of their words.

A chapter begins at a shot change whose note has new content. The published models never write two
equal notes, so similarity counts shared words. Where too many chapters remain, the most similar
neighbours are merged until ``max_chapters`` is reached.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from smolvideo.summaries.record import Note

MERGE_SIMILARITY = 0.5
"""Jaccard similarity from which two notes have the same content if no shot change separates
them."""
MIN_CHAPTER_LIMIT = 6
_LETTERS = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "in"),
        *("is", "it", "its", "of", "on", "or", "that", "the", "there", "these", "this", "to"),
        *("was", "were", "which", "while", "with"),
    )
)


@dataclass(frozen=True)
class ChapterSpan:
    """Neighbouring notes that make one chapter."""

    notes: tuple[Note, ...]

    @property
    def start_seconds(self) -> float:
        return self.notes[0].start_seconds

    @property
    def end_seconds(self) -> float:
        return self.notes[-1].end_seconds

    def texts(self) -> list[tuple[float, str]]:
        """Return ``(start_seconds, text)`` of each distinct statement, in order.

        Neighbouring notes with the same content are represented by the most frequent text.
        """
        groups: list[list[Note]] = []
        for note in self.notes:
            if groups and _tells_the_same(groups[-1][-1], note):
                groups[-1].append(note)
            else:
                groups.append([note])
        statements: dict[str, tuple[float, str]] = {}
        for group in groups:
            text = _most_frequent([note.text for note in group])
            statements.setdefault(_bare(text), (group[0].start_seconds, text))
        return list(statements.values())


def max_chapters(windows: int) -> int:
    """Return the chapter limit: half of ``windows``, at least ``MIN_CHAPTER_LIMIT``."""
    return max(MIN_CHAPTER_LIMIT, math.ceil(windows / 2))


def merge_notes(notes: Sequence[Note]) -> list[ChapterSpan]:
    """Group all notes of a video into chapters, in order."""
    chapters: list[ChapterSpan] = []
    for note in notes:
        if chapters and _tells_the_same(chapters[-1].notes[-1], note):
            chapters[-1] = ChapterSpan((*chapters[-1].notes, note))
        else:
            chapters.append(ChapterSpan((note,)))
    while len(chapters) > max_chapters(len(notes)):
        places = range(len(chapters) - 1)
        place = max(places, key=lambda at: _merge_priority(chapters[at], chapters[at + 1]))
        joined = ChapterSpan((*chapters[place].notes, *chapters[place + 1].notes))
        chapters[place : place + 2] = [joined]
    return chapters


def word_jaccard(one: str, other: str) -> float:
    """Jaccard index of the two sets of words, 0 to 1, without stop words."""
    words, others = _words(one), _words(other)
    if not words and not others:
        return 1.0
    return len(words & others) / len(words | others)


def _tells_the_same(before: Note, note: Note) -> bool:
    if _bare(before.text) == _bare(note.text):
        return True
    alike = word_jaccard(before.text, note.text)
    return not note.at_shot_change and alike >= MERGE_SIMILARITY


def _merge_priority(one: ChapterSpan, other: ChapterSpan) -> tuple[bool, float, float]:
    """Sort key of a merge: no shot change between the two, then similarity, then shortness."""
    texts = [" ".join(text for _, text in stretch.texts()) for stretch in (one, other)]
    return (
        not other.notes[0].at_shot_change,
        word_jaccard(*texts),
        -(other.end_seconds - one.start_seconds),
    )


def _most_frequent(texts: Sequence[str]) -> str:
    """Return the most frequent text; the longest one on a tie."""
    counts = Counter(map(_bare, texts))
    return max(texts, key=lambda text: (counts[_bare(text)], len(text)))


def _bare(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!")


def _words(text: str) -> frozenset[str]:
    return frozenset(_LETTERS.findall(text.casefold())) - _STOP_WORDS
