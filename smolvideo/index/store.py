"""The index file: SQLite with a full-text table (FTS5) over notes, text on screen and subtitles.

    content   one video by its hash: settings of its notes, duration, error; complete or not
    path      files with that content, each with size and times, so that it need not be hashed again
    failure   files that cannot be opened, so that they have no hash
    window    a time range with its note; each is committed when it is made
    window_text   the full-text index over ``window``, whose texts it does not hold again

A content is claimed by the process that indexes it, so that two processes share the work; the claim
of a process that has ended does not count.
"""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smolvideo.index.claims import is_alive, is_same_owner
from smolvideo.index.database import size_of
from smolvideo.index.entries import ContentEntry, IndexedWindow, IndexStatus, cues_between
from smolvideo.index.named_paths import path_matcher
from smolvideo.index.window_search import WindowSearch
from smolvideo.source import Named
from smolvideo.subtitles import Cue


class IndexStore(WindowSearch):
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

    def has_size(self, size: int) -> bool:
        """Whether a file of this size is in the index."""
        found = self._row("SELECT 1 FROM path WHERE json_extract(stamp, '$[0]') = ? LIMIT 1", size)
        return found is not None

    def claim(
        self,
        sha256: str,
        *,
        settings_key: str,
        model: str,
        window_seconds: float,
        owner: str,
        is_reserved: bool = False,
    ) -> bool:
        """Take a content to index it with these settings; windows of other settings are deleted,
        unless it is only reserved, to be claimed by the same process later.

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
            if claimed and not is_same_owner(claimed, owner) and is_alive(claimed):
                return False
            if is_reserved:
                database.execute("UPDATE content SET claim = ? WHERE id = ?", (owner, number))
                return True
            if key != settings_key:
                _delete_windows(database, number)
            database.execute(
                "UPDATE content SET settings_key = ?, model = ?, window_seconds = ?, claim = ?, "
                "error = NULL, is_complete = 0 WHERE id = ?",
                (settings_key, model, window_seconds, owner, number),
            )
            return True

    def renew(self, sha256: str, *, owner: str) -> None:
        """Extend a claim."""
        with self._errors(), self._transaction() as database:
            database.execute("UPDATE content SET claim = ? WHERE sha256 = ?", (owner, sha256))

    def is_claimed(self, sha256: str) -> bool:
        """Whether a living process indexes a content."""
        row = self._row("SELECT claim FROM content WHERE sha256 = ?", sha256)
        return row is not None and row[0] is not None and is_alive(row[0])

    def add_path(
        self, path: str, sha256: str, stamp: tuple[int, ...], *, subtitles: str = ""
    ) -> None:
        """Record that a file has this content, which was claimed or is complete, and the
        ``subtitle_state`` of the file."""
        with self._errors(), self._transaction() as database:
            before = database.execute("SELECT content FROM path WHERE path = ?", (path,)).fetchone()
            database.execute(
                "INSERT OR REPLACE INTO path (path, content, stamp, subtitles) "
                "SELECT ?, id, ?, ? FROM content WHERE sha256 = ?",
                (path, json.dumps(stamp), subtitles, sha256),
            )
            database.execute("DELETE FROM failure WHERE path = ?", (path,))
            if before is not None:
                _drop_unnamed(database, [before[0]])

    def add_failure(self, path: str, error: str) -> None:
        """Record that a file cannot be opened."""
        with self._errors(), self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO failure (path, error) VALUES (?, ?)",
                (path, _storable(error)),
            )

    def failures(self, within: Sequence[Named | Path] | None = None) -> dict[str, str]:
        """Return the files that could not be indexed, with their errors; see ``paths``."""
        found = self._rows(
            "SELECT path, error FROM path JOIN content ON content.id = path.content "
            "WHERE error IS NOT NULL"
        )
        if not self._is_old:
            found += self._rows("SELECT path, error FROM failure")
        matches = None if within is None else path_matcher(within)
        return {path: error for path, error in sorted(found) if matches is None or matches(path)}

    def subtitle_states(self, contents: Sequence[int] | None = None) -> dict[str, str]:
        """Return the recorded state of the subtitle file of each path, of ``contents`` alone if
        they are given."""
        if self._is_old:
            return {}
        if contents is None:
            return dict(self._rows("SELECT path, subtitles FROM path ORDER BY path"))
        return dict(
            self._rows(
                "SELECT path, subtitles FROM path "
                "WHERE content IN (SELECT value FROM json_each(?)) ORDER BY path",
                json.dumps([*contents]),
            )
        )

    def replace_cues(self, content: int, cues: Sequence[Cue]) -> int:
        """Give the windows of a content other subtitles; return how many windows have others."""
        changed = 0
        with self._errors(), self._transaction() as database:
            windows = database.execute(
                "SELECT id, start_seconds, end_seconds, cue_times FROM window WHERE content = ?",
                (content,),
            ).fetchall()
            for number, start, end, before in windows:
                text, times = _cue_columns(cues_between(cues, start, end))
                if times == before:
                    continue
                _delete_texts(database, "id = ?", number)
                database.execute(
                    "UPDATE window SET cues = ?, cue_times = ? WHERE id = ?", (text, times, number)
                )
                _add_texts(database, number)
                changed += 1
        return changed

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
                    *_cue_columns(window.cues),
                    sha256,
                ),
            )
            if added.rowcount and added.lastrowid is not None:
                _add_texts(database, added.lastrowid)

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

    def release(self, sha256: str, *, owner: str) -> None:
        """Give a claim back, unfinished; that of another process stays."""
        with self._errors(), self._transaction() as database:
            row = database.execute(
                "SELECT claim FROM content WHERE sha256 = ?", (sha256,)
            ).fetchone()
            if row is not None and row[0] and is_same_owner(row[0], owner):
                database.execute("UPDATE content SET claim = NULL WHERE sha256 = ?", (sha256,))

    def paths(self, within: Sequence[Named | Path] | None = None) -> list[tuple[str, int]]:
        """Return the files and the ids of their contents; of sources those that they name, and
        those in them."""
        rows = self._rows("SELECT path, content FROM path ORDER BY path")
        if within is None:
            return rows
        matches = path_matcher(within)
        return [row for row in rows if matches(row[0])]

    def forget(self, paths: Sequence[str]) -> None:
        """Remove files, and the contents that no file has any more."""
        with self._errors(), self._transaction() as database:
            contents = []
            for path in paths:
                contents += database.execute(
                    "DELETE FROM path WHERE path = ? RETURNING content", (path,)
                ).fetchall()
                database.execute("DELETE FROM failure WHERE path = ?", (path,))
            _drop_unnamed(database, [number for (number,) in contents])

    def drop_windows(self, contents: Sequence[int]) -> None:
        """Delete the windows of contents, which are then to be indexed again."""
        with self._errors(), self._transaction() as database:
            for number in contents:
                _delete_windows(database, number)
                database.execute(
                    "UPDATE content SET is_complete = 0, error = NULL WHERE id = ?", (number,)
                )

    # ------------------------------------------------------------ the file as a whole

    def status(self) -> IndexStatus:
        """Return the counts over the file."""
        videos, incomplete, seconds = self._row(
            "SELECT count(*), coalesce(sum(NOT is_complete AND error IS NULL), 0), "
            "coalesce(sum(duration_seconds), 0) FROM content"
        ) or (0, 0, 0.0)
        (files,) = self._row("SELECT count(*) FROM path") or (0,)
        failed = len(self.failures())
        (windows,) = self._row("SELECT count(*) FROM window") or (0,)
        models = dict(self._rows("SELECT model, count(*) FROM content GROUP BY model ORDER BY 2"))
        size = sum(size_of(Path(f"{self.path}{tail}")) for tail in ("", "-wal"))
        return IndexStatus(videos, files, windows, incomplete, failed, seconds / 3600, size, models)

    def rebuild_text(self) -> None:
        """Build the full-text table again from the windows, and check the file.

        Raises RecordError where the file is damaged.
        """
        with self._errors(), self._transaction() as database:
            database.execute("INSERT INTO window_text (window_text) VALUES ('rebuild')")
        (verdict,) = self._row("PRAGMA quick_check") or ("",)
        if verdict != "ok":
            raise self._damaged()

    def vacuum(self) -> None:
        """Make the file as small as possible: merge the full-text table, and drop free pages."""
        with self._errors():
            self._database.execute("INSERT INTO window_text (window_text) VALUES ('optimize')")
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_ENTRY = (
    "id, sha256, settings_key, model, window_seconds, duration_seconds, error, is_complete, "
    "(SELECT count(*) FROM window WHERE window.content = content.id) FROM content"
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
    _delete_texts(database, "content = ?", content)
    database.execute("DELETE FROM window WHERE content = ?", (content,))


def _add_texts(database: sqlite3.Connection, window: int) -> None:
    database.execute(
        "INSERT INTO window_text (rowid, note, screen_text, cues) "
        "SELECT id, note, screen_text, cues FROM window WHERE id = ?",
        (window,),
    )


def _delete_texts(database: sqlite3.Connection, condition: str, value: int) -> None:
    """Delete the texts of windows from the full-text table, which needs them as they are."""
    database.execute(
        "INSERT INTO window_text (window_text, rowid, note, screen_text, cues) "
        f"SELECT 'delete', id, note, screen_text, cues FROM window WHERE {condition}",
        (value,),
    )


def _cue_columns(cues: Sequence[Cue]) -> tuple[str, str]:
    """Return the texts of cues, and their times and texts in JSON."""
    text = " ".join(cue.text for cue in cues)
    times = json.dumps([[cue.start_seconds, cue.end_seconds, cue.text] for cue in cues])
    return _storable(text), times
