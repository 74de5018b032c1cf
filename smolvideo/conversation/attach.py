"""Attach sources to a conversation, and collect those that cannot be decoded."""

from collections.abc import Sequence
from dataclasses import dataclass

from smolvideo.conversation.conversation import Conversation
from smolvideo.errors import ReaderError, SmolVideoError, SourceError
from smolvideo.progress import OnProgress, no_progress
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
        good, bad = _told_apart(conversation, sources, on_progress)
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


def _told_apart(
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
