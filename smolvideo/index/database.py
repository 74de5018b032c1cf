"""The connection to an index file: its schema, transactions, and errors in words.

Write-ahead logging lets processes read while one writes, and a killed process loses at most the
transaction that it was in. https://www.sqlite.org/wal.html

A file that cannot be written is read all the same (``mode=ro``); where the log and its index cannot
be made beside it either, without them (``immutable=1``), with a notice.
https://www.sqlite.org/wal.html#read_only_databases
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from smolvideo.closing import ClosedOnExit
from smolvideo.errors import RecordError, SourceError
from smolvideo.files import data_dir, make_folders
from smolvideo.index.text_query import TOKENIZER
from smolvideo.sanitize import display_path

SCHEMA_VERSION = 2
"""2: state of the subtitle file of each path, and files that cannot be opened. A file of version 1
is read, and gets them when it is opened to be written."""
_APPLICATION_ID = 0x534D4F56
"""``SMOV``: what tells our files from other databases (https://www.sqlite.org/fileformat2.html)."""
BUSY_SECONDS = 30.0
"""How long a process waits for another one's write, which takes milliseconds."""

_FAILURE = "CREATE TABLE failure (path TEXT PRIMARY KEY, error TEXT NOT NULL);"
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
    stamp TEXT NOT NULL,
    subtitles TEXT NOT NULL DEFAULT ''
);
CREATE INDEX path_content ON path (content);
{_FAILURE}
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


