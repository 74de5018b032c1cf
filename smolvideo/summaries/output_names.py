"""Names of output files: the source's name, sanitized, without collisions.

Outputs of ``a/party.mp4`` are ``a/party.summary.txt``, ``….summary.srt`` and so on. The word
``summary`` separates them from files next to the video: players load ``party.srt`` as the subtitles
of its speech.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from smolvideo.summaries.file_names import fit_name, is_output_name, is_output_of, names_of_outputs
from smolvideo.summaries.record import SummaryRecord
from smolvideo.summaries.worklist import WorkItem


class OutputNames:
    """Chooses the output name of a record, without suffixes.

    Names are inside ``folder``, which mirrors the subfolders of the arguments, or next to the
    video if ``folder`` is None. ``owner_of`` returns the video path that owns a name, ``is_free``
    whether no other file has it.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        owner_of: Callable[[str], str | None],
        is_free: Callable[[Path], bool],
    ) -> None:
        self._folder = folder
        self._owner_of = owner_of
        self._is_free = is_free

    def path(self, output: str) -> Path:
        """Return the path of an output name, without suffix."""
        return Path(output) if self._folder is None else self._folder / output

    def is_relative_output(self, output: str, path: str) -> bool:
        """Whether the recorded output name of the video at ``path`` is valid here: relative to
        ``folder``, or, without one, in the video's own folder."""
        if self._folder is None:
            is_beside = os.path.dirname(output) == os.path.dirname(path)
            name = os.path.basename(output)
            return is_output_name(output) and is_beside and is_output_of(name, path, path)
        return is_output_name(output) and not os.path.isabs(output)

    def name_for(self, item: WorkItem, record: SummaryRecord) -> str:
        """Return the first candidate that no other video and no other file has."""
        for candidate in self._candidates(item, record):
            owner = self._owner_of(candidate)
            if owner == record.path:
                return candidate
            if owner is None and self._is_free(self.path(candidate)):
                return candidate
        raise AssertionError("there are endless candidates")

    def _candidates(self, item: WorkItem, record: SummaryRecord) -> Iterator[str]:
        if record.source.url is not None:
            parent, name = PurePath(), record.source.name
        else:
            parent, name = item.relative.parent, item.relative.name
        if self._folder is None:
            base = os.path.dirname(record.path)
        else:
            base = "/".join(fit_name(part) for part in parent.parts if part not in ("/", "\\"))
        is_address = record.source.url is not None
        for candidate in names_of_outputs(record.path, name, is_address=is_address):
            yield _joined(base, candidate)


def _joined(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}" if base else name
