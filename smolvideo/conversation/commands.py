"""Slash commands of the chat: table, parser and tab completion."""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from smolvideo.errors import UsageError
from smolvideo.models import MODELS
from smolvideo.sanitize import display_name
from smolvideo.source import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from smolvideo.subtitles import SUBTITLE_SUFFIXES

ArgumentKind = Literal["nothing", "media", "subtitles", "model", "new file", "words"]
"""Kind of a command's argument, for its completion."""

MAX_COMPLETIONS = 40
_MAX_ENTRIES = 5_000
"""Folder entries that are scanned: completion must be quick in any folder."""


@dataclass(frozen=True)
class Command:
    """``/name`` and the kind of its argument; ``tui_only`` commands need the full screen."""

    name: str
    usage: str
    summary: str
    argument_kind: ArgumentKind = "nothing"
    tui_only: bool = False

    @property
    def with_slash(self) -> str:
        return f"/{self.name}"


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("frames", "/frames 20", "look again, with so many frames", "words"),
        Command("zoom", "/zoom 1:10 1:40", "look closely at one part", "words"),
        Command("add", "/add FILE", "look at one more video or picture", "media"),
        Command("subtitles", "/subtitles FILE|auto|off", "what is said in the video", "subtitles"),
        Command("model", "/model NAME", "go on with another model", "model"),
        Command("edit", "/edit", "take the last question back, to ask differently", "words"),
        Command("save", "/save FILE", "this conversation as .md, .json or .html", "new file"),
        Command("open", "/open", "play from the time under the cursor", tui_only=True),
        Command("copy", "/copy", "the last answer to the clipboard", tui_only=True),
        Command("sessions", "/sessions", "go on with another conversation", tui_only=True),
        Command("theme", "/theme", "dark or light", tui_only=True),
        Command("help", "/help", "keys and commands"),
        Command("quit", "/quit", "leave; the conversation is kept"),
    )
}


@dataclass(frozen=True)
class ParsedCommand:
    """A command line: the words after the name, and ``rest``, the same text unsplit."""

    command: Command
    words: tuple[str, ...]
    rest: str


@dataclass(frozen=True)
class Completion:
    """``line`` is the completed input line; ``label`` and ``summary`` are shown in the list."""

    line: str
    label: str
    summary: str = ""


def parse_line(line: str) -> ParsedCommand | str:
    """Parse an input line as a command or a question. ``//`` escapes a question's first slash.

    Raises UsageError for an unknown command, and for an open quotation mark.
    """
    text = line.strip()
    if text.startswith("//"):
        return text[1:]
    if not text.startswith("/"):
        return text
    name, _, rest = text[1:].partition(" ")
    if not name:
        raise UsageError("a command follows the slash at once", hint="`/help` lists them")
    command = COMMANDS.get(name.lower())
    if command is None:
        raise _no_such_command(name)
    words = tuple(_split(rest))
    if words and command.argument_kind == "nothing":
        raise UsageError(f"`{command.with_slash}` stands alone")
    return ParsedCommand(command, words, rest.strip())


def complete(line: str, *, screen: bool = True) -> list[Completion]:
    """Return the completions of ``line``; none for a question."""
    if not line.startswith("/") or line.startswith("//"):
        return []
    name, space, rest = line[1:].partition(" ")
    if not space:
        return [
            Completion(f"{command.with_slash}{'' if command.argument_kind == 'nothing' else ' '}",
                       command.usage, command.summary)
            for command in COMMANDS.values()
            if command.name.startswith(name.lower()) and (screen or not command.tui_only)
        ]  # fmt: skip
    command = COMMANDS.get(name.lower())
    if command is None:
        return []
    found = list(_arguments(command, rest.lstrip()))[:MAX_COMPLETIONS]
    return [
        Completion(f"{command.with_slash} {text}", shown, about) for text, shown, about in found
    ]


def _arguments(command: Command, typed: str) -> Iterator[tuple[str, str, str]]:
    match command.argument_kind:
        case "model":
            for name, spec in MODELS.items():
                if name.startswith(typed):
                    yield name, name, spec.note
        case "media":
            yield from _paths(typed, VIDEO_SUFFIXES | IMAGE_SUFFIXES)
        case "subtitles":
            for word, about in (("auto", "the file beside the video"), ("off", "none")):
                if word.startswith(typed):
                    yield word, word, about
            yield from _paths(typed, frozenset(SUBTITLE_SUFFIXES))
        case "new file":
            yield from _paths(typed, frozenset())


def _paths(typed: str, suffixes: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """Yield folders, and files with one of ``suffixes``, that start with ``typed``."""
    bare = typed.lstrip("\"'")
    expanded = os.path.expanduser(bare)
    folder, start = os.path.split(expanded)
    try:
        with os.scandir(folder or ".") as entries:
            names = [
                (entry.name, entry.is_dir()) for entry, _ in zip(entries, range(_MAX_ENTRIES))  # noqa: B905
            ]  # fmt: skip
    except (OSError, ValueError):
        return
    shown_folder = bare[: len(bare) - len(start)]
    for name, is_folder in sorted(names):
        hidden = name.startswith(".") and not start.startswith(".")
        if hidden or not name.startswith(start) or name != display_name(name, 1000):
            continue
        if is_folder:
            yield _quoted(f"{shown_folder}{name}/"), f"{name}/", "folder"
        elif Path(name).suffix.lower() in suffixes:
            yield _quoted(f"{shown_folder}{name}"), name, ""


def _quoted(path: str) -> str:
    """Quote a path if needed; the quote of a folder stays open, so that typing continues in it."""
    if not any(char in path for char in " \"'"):
        return path
    mark = "'" if '"' in path else '"'
    return f"{mark}{path}" + ("" if path.endswith("/") else mark)


def _split(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split = True
    lexer.escape = lexer.commenters = ""  # a backslash is part of names on Windows
    try:
        return list(lexer)
    except ValueError as error:
        raise UsageError("a quotation mark is left open") from error


def _no_such_command(name: str) -> UsageError:
    near = get_close_matches(name.lower(), COMMANDS, n=1, cutoff=0.5)
    hint = f"did you mean `/{near[0]}`?" if near else "`/help` lists them"
    hint += "; a question with a slash begins with two"
    return UsageError(f"there is no command `/{display_name(name, 30)}`", hint=hint)


_IN_CHAT = (
    (re.compile(r"`?--model ([\w./-]+)`?"), r"`/model \1`"),
    (re.compile(r"`?--max-frames (\d+)`?"), r"`/frames \1`"),
    (re.compile(r"`--max-frames`"), "`/frames`"),
    (re.compile(r"`--subtitles ([\w./-]+)`"), r"`/subtitles \1`"),
    (re.compile(r"`--start` and `--end`"), "`/zoom`"),
)
"""Options that have a slash command; others can only be set when the chat is started."""


def in_chat(sentence: str) -> str:
    """Replace options in ``sentence`` by the slash commands that a chat user can type.

    >>> in_chat("for real footage use `--model smolvlm2-256m`")
    'for real footage use `/model smolvlm2-256m`'
    """
    for option, command in _IN_CHAT:
        sentence = option.sub(command, sentence)
    return sentence
