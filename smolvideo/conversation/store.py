"""Store of all conversations on disk: create, reopen, list, delete and prune.

    <data>/sessions/<id>/       event log and frames, see ``event_log``
    <data>/sessions/<id>.lock   locked by the process that has the conversation open

Two processes never write to one conversation: opening it twice raises. Pruning removes the oldest
first: frames beyond ``MAX_BYTES`` (they can be decoded again), conversations beyond
``MAX_CONVERSATIONS``.
"""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from smolvideo.conversation.event_log import (
    LOG_NAME,
    EventLog,
    SavedConversation,
    iter_events,
    read_event_log,
    truncate_partial_line,
)
from smolvideo.conversation.turns import Settings
from smolvideo.errors import RecordError, UsageError
from smolvideo.files import data_dir, file_lock
from smolvideo.sanitize import display_name, display_path

MAX_CONVERSATIONS = 200
MAX_BYTES = 2 * 10**9
"""Limit of all stored frames: a hundred conversations with 50 frames of 512 x 512."""

_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")


@dataclass(frozen=True)
class ConversationSummary:
    """List entry of a conversation. ``last_used``: seconds since 1970; names are sanitized."""

    id: str
    last_used: float
    sources: tuple[str, ...]
    first_question: str
    turns: int
    size_bytes: int


def sessions_folder() -> Path:
    """Return the folder of all conversations."""
    return data_dir() / "sessions"


@contextmanager
def create(settings: Settings) -> Iterator[EventLog]:
    """Create the locked event log of a new conversation, and prune old ones."""
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    folder = sessions_folder() / name
    journal = EventLog(folder, settings)
    with ExitStack() as held:
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            held.enter_context(_own(folder))
            _prune(folder.parent)
        except OSError as error:
            where = display_path(folder.parent)
            journal.problem = f"the conversation cannot be kept in {where}: {error.strerror}"
        held.callback(journal.close)
        yield journal


@contextmanager
def reopen(session_id: str) -> Iterator[tuple[EventLog, SavedConversation]]:
    """Lock and open the event log of a conversation, and read its content.

    Raises UsageError for an invalid id, RecordError if it is missing, damaged, or open in another
    process.
    """
    folder = conversation_folder(session_id)
    with ExitStack() as held:
        try:
            held.enter_context(_own(folder))
        except BlockingIOError as error:
            raise RecordError(
                "the conversation is open in another window",
                hint="go on there, or with another one: `smolvideo chat --sessions`",
            ) from error
        except OSError as error:
            raise RecordError(f"cannot open {display_path(folder)}: {error.strerror}") from error
        kept = read_event_log(folder)
        truncate_partial_line(folder, kept)
        journal = EventLog(folder, kept.settings, goes_on=True)
        held.callback(journal.close)
        yield journal, kept


def conversation_folder(session_id: str) -> Path:
    """Return the folder of a conversation. UsageError: invalid id; RecordError: not found."""
    if not _ID.fullmatch(session_id):
        raise UsageError(
            f"`{display_name(session_id, 40)}` is no conversation",
            hint="`smolvideo chat --sessions` lists them",
        )
    folder = sessions_folder() / session_id
    if not (folder / LOG_NAME).is_file():
        raise RecordError(
            f"there is no conversation `{session_id}`",
            hint="`smolvideo chat --sessions` lists them",
        )
    return folder


def latest_id() -> str:
    """Return the id of the last used conversation. Raises RecordError if there is none."""
    folders = _folders()
    if not folders:
        raise RecordError(
            "there is no conversation to continue",
            hint="begin one: `smolvideo chat VIDEO`, or `smolvideo ask VIDEO QUESTION`",
        )
    return folders[0].name


def list_sessions() -> list[ConversationSummary]:
    """List all conversations, the last used first; damaged ones, too, so that they can be
    deleted.
    """
    return [_described(folder) for folder in _folders()]


def question_history(most: int = 500) -> list[str]:
    """Input history: questions of recent conversations without duplicates, the oldest first."""
    found: dict[str, None] = {}
    for folder in _folders()[:50]:
        questions = [
            str(event["turn"].get("question", ""))
            for event in iter_events(folder)
            if isinstance(event.get("turn"), dict)
        ]
        for question in reversed(questions):
            if question.strip():
                found.setdefault(question)
        if len(found) >= most:
            break
    return list(found)[:most][::-1]


def delete(session_id: str) -> None:
    """Delete a conversation.

    Raises as ``conversation_folder``, and RecordError while it is open.
    """
    folder = conversation_folder(session_id)
    try:
        with _own(folder):
            shutil.rmtree(folder)
    except BlockingIOError as error:
        raise RecordError("the conversation is open in another window") from error
    except OSError as error:
        raise RecordError(f"cannot delete {display_path(folder)}: {error.strerror}") from error


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    with file_lock(folder.with_name(f"{folder.name}.lock"), on_contention=None):
        yield


def _folders() -> list[Path]:
    """The folders of all conversations, the last used first."""
    found = []
    with contextlib.suppress(OSError), os.scandir(sessions_folder()) as entries:
        for entry in entries:
            journal = Path(entry.path) / LOG_NAME
            if _ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    found.append((journal.stat().st_mtime_ns, entry.name, Path(entry.path)))
    return [path for _, _, path in sorted(found, reverse=True)]


def _described(folder: Path) -> ConversationSummary:
    sources: dict[str, None] = {}
    questions: list[str] = []
    for event in iter_events(folder):
        match event:
            case {"look": {"source": {"name": str(name)}}}:
                sources.setdefault(display_name(name))
            case {"turn": {"question": str(question)}}:
                questions.append(display_name(question, 200))
            case {"taken_back": _}:
                del questions[-1:]
    size = used = 0.0
    with contextlib.suppress(OSError):
        size = sum(path.stat().st_size for path in folder.iterdir())
        used = (folder / LOG_NAME).stat().st_mtime
    first = questions[0] if questions else ""
    return ConversationSummary(folder.name, used, tuple(sources), first, len(questions), int(size))


def _prune(parent: Path) -> None:
    """Enforce ``MAX_CONVERSATIONS`` and ``MAX_BYTES``; open conversations are skipped."""
    total = 0
    for place, folder in enumerate(_folders()):
        pictures = list(folder.glob("frames-*.png"))
        with contextlib.suppress(OSError):
            total += sum(path.stat().st_size for path in pictures)
        if place >= MAX_CONVERSATIONS or total > MAX_BYTES:
            with contextlib.suppress(OSError), _own(folder):
                if place >= MAX_CONVERSATIONS:
                    shutil.rmtree(folder)
                for path in pictures:
                    path.unlink(missing_ok=True)
    for lock in parent.glob("*.lock"):
        # Locks of deleted conversations.
        if _ID.fullmatch(lock.stem) and not lock.with_suffix("").exists():
            _drop_lock(lock)


def _drop_lock(lock: Path) -> None:
    """Delete the lock of a deleted conversation, if it is older than a week.

    A younger one may belong to a conversation without a folder yet. Ids are never reused, so no
    process waits for the lock.
    """
    with contextlib.suppress(OSError):
        if time.time() - lock.stat().st_mtime > 7 * 24 * 3600:
            lock.unlink()
