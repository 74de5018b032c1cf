"""What a conversation begins with, new or from the disk."""

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
    """A conversation, and what is to be brought into it.

    ``sources`` are new ones, as they were typed. ``kept`` is what ``journal`` told of it, where it
    goes on; ``model`` is another one to go on with; ``subtitles`` are for the first new source.
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
    """Restore what was kept and look at what is new.

    Sentences for the person come back, and the sources that could not be looked at. Raises what has
    nothing to do with one source.
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
