"""Slash commands of the chat: table, parser, tab completion and execution."""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from smolvideo.conversation.conversation import Conversation
from smolvideo.conversation.explain import explain_last_answer
from smolvideo.conversation.export import export
from smolvideo.conversation.find import find_in_attachments
from smolvideo.conversation.turns import Attachment
from smolvideo.errors import PromptError, UsageError
from smolvideo.file_names import existing_path
from smolvideo.formatting import format_timestamp
from smolvideo.models import MODELS
from smolvideo.pipeline.subtitles import limit_cues_for_prompt, read_cues
from smolvideo.progress import OnProgress, no_progress
from smolvideo.records import write_text_atomic
from smolvideo.sampling import RelativeTime, parse_time
from smolvideo.sanitize import display_name, display_path
from smolvideo.source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, DownloadOptions, resolve_sources
from smolvideo.subtitles import SUBTITLE_SUFFIXES, format_cues

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
        Command("frames", "/frames 20", "sample the video again, with N frames", "words"),
        Command("zoom", "/zoom 1:10 1:40", "look closely at one part", "words"),
        Command("add", "/add FILE", "look at one more video or picture", "media"),
        Command("find", "/find a red car", "moments of the videos in view that show it", "words"),
        Command("subtitles", "/subtitles FILE|auto|off", "what is said in the video", "subtitles"),
        Command("why", "/why", "the frames that carry the last answer"),
        Command("model", "/model NAME", "switch to another model", "model"),
        Command("edit", "/edit", "take the last question back, to ask differently", "words"),
        Command("save", "/save FILE", "this conversation as .md, .json or .html", "new file"),
        Command("open", "/open", "play from the time under the cursor", tui_only=True),
        Command("copy", "/copy", "the last answer to the clipboard", tui_only=True),
        Command("sessions", "/sessions", "open another conversation", tui_only=True),
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


_MAX_FRAMES = 10_000


def execute(
    call: ParsedCommand,
    conversation: Conversation,
    *,
    attachment: Attachment | None = None,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 -- frozen
    on_progress: OnProgress = no_progress,
) -> str:
    """Execute ``call``; ``attachment`` is the attachment on screen, by default the last one.

    Commands of the full screen (``/open``, ``/quit``) are not handled here. Raises UsageError for
    invalid arguments, and the errors of decoding, loading and writing; the conversation is then
    unchanged.
    """
    shown = attachment or (conversation.attachments[-1] if conversation.attachments else None)
    match call.command.name:
        case "frames":
            return _frames(call, conversation, on_progress)
        case "zoom":
            return _zoom(call, conversation, shown, on_progress)
        case "add":
            return _add(call, conversation, download, on_progress)
        case "find":
            return find_in_attachments(call.rest, conversation, on_progress=on_progress)
        case "subtitles":
            return _subtitles(call, conversation, shown)
        case "why":
            return (
                f"why: {explain_last_answer(conversation, on_progress=on_progress).evidence.text}"
            )
        case "model":
            return _model(call, conversation, on_progress)
        case "save":
            return _save(call, conversation)
    raise UsageError(f"`{call.command.with_slash}` is for the full screen")


def trailing_question(call: ParsedCommand) -> str:
    """Return the question after ``/zoom 1:10 1:40``, or an empty string."""
    if call.command.name != "zoom" or len(call.words) < 3:
        return ""
    return " ".join(call.words[2:])


def _frames(call: ParsedCommand, conversation: Conversation, on_progress: OnProgress) -> str:
    if not call.words:
        counts = (
            ", ".join(str(len(attachment.batch)) for attachment in conversation.attachments)
            or "none"
        )
        return f"frames in view: {counts}"
    if len(call.words) != 1 or not call.words[0].isdecimal():
        raise UsageError("how many frames?", hint=f"`{call.command.usage}`")
    count = int(call.words[0][:9])
    if not 1 <= count <= _MAX_FRAMES:
        raise UsageError(f"between 1 and {_MAX_FRAMES:,} frames can be taken")
    if not conversation.attachments:
        raise UsageError("there is nothing to look at yet", hint="`/add FILE`")
    try:
        conversation.resample(count, on_progress=on_progress)
    except PromptError as error:
        # Reword the hint: here the number is set by a command, not by an option.
        hint = error.hint.replace("--max-frames ", "/frames ") if error.hint else None
        raise PromptError(str(error), hint=hint) from error
    taken = sum(len(one.batch) for one in conversation.attachments)
    return f"looking at {taken} frame{'s' * (taken != 1)}"


