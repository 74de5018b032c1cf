"""What a conversation begins with, new or from the disk."""

from dataclasses import dataclass, field

from smolvideo.conversation.carrying_out import subtitles_for
from smolvideo.conversation.conversation import Conversation
from smolvideo.conversation.journal import Journal, Kept
from smolvideo.conversation.looking import NotSeen, look_at
from smolvideo.conversation.resuming import restore_looks
from smolvideo.progress import OnProgress, no_progress
from smolvideo.source import DownloadOptions


@dataclass(frozen=True)
class Start:
    """A conversation, and what is to be brought into it.

    ``sources`` are new ones, as they were typed. ``kept`` is what ``journal`` told of it, where it
    goes on; ``model`` is another one to go on with; ``subtitles`` are for the first new source.
    """

    conversation: Conversation
    sources: tuple[str, ...] = ()
    download: DownloadOptions = field(default_factory=DownloadOptions)
    journal: Journal | None = None
    kept: Kept | None = None
    model: str | None = None
    subtitles: str | None = None


def bring_in(
    start: Start, *, on_progress: OnProgress = no_progress
) -> tuple[list[str], list[NotSeen]]:
    """Restore what was kept and look at what is new.

    Sentences for the person come back, and the sources that could not be looked at. Raises what has
    nothing to do with one source.
    """
    talk, notes = start.conversation, []
    if start.kept is not None and start.journal is not None:
        folder = start.journal.folder
        notes = restore_looks(talk, start.kept, folder, on_progress=on_progress)
    if start.model is not None:
        talk.use_model(start.model, on_progress=on_progress)
    seen = len(talk.looks)
    not_seen = look_at(talk, start.sources, download=start.download, on_progress=on_progress)
    if start.subtitles is not None and len(talk.looks) > seen:
        look = talk.looks[seen]
        text, heard = subtitles_for(look, start.subtitles, reader=talk.settings.reader)
        talk.give_subtitles(look, text, notices=heard)
    return notes, not_seen
