"""The index file: SQLite with a full-text table (FTS5) over notes, text on screen and subtitles.

    content   one video by its hash: settings of its notes, duration, error; complete or not
    path      files with that content, each with size and times, so that it need not be hashed again
    window    a time range with its note; each is committed when it is made
    window_text   the full-text index over ``window``, whose texts it does not hold again

A content is claimed by the process that indexes it, so that two processes share the work; the claim
of a process that has ended does not count.
"""

import json
import math
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from smolvideo.index.claims import is_alive
from smolvideo.index.database import IndexDatabase
from smolvideo.index.entries import ContentEntry, IndexedWindow, IndexStatus
from smolvideo.index.text_query import loosening, query_terms, stems_of
from smolvideo.sampling.options import subsample
from smolvideo.subtitles import Cue


class IndexStore(IndexDatabase):
    """An open index file. A context manager; thread-safe, beside any number of processes.

    Raises RecordError, from every method: for a file that is damaged, no index, or of a newer
    version, and where it cannot be read or written.
    """

    # ------------------------------------------------------------ contents and paths

    def content(self, sha256: str) -> ContentEntry | None:
        """Return the entry of a content, or None."""
        row = self._row(f"SELECT {_ENTRY} WHERE sha256 = ?", sha256)
        return None if row is None else _entry(row)

    def contents(self) -> list[ContentEntry]:
        """Return all entries."""
        return [_entry(row) for row in self._rows(f"SELECT {_ENTRY} ORDER BY id")]

    def known_hash(self, path: str, stamp: tuple[int, ...]) -> str | None:
        """Return the hash of a file that has not changed since it was added."""
        row = self._row(
            "SELECT sha256 FROM path JOIN content ON content.id = path.content "
            "WHERE path = ? AND stamp = ?",
            path,
            json.dumps(stamp),
        )
        return None if row is None else str(row[0])

    def claim(
        self, sha256: str, *, settings_key: str, model: str, window_seconds: float, owner: str
    ) -> bool:
        """Take a content to index it with these settings; windows of other settings are deleted.

        Return False while a living process indexes it.
        """
        with self._errors(), self._transaction() as database:
            row = database.execute(
                "SELECT id, settings_key, claim FROM content WHERE sha256 = ?", (sha256,)
            ).fetchone()
            if row is None:
                database.execute(
                    "INSERT INTO content (sha256, settings_key, model, window_seconds, claim) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (sha256, settings_key, model, window_seconds, owner),
                )
                return True
            number, key, claimed = row
            if claimed not in (None, owner) and is_alive(claimed):
                return False
            if key != settings_key:
                _delete_windows(database, number)
            database.execute(
                "UPDATE content SET settings_key = ?, model = ?, window_seconds = ?, claim = ?, "
                "error = NULL, is_complete = 0 WHERE id = ?",
                (settings_key, model, window_seconds, owner, number),
            )
            return True

    def add_path(self, path: str, sha256: str, stamp: tuple[int, ...]) -> None:
        """Record that a file has this content, which was claimed or is complete."""
        with self._errors(), self._transaction() as database:
            before = database.execute("SELECT content FROM path WHERE path = ?", (path,)).fetchone()
            database.execute(
                "INSERT OR REPLACE INTO path (path, content, stamp) "
                "SELECT ?, id, ? FROM content WHERE sha256 = ?",
                (path, json.dumps(stamp), sha256),
            )
            if before is not None:
                _drop_unnamed(database, [before[0]])

    def add_window(self, sha256: str, window: IndexedWindow) -> None:
        """Commit a window; one with the same number stays."""
        with self._errors(), self._transaction() as database:
            added = database.execute(
                "INSERT OR IGNORE INTO window (content, number, start_seconds, end_seconds, "
                "frame_times, note, screen_text, cues, cue_times) "
                "SELECT id, ?, ?, ?, ?, ?, ?, ?, ? FROM content WHERE sha256 = ?",
                (
                    window.number,
                    window.start_seconds,
                    window.end_seconds,
                    json.dumps(window.frame_times),
                    _storable(window.note),
                    _storable(window.screen_text),
                    _storable(window.cue_text),
                    json.dumps([[c.start_seconds, c.end_seconds, c.text] for c in window.cues]),
                    sha256,
                ),
            )
            if added.rowcount:
                database.execute(
                    "INSERT INTO window_text (rowid, note, screen_text, cues) "
                    "SELECT id, note, screen_text, cues FROM window WHERE id = ?",
                    (added.lastrowid,),
                )

    def window_numbers(self, sha256: str) -> frozenset[int]:
        """Return the numbers of the windows that are in the index."""
        rows = self._rows(
            "SELECT number FROM window JOIN content ON content.id = window.content "
            "WHERE sha256 = ?",
            sha256,
        )
        return frozenset(number for (number,) in rows)

    def finish(
        self,
        sha256: str,
        *,
        duration_seconds: float | None = None,
        error: str | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        """Mark a claimed content as complete, or as one that cannot be indexed."""
        with self._errors(), self._transaction() as database:
            database.execute(
                "UPDATE content SET is_complete = ?, duration_seconds = ?, error = ?, "
                "notices = ?, claim = NULL WHERE sha256 = ?",
                (error is None, duration_seconds, error, json.dumps([*notices]), sha256),
            )

    def release(self, sha256: str) -> None:
        """Give a claim back, unfinished."""
        with self._errors(), self._transaction() as database:
            database.execute("UPDATE content SET claim = NULL WHERE sha256 = ?", (sha256,))

    def paths(self, within: Sequence[Path] | None = None) -> list[tuple[str, int]]:
        """Return the files and the ids of their contents: those named, and those in folders."""
        rows = self._rows("SELECT path, content FROM path ORDER BY path")
        if within is None:
            return rows
        named = [os.path.abspath(path) for path in within]
        inside = tuple(path.rstrip(os.sep) + os.sep for path in named)
        exact = set(named)
        return [row for row in rows if row[0] in exact or row[0].startswith(inside)]

    def forget(self, paths: Sequence[str]) -> None:
        """Remove files, and the contents that no file has any more."""
        with self._errors(), self._transaction() as database:
            contents = []
            for path in paths:
                contents += database.execute(
                    "DELETE FROM path WHERE path = ? RETURNING content", (path,)
                ).fetchall()
            _drop_unnamed(database, [number for (number,) in contents])

    def drop_windows(self, contents: Sequence[int]) -> None:
        """Delete the windows of contents, which are then to be indexed again."""
        with self._errors(), self._transaction() as database:
            for number in contents:
                _delete_windows(database, number)
                database.execute(
                    "UPDATE content SET is_complete = 0, error = NULL WHERE id = ?", (number,)
                )

    # ------------------------------------------------------------ windows and search

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
        counts = self._document_counts(terms)
        known = sorted((term for term in terms if counts[term]), key=lambda term: counts[term])
        found: dict[int, tuple[int, IndexedWindow]] = {}
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

    # ------------------------------------------------------------ the file as a whole

    def status(self) -> IndexStatus:
        """Return the counts over the file."""
        videos, incomplete, failed, seconds = self._row(
            "SELECT count(*), coalesce(sum(NOT is_complete AND error IS NULL), 0), "
            "coalesce(sum(error IS NOT NULL), 0), coalesce(sum(duration_seconds), 0) FROM content"
        ) or (0, 0, 0, 0.0)
        (files,) = self._row("SELECT count(*) FROM path") or (0,)
        (windows,) = self._row("SELECT count(*) FROM window") or (0,)
        models = dict(self._rows("SELECT model, count(*) FROM content GROUP BY model ORDER BY 2"))
        size = sum(_size(Path(f"{self.path}{tail}")) for tail in ("", "-wal"))
        return IndexStatus(videos, files, windows, incomplete, failed, seconds / 3600, size, models)

    def rebuild_text(self) -> None:
        """Build the full-text table again from the windows, and check the file.

        Raises RecordError where the file is damaged.
        """
        with self._errors(), self._transaction() as database:
            database.execute("INSERT INTO window_text (window_text) VALUES ('rebuild')")
        (verdict,) = self._row("PRAGMA quick_check") or ("",)
        if verdict != "ok":
            raise self._damaged(str(verdict))

    def vacuum(self) -> None:
        """Make the file as small as possible: merge the full-text table, and drop free pages."""
        with self._errors():
            self._database.execute("INSERT INTO window_text (window_text) VALUES ('optimize')")
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_MAX_RANKED = 2_000

_ENTRY = (
    "id, sha256, settings_key, model, window_seconds, duration_seconds, error, is_complete, "
    "(SELECT count(*) FROM window WHERE window.content = content.id) FROM content"
)
_WINDOW = (
    "window.content, window.number, window.start_seconds, window.end_seconds, window.frame_times, "
    "window.note, window.screen_text, window.cue_times, window.id"
)


def _entry(row: Sequence[Any]) -> ContentEntry:
    key, sha256, settings_key, model, window_seconds, duration, error, is_complete, count = row
    return ContentEntry(
        key,
        sha256,
        settings_key,
        model,
        window_seconds,
        duration,
        error,
        bool(is_complete),
        count,
    )


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


def _storable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold, and zero bytes, which end SQLite's text."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ")


def _drop_unnamed(database: sqlite3.Connection, contents: Sequence[int]) -> None:
    """Delete those of ``contents`` that no file has; a claimed one is still at work."""
    for number in contents:
        unnamed = database.execute(
            "SELECT 1 FROM content WHERE id = ? AND claim IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM path WHERE path.content = content.id)",
            (number,),
        ).fetchone()
        if unnamed:
            _delete_windows(database, number)
            database.execute("DELETE FROM content WHERE id = ?", (number,))


def _delete_windows(database: sqlite3.Connection, content: int) -> None:
    """Delete the windows of a content, from the full-text table first, which needs their texts."""
    database.execute(
        "INSERT INTO window_text (window_text, rowid, note, screen_text, cues) "
        "SELECT 'delete', id, note, screen_text, cues FROM window WHERE content = ?",
        (content,),
    )
    database.execute("DELETE FROM window WHERE content = ?", (content,))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
