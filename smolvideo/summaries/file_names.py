"""File names that every system can store: made of names from anywhere, and known in records."""

import os
import re
import unicodedata

_UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that act on a text instead of being seen in it."""
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[\d\xb9\xb2\xb3]) *(?:\..*)?", re.IGNORECASE
)
"""Names that Windows keeps for devices, whatever their ending
(https://learn.microsoft.com/windows/win32/fileio/naming-a-file)."""
_LONGEST_BYTES = 180
"""File systems take 255 bytes; the endings, and the name of the unfinished file, need some."""
_MOST_BYTES = 250


def fit_name(name: str) -> str:
    """A file name that any system can store: no separators, no control characters, not too long.

    >>> fit_name("what is 1/2?.mp4"), fit_name("..")
    ('what is 1_2_.mp4', '_')
    """
    fit = "".join(
        "_" if unicodedata.category(char) in _ACTING else char for char in _UNFIT.sub("_", name)
    )
    fit = fit.strip(" .") or "_"
    if _RESERVED.fullmatch(fit):
        fit = f"_{fit}"
    while len(fit.encode("utf-8")) > _LONGEST_BYTES:
        fit = fit[:-1]
    return fit.rstrip(" .") or "_"


def is_output_name(output: str) -> bool:
    """Whether a recorded name of outputs is one that is given to any: it leads nowhere but down.

    It is the path of the files without their endings: relative, or that beside a video.
    """
    *folders, name = output.replace(os.sep, "/").split("/")
    if os.path.isabs(output):
        return _is_fit(name) and "\0" not in output and not {"..", "."} & set(folders)
    return all(map(_is_fit, (*folders, name)))


def _is_fit(name: str) -> bool:
    return (
        bool(name)
        and name == name.strip(" .")
        and not _UNFIT.search(name)
        and not _RESERVED.fullmatch(name)
        and not any(unicodedata.category(char) in _ACTING for char in name)
        and len(name.encode("utf-8")) <= _MOST_BYTES
    )
