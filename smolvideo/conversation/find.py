"""Moments of the attached videos that show something, for ``/find`` in a conversation."""

from pathlib import Path

from smolvideo.conversation.conversation import Conversation
from smolvideo.errors import UsageError
from smolvideo.formatting import format_span
from smolvideo.index import (
    IndexOptions,
    SearchOptions,
    VideoSearch,
    default_index_path,
    open_scope,
)
from smolvideo.progress import OnProgress, no_progress
from smolvideo.sanitize import display_name


def find_in_attachments(
    query: str, conversation: Conversation, *, on_progress: OnProgress = no_progress
) -> str:
    """Return a line for each moment of the attached videos that shows ``query``.

    Videos in the index are searched there, others are scanned. Raises UsageError without a query or
    a video, and as ``VideoSearch.search``.
    """
    if not query.strip():
        raise UsageError("find what?", hint="`/find a red car`")
    paths = [one.source.path for one in conversation.attachments if one.is_video]
    if not paths:
        raise UsageError("there is no video to search", hint="`/add FILE`")
    settings = conversation.settings
    options = SearchOptions(
        index=IndexOptions(reader=settings.reader, prompt_options=settings.prompt_options)
    )
    with open_scope(default_index_path(), paths, options) as scope:
        search = VideoSearch(
            scope.videos,
            scope.store,
            lambda: conversation.load_engine(on_progress=on_progress),
            options,
            on_progress,
        )
        found = scope.with_failures(search.search(query))
    lines = []
    for hit in found.hits:
        name = display_name(Path(hit.path).name, 40)
        text = display_name(hit.note or hit.subtitles, 200) if hit.note or hit.subtitles else ""
        span = format_span(hit.start_seconds, hit.end_seconds)
        lines.append(f"{name}:{span}  {hit.score:.2f}  {text}".rstrip())
    lines += [f"{display_name(path)}: {why}" for path, why in found.failed.items()]
    lines = lines or ["nothing found"]
    lines += [display_name(notice, 1_000) for notice in found.notices]
    return "\n".join(lines)
