"""Output options of commands, and checks of their files before any work."""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from smolvideo.cli.flags import FilePath, Flags, flag
from smolvideo.cli.options import ScreenFlags
from smolvideo.errors import RecordError, UsageError
from smolvideo.files import atomic_path, make_folders
from smolvideo.sanitize import display_path
from smolvideo.show.filmstrip import FilmstripChoice
from smolvideo.subtitles import find_sidecar, is_sidecar


class OutputFlags(Flags, section="Output"):
    """Where the answer and its record go."""

    as_json: bool = flag("--json", help="One JSON object instead of the text.")
    output: Path | None = flag(
        "-o",
        type=FilePath(),
        metavar="FILE",
        show_default="stdout",
        help="Write the answer to FILE, atomically.",
    )
    overwrite: bool = flag(help="Replace an --output that exists.")
    save: Path | None = flag(
        type=FilePath(),
        metavar="FILE",
        show_default="none",
        help="Append the record of the answer to FILE as a JSON line.",
    )


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Check before the work that ``path`` can be written. Raises RecordError."""
    if path.is_dir():
        raise RecordError(f"{display_path(path)} is a folder, not a file to write")
    if path.is_file() and not overwrite:
        raise RecordError(
            f"{display_path(path)} exists already", hint="replace it with `--overwrite`"
        )
    if not path.parent.is_dir():
        raise RecordError(
            f"cannot write {display_path(path)}: its folder does not exist",
            hint=f"make it first: `mkdir -p {shlex.quote(str(path.parent))}`",
        )


def check_folder(option: str, path: Path) -> None:
    """Check before the work that ``path`` is a folder or can become one. Raises RecordError."""
    with wrap_write_errors(path):
        there = next((one for one in (path, *path.parents) if one.exists()), path)
        if there.exists() and not there.is_dir():
            raise RecordError(
                f"{display_path(there)} is a file, not a folder",
                hint=f"name another folder with `{option} DIR`",
            )


def check_new_folder(path: Path, *, overwrite: bool) -> None:
    """Check that ``path`` is an empty folder, or does not exist. Raises RecordError."""
    check_folder("--output", path)
    with wrap_write_errors(path):
        if not overwrite and path.is_dir() and any(path.iterdir()):
            raise RecordError(
                f"the folder {display_path(path)} is not empty",
                hint="write into it with `--overwrite`",
            )


def check_different_files(output: Path, save: Path) -> None:
    """Check that answer and record are written to different files. Raises UsageError."""
    if os.path.realpath(output) == os.path.realpath(save):
        raise UsageError("`--output` and `--save` name the same file")


def check_not_a_source(option: str, path: Path, sources: Iterable[Path]) -> None:
    """Check that the file written by ``option`` is no source. Raises UsageError.

    If a source is a folder of frames, the files in it count as sources.
    """
    written = Path(os.path.realpath(path))
    for source in map(os.path.realpath, sources):
        if written == Path(source) or (Path(source) in written.parents and written.is_file()):
            raise UsageError(
                f"`{option}` would write over the source {display_path(path)}",
                hint="name another file",
            )


def check_not_an_input_file(
    option: str,
    path: Path,
    *,
    source_list: Path | None = None,
    subtitles: str | None = None,
    cookies: Path | None = None,
) -> None:
    """Check that the file written by ``option`` is no other input file of the command.

    Raises UsageError.
    """
    written = os.path.realpath(path)
    files_read = {"--list": source_list, "--subtitles": subtitles, "--cookies": cookies}
    for reads, read in files_read.items():  # `auto` and `-` are no files, which does no harm here
        if read is not None and os.path.realpath(os.path.expanduser(read)) == written:
            raise UsageError(
                f"`{option}` would write over {display_path(path)}, which `{reads}` names",
                hint="name another file",
            )


def check_not_a_sidecar(option: str, path: Path, videos: Iterable[Path]) -> None:
    """Check that the file written by ``option`` is no subtitle file of a video.

    It must neither replace the subtitles found next to a video, nor be found as such by the next
    run. Raises UsageError.
    """
    for video in videos:
        found = find_sidecar(video)
        over = found is not None and os.path.realpath(path) == os.path.realpath(found)
        if over or is_sidecar(path, video):
            raise UsageError(
                f"`{option}` {display_path(path)} would be taken for the subtitles of "
                f"{display_path(video)}",
                hint="name another file",
            )


@contextmanager
def wrap_write_errors(path: Path) -> Iterator[None]:
    """Convert an OSError about ``path``, or a file inside it, to RecordError."""
    try:
        yield
    except OSError as error:
        where = display_path(path if error.filename is None else os.fsdecode(error.filename))
        raise RecordError(f"cannot write {where}: {error.strerror or error}") from error


def save_atomic(path: Path, save: Callable[[Path], None]) -> None:
    """Let ``save`` fill a file beside ``path``, then rename it: ``path`` is never half written.

    Raises RecordError where the system refuses.
    """
    try:
        make_folders(path.parent)
        with atomic_path(path) as beside:
            save(beside)
    except (OSError, ValueError) as error:  # ValueError: higher than a .webp or .jpg can be
        reason = getattr(error, "strerror", None) or error
        raise RecordError(f"cannot write {display_path(path)}: {reason}") from error


def read_filmstrip(given: ScreenFlags) -> FilmstripChoice:
    """Read how to show the filmstrip. Raises UsageError for contradictory options."""
    choice = given.filmstrip
    if given.is_on_command_line("filmstrip") and choice not in ("none", "auto"):
        for off, name in ((given.no_filmstrip, "--no-filmstrip"), (given.quiet, "--quiet")):
            if off:
                raise UsageError(f"`--filmstrip {choice}` and `{name}` contradict each other")
    if given.quiet and given.verbose:
        raise UsageError("`--quiet` and `--verbose` contradict each other")
    return "none" if given.no_filmstrip or given.quiet else choice
