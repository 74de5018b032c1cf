"""The sources of a record, found again by their paths or names."""

from collections.abc import Iterator
from pathlib import Path

from smolvideo.errors import SmolVideoError, SourceError
from smolvideo.files import content_hash
from smolvideo.record_parts import SourceRecord
from smolvideo.replay.comparison import Comparison
from smolvideo.sanitize import display_name
from smolvideo.source import DownloadOptions, VideoSource, resolve_sources


def find_source(
    recorded: SourceRecord, *, folders: tuple[Path, ...], offline: bool = False
) -> VideoSource:
    """Find the source of a record: at its path or address, else by its name in ``folders``.

    A relative path is looked for from the working directory, and from each of ``folders``. Raises
    SourceError.
    """
    download = DownloadOptions(offline=offline)
    problem: SmolVideoError | None = None
    for place in _places(recorded, folders):
        try:
            found = resolve_sources([place], download=download)
        except SmolVideoError as error:
            problem = problem or error
            continue
        matching = [one for one in found if one.name == recorded.name] or list(found)
        if len(matching) == 1:
            return matching[0]
    name = display_name(recorded.name)
    raise SourceError(
        f"`{name}` is not found" + (f": {problem}" if problem is not None else ""),
        hint="`--videos DIR` names the folder it is in",
    )


def compare_source(comparison: Comparison, recorded: SourceRecord, source: VideoSource) -> bool:
    """Compare the content of ``source`` with that of the record; return whether it is equal."""
    if recorded.sha256 is None:
        return True
    now = content_hash(source.path)
    if now == recorded.sha256:
        comparison.same("file")
        return True
    comparison.differs(
        "file",
        f"`{display_name(source.name)}` has another content than when it was asked about",
        recorded.sha256,
        now,
    )
    return False


def _places(recorded: SourceRecord, folders: tuple[Path, ...]) -> Iterator[str]:
    yield recorded.given
    if recorded.url is not None:
        yield recorded.url
    for folder in folders:
        yield str(folder / Path(recorded.given))
        yield str(folder / recorded.name)
