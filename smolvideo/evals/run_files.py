"""Files of a resumable run: run.json, the records next to it, and a lock.

run.json is written last, so a folder that has one is complete; all files of a run are inside its
folder.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolvideo.errors import RecordError, UsageError
from smolvideo.files import file_lock, make_folders
from smolvideo.json_types import parse_json
from smolvideo.records import json_line, write_text_atomic
from smolvideo.sanitize import display_path
from smolvideo.text_input import read_regular

_LOCK = ".lock"
_UNFINISHED = re.compile(r"\..*\.part")


@dataclass(frozen=True)
class RunFiles:
    """``kind`` is the value of ``record`` in run.json, ``parts`` are the names next to it."""

    folder: Path
    kind: str
    parts: tuple[str, ...]

    @property
    def is_begun(self) -> bool:
        """Whether the folder has a run to resume."""
        return (self.folder / "run.json").exists()

    def begin(self, content: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Create the folder, the ``files`` with their texts, and run.json.

        Raises RecordError if the folder holds something else or cannot be written.
        """
        if self.folder.exists() and not self._is_as_good_as_empty():
            raise RecordError(
                f"{display_path(self.folder)} holds something else than a run",
                hint="name another folder with `--run DIR`",
            )
        try:
            make_folders(self.folder)
        except OSError as error:
            raise RecordError(
                f"cannot write {display_path(self.folder)}: {error.strerror}"
            ) from error
        for name, text in files.items():
            write_text_atomic(self.folder / name, text, overwrite=True)
        text = json_line({"record": self.kind} | dict(content), indent=2) + "\n"
        write_text_atomic(self.folder / "run.json", text)

    def content(self) -> dict[str, Any]:
        """Return the content of run.json without its kind.

        Raises RecordError if the folder is not a run, or if a part of it is a symbolic link;
        ValueError if the file is of another kind.
        """
        for name in ("run.json", *self.parts, _LOCK):
            if (self.folder / name).is_symlink():
                raise RecordError(
                    f"{display_path(self.folder / name)} is a link, and no part of a run"
                )
        try:
            content = parse_json(read_regular(self.folder / "run.json"))
        except OSError as error:
            raise RecordError(
                f"{display_path(self.folder)} is no run: {error.strerror or error}",
                hint="`smolvideo eval BENCHMARK … --run DIR` makes one",
            ) from error
        if not isinstance(content, dict) or content.pop("record", None) != self.kind:
            raise ValueError("another kind of file")
        return content

    def check_same(self, differences: Sequence[str]) -> None:
        """Raise UsageError if a resumed run has other settings."""
        if differences:
            raise UsageError(
                f"{display_path(self.folder)} holds a run with other settings ("
                f"{'; '.join(differences[:3])})",
                hint="name another folder with `--run DIR`, or ask as that run did",
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder for writing. Raises RecordError if another process has locked it."""
        try:
            with file_lock(self.folder / _LOCK, on_contention=None):
                yield
        except BlockingIOError as error:
            raise RecordError(f"another process works at {display_path(self.folder)}") from error

    def _is_as_good_as_empty(self) -> bool:
        """Whether the folder is empty but for files of a run that died before its run.json."""
        if not self.folder.is_dir():
            return False
        return all(
            not one.is_symlink() and (one.name in self.parts or _UNFINISHED.fullmatch(one.name))
            for one in self.folder.iterdir()
        )
