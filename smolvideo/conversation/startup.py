"""Open a conversation: restore a saved one, attach new sources."""

from dataclasses import dataclass, field

from smolvideo.conversation.attach import FailedSource, attach_sources
from smolvideo.conversation.conversation import Conversation
from smolvideo.conversation.event_log import EventLog, SavedConversation
from smolvideo.conversation.execute import subtitles_for_attachment
from smolvideo.conversation.resume import restore_attachments
from smolvideo.progress import OnProgress, no_progress
from smolvideo.source import DownloadOptions


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
        look = talk.attachments[seen]
        text, heard = subtitles_for_attachment(look, start.subtitles, reader=talk.settings.reader)
        talk.set_subtitles(look, text, notices=heard)
    return notes, not_seen
