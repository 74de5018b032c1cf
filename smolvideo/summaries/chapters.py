"""Notes of neighbouring windows joined to chapters.

A chapter begins where the picture changes and the note tells something new. Of the published models
no two notes are ever equal, so likeness is counted in shared words, and where that leaves too many
chapters the most alike neighbours are joined until there are few enough.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from smolvideo.summaries.record import Note

MERGE_SIMILARITY = 0.5
"""Share of words in common from which two notes tell the same where no shot change lies between."""
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
        """What it tells, with the times at which each thing is first told.

        Of neighbouring notes that tell the same in other words the most frequent speaks for all.
        """
        groups: list[list[Note]] = []
        for note in self.notes:
            if groups and _tells_the_same(groups[-1][-1], note):
                groups[-1].append(note)
            else:
                groups.append([note])
        told: dict[str, tuple[float, str]] = {}
        for group in groups:
            text = _most_frequent([note.text for note in group])
            told.setdefault(_bare(text), (group[0].start_seconds, text))
        return list(told.values())


def max_chapters(windows: int) -> int:
    """How many chapters a video of so many windows may have: half as many, or a few."""
    return max(MIN_CHAPTER_LIMIT, math.ceil(windows / 2))


def merge_notes(notes: Sequence[Note]) -> list[ChapterSpan]:
    """The chapters of a video, in order; together they hold all notes."""
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
    """Words in common over words in all, 0 to 1 (Jaccard); words that say nothing do not count."""
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
    """What to join first: no shot change between, then alike, then short."""
    texts = [" ".join(text for _, text in stretch.texts()) for stretch in (one, other)]
    return (
        not other.notes[0].at_shot_change,
        word_jaccard(*texts),
        -(other.end_seconds - one.start_seconds),
    )


def _most_frequent(texts: Sequence[str]) -> str:
    """The text that comes most often; of several, the longest of them."""
    counts = Counter(map(_bare, texts))
    return max(texts, key=lambda text: (counts[_bare(text)], len(text)))


def _bare(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!")


def _words(text: str) -> frozenset[str]:
    return frozenset(_LETTERS.findall(text.casefold())) - _STOP_WORDS