def _zoom(
    call: ParsedCommand,
    conversation: Conversation,
    attachment: Attachment | None,
    on_progress: OnProgress,
) -> str:
    if attachment is None:
        raise UsageError("there is nothing to look at yet", hint="`/add FILE`")
    if len(call.words) < 2:
        raise UsageError("zoom from when to when?", hint=f"`{call.command.usage}`")
    duration = attachment.batch.metadata.duration_seconds
    start, end = (_seconds(word, duration) for word in call.words[:2])
    zoomed = conversation.zoom(attachment, start, end, on_progress=on_progress)
    seen_from, seen_to = zoomed.window or (start, end)
    return (
        f"zoomed to {format_timestamp(seen_from)} to {format_timestamp(seen_to)}: "
        f"{len(zoomed.batch)} frames"
    )


def _add(
    call: ParsedCommand,
    conversation: Conversation,
    download: DownloadOptions,
    on_progress: OnProgress,
) -> str:
    if not call.words:
        raise UsageError("which file?", hint=f"`{call.command.usage}`")
    sources = resolve_sources(call.words, download=download, on_progress=on_progress)
    attachments = conversation.attach(sources, on_progress=on_progress)
    names = ", ".join(f"`{display_name(attachment.source.name, 60)}`" for attachment in attachments)
    return f"added {names}"


def _subtitles(
    call: ParsedCommand, conversation: Conversation, attachment: Attachment | None
) -> str:
    if attachment is None or not attachment.is_video:
        raise UsageError("subtitles belong to a video, and none is in view")
    if not call.words:
        count = len((attachment.subtitles or "").splitlines())
        return f"{count} lines of subtitles near the frames" if count else "no subtitles in use"
    if len(call.words) != 1:
        raise UsageError("which subtitles?", hint=f"`{call.command.usage}`")
    if call.words[0] == "off":
        conversation.set_subtitles(attachment, None)
        return "without subtitles"
    text, heard = subtitles_for_attachment(
        attachment, call.words[0], reader=conversation.settings.reader
    )
    conversation.set_subtitles(attachment, text, notices=heard)
    return "; ".join(heard) or f"{len(text.splitlines())} lines of subtitles near the frames"


def subtitles_for_attachment(
    attachment: Attachment, wanted: str, *, reader: str
) -> tuple[str, list[str]]:
    """Return the cues near the frames of ``attachment``, one per line, and notices for the user.

    Notices report guesses, skipped cues, and cues beyond the character limit. ``wanted`` is a
    file, or ``auto`` for the file next to the video, otherwise its text track. Raises UsageError
    if ``attachment`` is no video, otherwise as ``read_cues``.
    """
    if not attachment.is_video:
        raise UsageError(f"`{attachment.source.name}` is no video that subtitles could belong to")
    heard: list[str] = []
    cues = read_cues(wanted, attachment.source, reader=reader, on_notice=heard.append)
    kept, note = limit_cues_for_prompt(cues, attachment.batch.pts_seconds)
    return format_cues(kept), heard + ([note] if note else [])


def _model(call: ParsedCommand, conversation: Conversation, on_progress: OnProgress) -> str:
    if not call.words:
        return f"`{conversation.settings.model}` answers; others: {', '.join(MODELS)}"
    if len(call.words) != 1:
        raise UsageError("which model?", hint=f"`{call.command.usage}`")
    engine = conversation.switch_model(call.words[0], on_progress=on_progress)
    return f"`{engine.checkpoint.name}` answers from now on"


def _save(call: ParsedCommand, conversation: Conversation) -> str:
    words = [word for word in call.words if word != "--overwrite"]
    if len(words) != 1:
        raise UsageError("save as what?", hint=f"`{call.command.usage}`")
    path = existing_path(Path(words[0]).expanduser())
    text = export(path.suffix, conversation.settings, conversation.attachments, conversation.turns)
    write_text_atomic(path, text, overwrite="--overwrite" in call.words)
    return f"saved as {display_path(path)}"


def _seconds(word: str, duration: float) -> float:
    try:
        time = parse_time(word)
    except ValueError as error:
        raise UsageError(str(error), hint="`/zoom 1:10 1:40`") from error
    return time.fraction * duration if isinstance(time, RelativeTime) else float(time)
