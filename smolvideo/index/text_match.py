"""How much of a query the texts of a window say: the share of its words, found as in the index."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from smolvideo.index.entries import IndexedWindow
from smolvideo.index.text_query import TOKENIZER, has_no_word_breaks, query_terms
from smolvideo.subtitles import Cue


@dataclass(frozen=True)
class TextMatch:
    """Shares of the words of a query, 0 to 1: in a note and the text on screen together, in the
    text on screen alone, and in the subtitles. ``terms`` is the number of words; ``matching_cues``
    are the subtitles that have any of them."""

    note: float = 0.0
    screen: float = 0.0
    cues: float = 0.0
    terms: int = 0
    matching_cues: tuple[Cue, ...] = ()

    @property
    def best(self) -> float:
        """The largest of the shares."""
        return max(self.note, self.screen, self.cues)


NO_MATCH = TextMatch()


def match_texts(query: str, windows: Sequence[IndexedWindow]) -> list[TextMatch]:
    """Return the match of each window with ``query``.

    Words are compared by their stems, by the tokenizer of the index itself.
    """
    terms = query_terms(query)
    if not terms:
        return [NO_MATCH for _ in windows]
    texts = [(window.note, window.screen_text) for window in windows]
    cues = [cue for window in windows for cue in window.cues]
    rows = [(note, screen, "") for note, screen in texts]
    rows += [("", "", cue.text) for cue in cues]
    found = _found(terms, rows)
    matches, place = [], len(windows)
    for number, window in enumerate(windows):
        own = [found[place + at] for at in range(len(window.cues))]
        place += len(window.cues)
        seen = {at for at, column in found[number] if column in (0, 1)}
        screen = {at for at, column in found[number] if column == 1}
        said = {at for terms_of_cue in own for at, _ in terms_of_cue}
        matches.append(
            TextMatch(
                len(seen) / len(terms),
                len(screen) / len(terms),
                len(said) / len(terms),
                len(terms),
                tuple(cue for cue, words in zip(window.cues, own, strict=True) if words),
            )
        )
    return matches


def _found(
    terms: Sequence[str], rows: Sequence[tuple[str, str, str]]
) -> list[set[tuple[int, int]]]:
    """Return, for each row, the terms in it with their column, as indices."""
    found: list[set[tuple[int, int]]] = [set() for _ in rows]
    database = sqlite3.connect(":memory:")
    try:
        database.execute(f"CREATE VIRTUAL TABLE texts USING fts5 (a, b, c, {TOKENIZER})")
        database.executemany(
            "INSERT INTO texts (rowid, a, b, c) VALUES (?, ?, ?, ?)",
            ((number, *row) for number, row in enumerate(rows)),
        )
        for at, term in enumerate(terms):
            if has_no_word_breaks(term):
                for number, row in enumerate(rows):
                    found[number] |= {(at, c) for c, text in enumerate(row) if term in text}
                continue
            for column, name in enumerate("abc"):
                expression = f'{name} : "{term}"'
                for (number,) in database.execute(
                    "SELECT rowid FROM texts WHERE texts MATCH ?", (expression,)
                ):
                    found[number].add((at, column))
    finally:
        database.close()
    return found