class IndexDatabase(ClosedOnExit):
    """The connection to an index file, of this version; see ``IndexStore``.

    ``read_only`` writes nothing, and ``must_exist`` makes no new file. ``notices`` say what a file
    in a folder that cannot be written leaves out.
    """

    def __init__(self, path: Path, *, read_only: bool = False, must_exist: bool = False) -> None:
        self.path = path
        self.notices: tuple[str, ...] = ()
        self._lock = threading.RLock()
        with self._errors():
            self._check_file(must_exist=must_exist or read_only)
            self._database = self._connect_to_read() if read_only else self._connect_to_write()
            self._is_old = _version(self._database) < SCHEMA_VERSION

    def _check_file(self, *, must_exist: bool) -> None:
        """Raises RecordError for what can be no index: a folder, a device, and a missing file that
        ``must_exist``."""
        if self.path.is_dir():
            raise RecordError(
                f"{display_path(self.path)} is a folder, and an index is a file",
                hint=f"name a file in it: `--index {display_path(self.path / 'index.sqlite')}`",
            )
        if self.path.exists() and not self.path.is_file():
            raise self._no_index()
        if self.path.exists():
            return
        if must_exist:
            raise RecordError(
                f"no index at {display_path(self.path)}",
                hint="`smolvideo index FOLDER` makes one",
            )
        make_folders(self.path.parent)

    def _connect_to_write(self) -> sqlite3.Connection:
        database = _connect(self.path)
        try:
            if _is_empty(database):
                database.execute("PRAGMA journal_mode = WAL")
                with _transaction(database):
                    if _is_empty(database):  # another process may have been faster
                        for statement in _statements(_SCHEMA):
                            database.execute(statement)
                        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._check_version(database)
            if _version(database) < SCHEMA_VERSION:
                with _transaction(database):
                    if _version(database) < SCHEMA_VERSION:
                        for statement in _statements(_UPDATE):
                            database.execute(statement)
                        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            # As safe as FULL where a process is killed; a power cut may lose the last windows.
            database.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            database.close()
            raise
        return database

    def _connect_to_read(self) -> sqlite3.Connection:
        """Connect as a reader that makes the log beside the file, as one that does not, or as one
        that needs none."""
        for options in ("mode=rw", "mode=ro", "immutable=1"):
            database = _connect(self.path, options)
            try:
                self._check_version(database)
            except sqlite3.OperationalError as error:
                database.close()
                if options == "immutable=1" or _code(error) not in _NOT_WRITABLE:
                    raise
                continue
            except BaseException:
                database.close()
                raise
            if options == "immutable=1":
                self.notices = (self._read_without_log(),)
            return database
        raise AssertionError  # the last attempt returns or raises

    def _read_without_log(self) -> str:
        named = display_path(self.path)
        if size_of(Path(f"{self.path}-wal")):
            return (
                f"the index {named} is in a folder that cannot be written, and its newest windows "
                f"({display_path(self.path.name)}-wal) are not searched"
            )
        return (
            f"the index {named} is in a folder that cannot be written: windows that are added "
            "while it is searched are not seen"
        )

    def _check_version(self, database: sqlite3.Connection) -> None:
        """Raises RecordError for what is no index, or one of a newer version."""
        (application,) = database.execute("PRAGMA application_id").fetchone()
        if application != _APPLICATION_ID:
            raise self._no_index()
        version = _version(database)
        if not 1 <= version <= SCHEMA_VERSION:
            raise RecordError(
                f"the index {display_path(self.path)} has version {version}, and this smolvideo "
                f"knows version {SCHEMA_VERSION}",
                hint="update smolvideo, or name another file with `--index`",
            )
        database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()

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
        with _transaction(self._database) as database:
            yield database

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of SQLite, of the file system and of what a file holds into ours."""
        try:
            with self._lock:
                yield
        except sqlite3.ProgrammingError:  # of this program
            raise
        except sqlite3.Error as error:
            raise self._in_words(error) from error
        except UnicodeEncodeError as error:
            raise SourceError(
                "a file name that is not UTF-8 cannot be in an index", hint="rename the file"
            ) from error
        except (TypeError, ValueError) as error:
            raise self._damaged() from error
        except OSError as error:
            raise RecordError(
                f"cannot use the index {display_path(self.path)}: {error.strerror or error}"
            ) from error

    def _in_words(self, error: sqlite3.Error) -> RecordError:
        """Return our error for one of SQLite; https://www.sqlite.org/rescode.html"""
        named, code = display_path(self.path), _code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            return RecordError(
                f"another process holds the index {named}", hint="wait until it has ended"
            )
        if code == sqlite3.SQLITE_NOTADB:
            return self._no_index()
        if "no such module" in str(error):
            return RecordError(
                "the SQLite of this Python has no full-text search (FTS5)",
                hint="install a Python whose sqlite3 module has it",
            )
        why = None if code is None else _REASONS.get(code)
        if why is None:  # a table or a column is missing, pages do not fit, a value is impossible
            return self._damaged()
        return RecordError(
            f"the index {named} {why}", hint="`--index FILE` uses another file for it"
        )

    def _no_index(self) -> RecordError:
        return RecordError(
            f"{display_path(self.path)} is no index of smolvideo",
            hint="name another file with `--index`",
        )

    def _damaged(self) -> RecordError:
        return RecordError(
            f"the index {display_path(self.path)} is damaged",
            hint="delete it, and index the folders again",
        )


_UPDATE = f"""
ALTER TABLE path ADD COLUMN subtitles TEXT NOT NULL DEFAULT '';
{_FAILURE}
"""

_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)

_REASONS = {
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: its folder or its file may not be accessible",
    sqlite3.SQLITE_PERM: "cannot be opened: access is denied",
    sqlite3.SQLITE_READONLY: "cannot be written: the file or its folder is read-only",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the drive reports an error",
    sqlite3.SQLITE_FULL: "cannot be written: the drive is full",
    sqlite3.SQLITE_NOMEM: "does not fit the memory",
}


def _code(error: sqlite3.Error) -> int | None:
    """Return the primary result code; None where Python raised the error itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _connect(path: Path, options: str = "mode=rwc") -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(os.path.abspath(path)))}?{options}"
    database = sqlite3.connect(
        address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    database.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    database.execute("PRAGMA foreign_keys = ON")
    # Triggers and views of a file from elsewhere get no rights; ours has none.
    database.execute("PRAGMA trusted_schema = OFF")
    return database


def _is_empty(database: sqlite3.Connection) -> bool:
    return not database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 for one that is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Begin as a writer: one that began as a reader could not wait for another writer."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """Split a script: ``executescript`` would end the transaction that it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
