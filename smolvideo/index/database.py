"""The connection to an index file: its schema, transactions, and errors in words.

Write-ahead logging lets processes read while one writes, and a killed process loses at most the
transaction that it was in. https://www.sqlite.org/wal.html
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from smolvideo.errors import RecordError, SourceError
from smolvideo.files import data_dir, make_folders
from smolvideo.index.text_query import TOKENIZER
from smolvideo.sanitize import display_path

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x534D4F56
"""``SMOV``: what tells our files from other databases (https://www.sqlite.org/fileformat2.html)."""
BUSY_SECONDS = 30.0
"""How long a process waits for another one's write, which takes milliseconds."""

_SCHEMA = f"""
CREATE TABLE content (
    id INTEGER PRIMARY KEY,
    sha256 TEXT NOT NULL UNIQUE,
    settings_key TEXT NOT NULL,
    model TEXT NOT NULL,
    window_seconds REAL NOT NULL,
    duration_seconds REAL,
    error TEXT,
    is_complete INTEGER NOT NULL DEFAULT 0,
    claim TEXT,
    notices TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE path (
    path TEXT PRIMARY KEY,
    content INTEGER NOT NULL REFERENCES content,
    stamp TEXT NOT NULL
);
CREATE INDEX path_content ON path (content);
CREATE TABLE window (
    id INTEGER PRIMARY KEY,
    content INTEGER NOT NULL REFERENCES content,
    number INTEGER NOT NULL,
    start_seconds REAL NOT NULL,
    end_seconds REAL NOT NULL,
    frame_times TEXT NOT NULL,
    note TEXT NOT NULL,
    screen_text TEXT NOT NULL,
    cues TEXT NOT NULL,
    cue_times TEXT NOT NULL,
    UNIQUE (content, number)
);
CREATE VIRTUAL TABLE window_text USING fts5 (
    note, screen_text, cues, content = 'window', content_rowid = 'id', {TOKENIZER}
);
"""


def default_index_path() -> Path:
    """Return ``index.sqlite`` in the folder for the user's data. Raises RecordError."""
    return data_dir() / "index.sqlite"


class IndexDatabase:
    """The connection to an index file, of this version; see ``IndexStore``."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._errors():
            if not read_only:
                make_folders(path.parent)
            elif not path.is_file():
                raise RecordError(
                    f"no index at {display_path(path)}",
                    hint="`smolvideo index FOLDER` makes one",
                )
            self._database = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._open(read_only=read_only)
        except BaseException:
            self._database.close()
            raise

    def _open(self, *, read_only: bool) -> None:
        database = self._database
        database.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        database.execute("PRAGMA foreign_keys = ON")
        # Triggers and views of a file from elsewhere get no rights; ours has none.
        database.execute("PRAGMA trusted_schema = OFF")
        if self._is_empty() and not read_only:
            database.execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                if self._is_empty():  # another process may have been faster
                    for statement in _statements(_SCHEMA):
                        database.execute(statement)
                    database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION_ID:
            raise self._no_index()
        if version != SCHEMA_VERSION:
            raise RecordError(
                f"the index {display_path(self.path)} has version {version}, and this smolvideo "
                f"knows version {SCHEMA_VERSION}",
                hint="update smolvideo, or name another file with `--index`",
            )
        # As safe as FULL where a process is killed; a power cut may lose the last windows.
        database.execute("PRAGMA synchronous = NORMAL")

    def _is_empty(self) -> bool:
        return not self._database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with self._errors():
            return self._database.execute(statement, values).fetchall()

    def _row(self, statement: str, *values: Any) -> Any:
        with self._errors():
            return self._database.execute(statement, values).fetchone()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Begin as a writer: one that began as a reader could not wait for another writer."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
        except BaseException:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.OperationalError as error:
            named = display_path(self.path)
            if "locked" in str(error) or "busy" in str(error):
                raise RecordError(
                    f"another process holds the index {named}", hint="wait until it has ended"
                ) from error
            raise RecordError(f"cannot use the index {named}: {error}") from error
        except UnicodeEncodeError as error:
            raise SourceError(
                "a file name that is not UTF-8 cannot be in an index", hint="rename the file"
            ) from error
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            if "not a database" in str(error):
                raise self._no_index() from error
            raise self._damaged(str(error)) from error
        except OSError as error:
            raise RecordError(
                f"cannot use the index {display_path(self.path)}: {error.strerror or error}"
            ) from error

    def _no_index(self) -> RecordError:
        return RecordError(
            f"{display_path(self.path)} is no index of smolvideo",
            hint="name another file with `--index`",
        )

    def _damaged(self, why: str) -> RecordError:
        return RecordError(
            f"the index {display_path(self.path)} is damaged: {why}",
            hint="delete it, and index the folders again",
        )


def _statements(script: str) -> Iterator[str]:
    """Split a script: ``executescript`` would end the transaction that it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
