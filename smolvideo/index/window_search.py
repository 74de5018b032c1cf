"""Windows of an index file, and the full-text search in them.

Words are found in the full-text table. Scripts without spaces between words (Chinese, Japanese,
Thai) have no words there; their terms are found as parts of the texts.
"""

import json
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from smolvideo.index.database import IndexDatabase
from smolvideo.index.entries import IndexedWindow
from smolvideo.index.text_query import has_no_word_breaks, loosening, query_terms, stems_of
from smolvideo.sampling.options import subsample
from smolvideo.subtitles import Cue

_MAX_RANKED = 2_000

_WINDOW = (
    "window.content, window.number, window.start_seconds, window.end_seconds, window.frame_times, "
    "window.note, window.screen_text, window.cue_times, window.id"
)


class WindowSearch(IndexDatabase):
    """The windows of an open index file."""

    def windows(self, contents: Sequence[int]) -> Iterator[tuple[int, IndexedWindow]]:
        """Yield the windows of contents, with the id of each one's content, in order of time."""
        for number in contents:
            rows = self._rows(
                f"SELECT {_WINDOW} FROM window WHERE content = ? ORDER BY number", number
            )
            yield from self._windows_of(rows)

    def spread(
        self, contents: Sequence[int], count: int, *, without: Collection[int] = ()
    ) -> list[tuple[int, IndexedWindow]]:
        """Return about ``count`` windows of contents, evenly spread, except those ``without``."""
        keys = self._rows(
            "SELECT id FROM window WHERE content IN (SELECT value FROM json_each(?)) ORDER BY id",
            json.dumps([*contents]),
        )
        left = [key for (key,) in keys if key not in without]
        chosen = subsample(left, count) if count > 0 else []
        rows = self._rows(
            f"SELECT {_WINDOW} FROM window WHERE id IN (SELECT value FROM json_each(?)) "
            "ORDER BY id",
            json.dumps([*chosen]),
        )
        return self._windows_of(rows)

    def content_count(self) -> int:
        """Return the number of contents that can be searched."""
        return int(self._row("SELECT count(*) FROM content WHERE error IS NULL")[0])

    def window_count(self, contents: Sequence[int]) -> int:
        """Return the number of windows of contents."""
        return int(
            self._row(
                "SELECT count(*) FROM window WHERE content IN (SELECT value FROM json_each(?))",
                json.dumps([*contents]),
            )[0]
        )

    def search(
        self, query: str, *, contents: Sequence[int] | None = None, limit: int = 200
    ) -> list[tuple[int, IndexedWindow]]:
        """Return at most ``limit`` windows with words of ``query``, each with its content: those
        with all words first, then those with all but one, and so on, each group by BM25.

        What is written on screen counts twice as much as a note.
        """
        terms = query_terms(query)
        words = [term for term in terms if not has_no_word_breaks(term)]
        counts = self._document_counts(words)
        known = sorted((word for word in words if counts[word]), key=lambda word: counts[word])
        parts = [term for term in terms if has_no_word_breaks(term)]
        found = {one.id: (content, one) for content, one in self._holding(parts, contents, limit)}
        for expression in loosening(known):
            if len(found) >= limit:
                break
            for content, window in self._matches(expression, contents, limit):
                found.setdefault(window.id, (content, window))
        return [*found.values()][:limit]

    def _matches(
        self, expression: str, contents: Sequence[int] | None, limit: int
    ) -> list[tuple[int, IndexedWindow]]:
        """Return the best matches of an FTS5 expression, of the newest ``_MAX_RANKED`` with it:
        BM25 takes long, and says little about words that are in most windows."""
        join, inside, values = "", "", []
        if contents is not None:
            join = "JOIN window ON window.id = window_text.rowid"
            inside = "AND window.content IN (SELECT value FROM json_each(?))"
            values.append(json.dumps([*contents]))
        rows = self._rows(
            f"SELECT {_WINDOW} FROM (SELECT window_text.rowid AS id, "
            f"bm25(window_text, 1.0, 2.0, 1.0) AS score FROM window_text {join} "
            f"WHERE window_text MATCH ? {inside} ORDER BY window_text.rowid DESC LIMIT ?) AS found "
            "JOIN window ON window.id = found.id ORDER BY found.score, window.id LIMIT ?",
            expression,
            *values,
            _MAX_RANKED,
            limit,
        )
        return self._windows_of(rows)

    def _holding(
        self, parts: Sequence[str], contents: Sequence[int] | None, limit: int
    ) -> list[tuple[int, IndexedWindow]]:
        """Return the windows whose texts have most of ``parts`` in them, anywhere."""
        if not parts:
            return []
        texts = "note || ' ' || screen_text || ' ' || cues"
        held = " + ".join(f"(instr({texts}, ?) > 0)" for _ in parts)
        inside, values = "", []
        if contents is not None:
            inside = "WHERE content IN (SELECT value FROM json_each(?))"
            values.append(json.dumps([*contents]))
        rows = self._rows(
            f"SELECT {_WINDOW} FROM (SELECT id, {held} AS held FROM window {inside}) AS found "
            "JOIN window ON window.id = found.id WHERE found.held > 0 "
            "ORDER BY found.held DESC, window.id LIMIT ?",
            *parts,
            *values,
            limit,
        )
        return self._windows_of(rows)

    def _document_counts(self, terms: Sequence[str]) -> dict[str, int]:
        """Return the number of windows with each term, of all windows."""
        with self._errors():
            self._database.execute(
                "CREATE VIRTUAL TABLE IF NOT EXISTS temp.words "
                "USING fts5vocab ('main', 'window_text', 'row')"
            )
        counts = {}
        for term, stems in zip(terms, stems_of(terms), strict=True):
            rows = [self._row("SELECT doc FROM temp.words WHERE term = ?", one) for one in stems]
            counts[term] = min((int(row[0]) if row else 0 for row in rows), default=0)
        return counts

    def _windows_of(self, rows: Sequence[Any]) -> list[tuple[int, IndexedWindow]]:
        with self._errors():
            return [(row[0], _window(row)) for row in rows]


def _window(row: Sequence[Any]) -> IndexedWindow:
    """Raises ValueError and TypeError for what this program did not write."""
    _, number, start, end, times, note, screen_text, cues, key = row[:9]
    frame_times = tuple(map(float, json.loads(times)))
    if not frame_times or not all(map(math.isfinite, (start, end, *frame_times))) or start > end:
        raise ValueError(f"impossible times of window {number}")
    said = (Cue(float(since), float(until), str(text)) for since, until, text in json.loads(cues))
    return IndexedWindow(
        number, start, end, frame_times, str(note), str(screen_text), tuple(said), key
    )
