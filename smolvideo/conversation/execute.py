"""Execute slash commands on a conversation; each returns a message for the user."""

from pathlib import Path

from smolvideo.conversation.commands import ParsedCommand
from smolvideo.conversation.conversation import Conversation
from smolvideo.conversation.export import export
from smolvideo.conversation.turns import Attachment
from smolvideo.errors import PromptError, UsageError
from smolvideo.models import MODELS
from smolvideo.pipeline.subtitles import limit_cues_for_prompt, read_cues
from smolvideo.progress import OnProgress, no_progress
from smolvideo.records import write_text_atomic
from smolvideo.sampling import RelativeTime, parse_time
from smolvideo.sanitize import display_name, display_path
from smolvideo.source import DownloadOptions, resolve_sources
from smolvideo.subtitles import format_cues
from smolvideo.times import format_timestamp
from smolvideo.unicode_names import existing_path

_MAX_FRAMES = 10_000


def execute(
    call: ParsedCommand,
    conversation: Conversation,
    *,
    look: Attachment | None = None,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 -- frozen
    on_progress: OnProgress = no_progress,
) -> str:
    """Execute ``call``; ``look`` is the attachment on screen, by default the last one.

    Commands of the full screen (``/open``, ``/quit``) are not handled here. Raises UsageError for
    invalid arguments, and the errors of decoding, loading and writing; the conversation is then
    unchanged.
    """
    shown = look or (conversation.attachments[-1] if conversation.attachments else None)
    match call.command.name:
        case "frames":
            return _frames(call, conversation, on_progress)
        case "zoom":
            return _zoom(call, conversation, shown, on_progress)
        case "add":
            return _add(call, conversation, download, on_progress)
        case "subtitles":
            return _subtitles(call, conversation, shown)
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
        counts = ", ".join(str(len(look.batch)) for look in conversation.attachments) or "none"
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
    look: Attachment | None,
    on_progress: OnProgress,
) -> str:
    if look is None:
        raise UsageError("there is nothing to look at yet", hint="`/add FILE`")
    if len(call.words) < 2:
        raise UsageError("zoom from when to when?", hint=f"`{call.command.usage}`")
    duration = look.batch.metadata.duration_seconds
    start, end = (_seconds(word, duration) for word in call.words[:2])
    zoomed = conversation.zoom(look, start, end, on_progress=on_progress)
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
    looks = conversation.attach(sources, on_progress=on_progress)
    names = ", ".join(f"`{display_name(look.source.name, 60)}`" for look in looks)
    return f"added {names}"


def _subtitles(call: ParsedCommand, conversation: Conversation, look: Attachment | None) -> str:
    if look is None or not look.is_video:
        raise UsageError("subtitles belong to a video, and none is in view")
    if not call.words:
        count = len((look.subtitles or "").splitlines())
        return f"{count} lines of subtitles near the frames" if count else "no subtitles in use"
    if len(call.words) != 1:
        raise UsageError("which subtitles?", hint=f"`{call.command.usage}`")
    if call.words[0] == "off":
        conversation.set_subtitles(look, None)
        return "without subtitles"
    text, heard = subtitles_for_attachment(look, call.words[0], reader=conversation.settings.reader)
    conversation.set_subtitles(look, text, notices=heard)
    return "; ".join(heard) or f"{len(text.splitlines())} lines of subtitles near the frames"


def subtitles_for_attachment(
    look: Attachment, wanted: str, *, reader: str
) -> tuple[str, list[str]]:
    """Return the cues near the frames of ``look``, one per line, and notices for the user.

    Notices report guesses, skipped cues, and cues beyond the character limit. ``wanted`` is a
    file, or ``auto`` for the file next to the video, otherwise its text track. Raises UsageError
    if ``look`` is no video, otherwise as ``read_cues``.
    """
    if not look.is_video:
        raise UsageError(f"`{look.source.name}` is no video that subtitles could belong to")
    heard: list[str] = []
    cues = read_cues(wanted, look.source, reader=reader, on_notice=heard.append)
    kept, note = limit_cues_for_prompt(cues, look.batch.pts_seconds)
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
