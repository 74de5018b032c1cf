"""What is searched: videos, and the windows that may show a query."""

from dataclasses import dataclass

from smolvideo.index.entries import IndexedWindow
from smolvideo.index.text_match import TextMatch
from smolvideo.source import VideoSource, resolve_source


@dataclass(frozen=True)
class SearchedVideo:
    """A video that is searched: ``content`` is its id in the index, None for one that is scanned,
    whose ``windows`` are planned here. ``copies`` are other files of the index with the content,
    which take its place where it is gone or has changed."""

    path: str
    content: int | None = None
    sha256: str | None = None
    source: VideoSource | None = None
    windows: tuple[IndexedWindow, ...] = ()
    copies: tuple[str, ...] = ()

    def resolve(self) -> VideoSource:
        """Return the local source. Raises SourceError where it is gone."""
        if self.source is not None:
            return self.source
        (source,) = resolve_source(self.path)[:1]
        return source


@dataclass(frozen=True)
class Candidate:
    """A window that may show the query, and what its texts say."""

    video: SearchedVideo
    window: IndexedWindow
    match: TextMatch
