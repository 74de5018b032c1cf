"""Names of output files: those of the source, made fit for every system, never one that is taken.

Outputs of ``a/party.mp4`` are ``a/party.summary.txt``, ``….summary.srt`` and so on. The word
``summary`` keeps them apart from what lies beside a video already: a player takes ``party.srt`` for
what is said in it.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from smolvideo.summaries.record import SummaryRecord
from smolvideo.summaries.worklist import WorkItem

_UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever their ending."""
_LONGEST_BYTES = 180
"""File systems take 255 bytes; the endings, and the name of the unfinished file, need some."""


def fit_name(name: str) -> str:
    """A file name that any system can store: no separators, no control characters, not too long.

    >>> fit_name("what is 1/2?.mp4"), fit_name("..")
    ('what is 1_2_.mp4', '_')
    """
    fit = "".join(
        "_" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char
        for char in _UNFIT.sub("_", name)
    )
    fit = fit.strip(" .") or "_"
    if _RESERVED.fullmatch(fit):
        fit = f"_{fit}"
    while len(fit.encode("utf-8")) > _LONGEST_BYTES:
        fit = fit[:-1]
    return fit.rstrip(" .") or "_"


class OutputNames:
    """Finds the name of a record's outputs, without its endings.

    Inside ``folder``, where the subfolders of what was typed come again; or, where that is None,
    beside the video. ``owner_of`` tells whose outputs a name belongs to, ``is_free`` whether files
    of that name can be made.
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

    def place(self, output: str) -> Path:
        """Where the outputs of that name are."""
        return Path(output) if self._folder is None else self._folder / output

    def belongs_here(self, output: str) -> bool:
        """Whether a recorded name is one of this folder: those beside a video are absolute."""
        return os.path.isabs(output) == (self._folder is None)

    def name_for(self, item: WorkItem, record: SummaryRecord) -> str:
        """The first good name that is not another video's and not another file's."""
        for candidate in self._candidates(item, record):
            owner = self._owner_of(candidate)
            if owner == record.path:
                return candidate
            if owner is None and self._is_free(self.place(candidate)):
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
        stem = PurePath(name).stem if record.source.url is None else name
        yield _joined(base, fit_name(stem))
        yield _joined(base, fit_name(name))
        digest = hashlib.sha256(os.fsencode(record.path)).hexdigest()
        for length in range(6, len(digest)):
            yield _joined(base, f"{fit_name(stem)}-{digest[:length]}")


def _joined(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}" if base else name
