"""File names: portable ones for outputs, and lookup of files whatever their Unicode form.

macOS stores ``é`` as two characters (NFD), keyboards and most datasets write one (NFC); Linux and
Windows take both for different names. Unicode: https://unicode.org/reports/tr15/
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePath


def normal_form(name: str) -> str:
    """Return ``name`` in NFC, which is equal for NFC and NFD spellings of a name."""
    return unicodedata.normalize("NFC", name)


def same_name(wanted: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` equal to ``wanted``: exactly, else up to normalization.

    None if there is none, or if several match and none exactly.

    >>> same_name("café.mp4", ["cafe.mp4", "cafe\\u0301.mp4"]) == "cafe\\u0301.mp4"
    True
    """
    form = normal_form(wanted)
    alike = {name for name in names if normal_form(name) == form}
    if wanted in alike:
        return wanted
    return alike.pop() if len(alike) == 1 else None


def existing_path(path: Path) -> Path:
    """Return ``path`` with every existing part spelled as in the file system.

    At each part an exact match comes first, then the result of ``same_name`` in that folder.
    """
    if os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for index, part in enumerate(path.parts):
        if part == path.anchor or os.path.lexists(found / part):
            found /= part
            continue
        try:
            name = same_name(part, os.listdir(found))
        except (OSError, ValueError):  # not a folder, or no permission to list it
            name = None
        if name is None:
            return found.joinpath(*path.parts[index:])
        found /= name
    return found


_UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of invisible characters: controls, formats, surrogates, separators."""
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[\d\xb9\xb2\xb3]) *(?:\..*)?", re.IGNORECASE
)
"""Names that Windows reserves for devices, whatever their suffix
(https://learn.microsoft.com/windows/win32/fileio/naming-a-file)."""
_MAX_FITTED_BYTES = 180
"""File systems allow 255 bytes; suffixes and the name of the temporary file need some of them."""
_MAX_RECORDED_BYTES = 250
"""Bound for names in records, which may end with digits of a hash."""
_MIN_DIGEST = 6
_taken_apart = partial(unicodedata.normalize, "NFD")


def fit_name(name: str) -> str:
    """Return a file name that any system can store: no separators, no controls, not too long.

    >>> fit_name("what is 1/2?.mp4"), fit_name("..")
    ('what is 1_2_.mp4', '_')
    """
    fit = "".join(
        "_" if unicodedata.category(char) in _ACTING else char for char in _UNFIT.sub("_", name)
    )
    fit = fit.strip(" .") or "_"
    if _RESERVED.fullmatch(fit):
        fit = f"_{fit}"
    while len(fit.encode("utf-8")) > _MAX_FITTED_BYTES:
        fit = fit[:-1]
    return fit.rstrip(" .") or "_"


def is_output_name(output: str) -> bool:
    """Whether a recorded output name is one that this module makes, without ``..`` in its path.

    ``output`` is the path of the files without suffixes: relative, or absolute next to a video.
    """
    *folders, name = output.replace(os.sep, "/").split("/")
    if os.path.isabs(output):
        return _is_fit(name) and "\0" not in output and not {"..", "."} & set(folders)
    return all(map(_is_fit, (*folders, name)))


def names_of_outputs(path: str, named: str, *, is_address: bool) -> Iterator[str]:
    """Yield candidate names for the outputs of the video at ``path``, the best first.

    They have no suffix and no folder. ``named`` is the file's name; the name of a URL
    (``is_address``) has no suffix to remove. The last candidates hold a hash of ``path``, so that
    no two videos share one.
    """
    stem = fit_name(named if is_address else PurePath(named).stem)
    yield stem
    yield fit_name(named)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()
    for length in range(_MIN_DIGEST, len(digest)):
        yield f"{stem}-{digest[:length]}"


def is_output_of(output: str, path: str, named: str) -> bool:
    """Whether the relative name ``output`` is a candidate for the video at ``path``.

    ``named`` is the path again, or the name of a URL. NFC and NFD forms are equal: a folder may
    have moved to a system that stores accents in the other form.
    """
    *folders, name = normal_form(output).split("/")
    for form in (str, normal_form, _taken_apart):
        spelled, parents, last = form(path), [], form(named)
        if named == path:
            *parents, last = re.split("/" if path.startswith("/") else r"[/\\]", spelled)
        known = names_of_outputs(spelled, last, is_address=named != path)
        above = [normal_form(fit_name(parent)) for parent in parents]
        if name in map(normal_form, known) and folders == above[len(above) - len(folders) :]:
            return True
    return False


def _is_fit(name: str) -> bool:
    return (
        bool(name)
        and name == name.strip(" .")
        and not _UNFIT.search(name)
        and not _RESERVED.fullmatch(name)
        and not any(unicodedata.category(char) in _ACTING for char in name)
        and len(name.encode("utf-8")) <= _MAX_RECORDED_BYTES
    )
