"""Open a conversation: attach new sources, or restore a saved one.

Turns are restored first, then frames from disk without decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from smolvideo.conversation.commands import subtitles_for_attachment
from smolvideo.conversation.conversation import Conversation, ConversationStore, LoadEngine
from smolvideo.conversation.event_log import (
    EventLog,
    SavedAttachment,
    SavedConversation,
    pixel_hash,
    read_frames,
)
from smolvideo.conversation.turns import Attachment, Settings
from smolvideo.errors import ReaderError, SmolVideoError, SourceError
from smolvideo.file_names import existing_path
from smolvideo.frames import FrameBatch
from smolvideo.models import Checkpoint
from smolvideo.pipeline import load_frames
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import frame_transform, image_transform
from smolvideo.readers import open_video
from smolvideo.sanitize import display_name
from smolvideo.source import DownloadOptions, VideoSource, public_name, resolve_source


@dataclass(frozen=True)
class FailedSource:
    """A source that could not be attached, and its error."""

    name: str
    error: SmolVideoError


def attach_sources(
    conversation: Conversation,
    given: Sequence[str],
    *,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 -- frozen
    on_progress: OnProgress = no_progress,
) -> list[FailedSource]:
    """Attach all decodable sources of ``given``, which share the frame budget.

    Return the failed ones. Raises errors that concern no single source: UsageError, PromptError,
    ModelError.
    """
    sources: list[VideoSource] = []
    failed: list[FailedSource] = []
    for one in given:
        try:
            sources += resolve_source(one, download=download, on_progress=on_progress)
        except SourceError as error:
            failed.append(FailedSource(display_name(public_name(one)), error))
    if len(sources) > 1:
        # Most undecodable sources fail when they are opened, which is quick to try.
        sources, closed = _openable(sources, conversation.settings.reader)
        failed += closed
    if not sources:
        return failed
    try:
        conversation.attach(sources, on_progress=on_progress)
    except (SourceError, ReaderError) as error:
        if len(sources) == 1:
            return [*failed, FailedSource(sources[0].name, error)]
        good, bad = _decode_each(conversation, sources, on_progress)
        failed += bad
        if good:
            conversation.attach(good, on_progress=on_progress)
    return failed


def _openable(
    sources: Sequence[VideoSource], reader: str
) -> tuple[list[VideoSource], list[FailedSource]]:
    good, bad = [], []
    for source in sources:
        try:
            with open_video(source.path, kind=source.kind, reader=reader):
                good.append(source)
        except (SourceError, ReaderError) as error:
            bad.append(FailedSource(source.name, error))
    return good, bad


def _decode_each(
    conversation: Conversation, sources: Sequence[VideoSource], on_progress: OnProgress
) -> tuple[list[VideoSource], list[FailedSource]]:
    """Decode each source alone to find the bad ones.

    The frames are discarded: the frame budget depends on the number of good sources.
    """
    good, bad = [], []
    for source in sources:
        try:
            conversation.check_source(source, on_progress=on_progress)
            good.append(source)
        except (SourceError, ReaderError) as error:
            bad.append(FailedSource(source.name, error))
    return good, bad


def resume(
    kept: SavedConversation,
    load: LoadEngine,
    *,
    keeper: ConversationStore | None = None,
    settings: Settings | None = None,
) -> Conversation:
    """Restore the turns of a conversation; ``restore_attachments`` restores its frames."""
    conversation = Conversation(settings or kept.settings, load, store=keeper)
    conversation.turns += kept.turns
    return conversation


def restore_attachments(
    conversation: Conversation,
    kept: SavedConversation,
    folder: Path,
    *,
    on_progress: OnProgress = no_progress,
) -> list[str]:
    """Restore the attachments of ``conversation``, and return notices about changed sources.

    Frames are read from ``folder`` without opening the source. Missing ones are decoded again; a
    source that cannot be read any more is skipped with a notice. The notices also become part of
    the next turn.
    """
    checkpoint = conversation.open_checkpoint(on_progress=on_progress)
    sentences = []
    for saved in kept.attachments:
        name = display_name(saved.source.name, 60)
        batch = _kept_batch(saved, folder, checkpoint)
        decoded = batch is None
        if batch is None:
            try:
                batch = _decoded_again(conversation, saved, checkpoint, on_progress)
            except (SourceError, ReaderError) as error:
                sentences.append(f"`{name}` cannot be looked at any longer: {error}")
                continue
            if _has_changed(saved) or _has_other_pixels(saved, batch):
                sentences.append(f"`{name}` has changed since: it was looked at again")
        elif _has_changed(saved):
            sentences.append(f"`{name}` has changed since: its frames are those of before")
        attachment = Attachment(
            saved.number,
            saved.source,
            batch,
            saved.sampling,
            turn=saved.turn,
            window=saved.window,
            subtitles=saved.subtitles,
        )
        conversation.attachments.append(attachment)
        if decoded and conversation.store is not None:
            conversation.store.save_attachment(attachment)
    conversation.note(sentences)
    return sentences


def _kept_batch(
    attachment: SavedAttachment, folder: Path, checkpoint: Checkpoint
) -> FrameBatch | None:
    side = checkpoint.image_size
    if attachment.geometry is not None and attachment.shape[1:3] != (side, side):
        return None  # the checkpoint of this name has another image size now
    images = read_frames(folder, attachment.number, attachment.shape, attachment.sha256)
    if images is None:
        return None
    state = (
        ()
        if attachment.size is None or attachment.mtime_ns is None
        else (attachment.size, attachment.mtime_ns)
    )
    return FrameBatch(
        images,
        attachment.pts_seconds,
        attachment.metadata,
        attachment.geometry,
        num_requested=len(attachment.pts_seconds),
        state=state,
    )


def _decoded_again(
    conversation: Conversation,
    attachment: SavedAttachment,
    checkpoint: Checkpoint,
    on_progress: OnProgress,
) -> FrameBatch:
    path = existing_path(attachment.source.path)
    if not path.exists():
        raise SourceError("it is no longer where it was")
    settings = conversation.settings
    geometry, fit = None, None
    if attachment.metadata.kind != "image":
        geometry, fit = frame_transform(checkpoint, settings.prompt_options)
    elif attachment.geometry is not None:
        geometry, fit = image_transform(checkpoint, settings.prompt_options)
    return load_frames(
        replace(attachment.source, path=path),
        attachment.sampling,
        reader=settings.reader,
        fit=fit,
        geometry=geometry,
        times=attachment.pts_seconds,
        on_progress=on_progress,
    )


def _has_other_pixels(attachment: SavedAttachment, batch: FrameBatch) -> bool:
    """Whether the decoded pixels differ from the saved ones at the same shape."""
    return batch.images.shape == attachment.shape and pixel_hash(batch.images) != attachment.sha256


def _has_changed(attachment: SavedAttachment) -> bool:
    try:
        state = existing_path(attachment.source.path).stat()
    except OSError:
        return False
    return attachment.size is not None and (state.st_size, state.st_mtime_ns) != (
        attachment.size,
        attachment.mtime_ns,
    )


@dataclass(frozen=True)
class Startup:
    """A conversation, and what must be loaded into it.

    ``sources`` are new ones, as typed. ``kept`` is the saved state read from ``journal`` when
    resuming; ``model`` replaces the saved one; ``subtitles`` are for the first new source.
    """

    conversation: Conversation
    sources: tuple[str, ...] = ()
    download: DownloadOptions = field(default_factory=DownloadOptions)
    journal: EventLog | None = None
    kept: SavedConversation | None = None
    model: str | None = None
    subtitles: str | None = None


def open_startup(
    start: Startup, *, on_progress: OnProgress = no_progress
) -> tuple[list[str], list[FailedSource]]:
    """Restore the saved attachments and attach the new sources.

    Return notices for the user, and the sources that could not be attached. Raises errors that
    concern no single source.
    """
    talk, notes = start.conversation, []
    if start.kept is not None and start.journal is not None:
        folder = start.journal.folder
        notes = restore_attachments(talk, start.kept, folder, on_progress=on_progress)
    if start.model is not None:
        talk.switch_model(start.model, on_progress=on_progress)
    seen = len(talk.attachments)
    not_seen = attach_sources(talk, start.sources, download=start.download, on_progress=on_progress)
    if start.subtitles is not None and len(talk.attachments) > seen:
        attachment = talk.attachments[seen]
        text, heard = subtitles_for_attachment(
            attachment, start.subtitles, reader=talk.settings.reader
        )
        talk.set_subtitles(attachment, text, notices=heard)
    return notes, not_seen
