"""``smolvideo doctor``: checks of this machine, with a hint for each fault."""

import os
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.progress import SpinnerColumn, TextColumn

from smolvideo.cli.config_file import config_path
from smolvideo.cli.flags import Flags, SectionCommand, argument, flag, takes
from smolvideo.conversation.store import sessions_folder
from smolvideo.doctor import CHECKS, Finding, Surroundings, examine
from smolvideo.errors import SmolVideoError
from smolvideo.formatting import format_count
from smolvideo.models.local_cache import hub_cache
from smolvideo.records import json_line
from smolvideo.show.console import Output, open_screen
from smolvideo.show.progress_bar import ProgressBar
from smolvideo.show.tables import GrowingTable
from smolvideo.source import cache_dir
from smolvideo.version import __version__

_TERMINAL = "terminal"
_NAMES = (*CHECKS, _TERMINAL)
_COLUMNS, _WIDTHS = ("check", "state", "found", "what to do"), (10, 7, 0)


class DoctorFlags(Flags, section="Checks"):
    """Options of the command."""

    checks: tuple[str, ...] = argument(
        nargs=-1, type=click.Choice(_NAMES, case_sensitive=False), metavar="[CHECK]..."
    )
    offline: bool = flag(help="Use no network: the hub is not checked.")
    as_json: bool = flag("--json", help="Findings as one JSON object.")


@click.command(cls=SectionCommand)
@takes(DoctorFlags)
def doctor(given: DoctorFlags) -> int:
    """Check what works on this machine.

    Readers decode small clips, devices and compiled kernels multiply matrices, nano answers a
    question; folders, disks, models, downloads and the hub are checked. The speed of this machine
    is measured once and stored for predictions. A check that crashes or hangs is a fault, too. The
    exit code is 1 if there is a fault; a note is not a fault.

    CHECK is one of processor, devices, kernels, token, nano, pyav, opencv, decord, folders, disk,
    models, hub, yt-dlp, javascript, speed, memory and terminal; all of them without it. The first
    run takes longer, because it compiles the kernels.

    \b
    smolvideo doctor
    smolvideo doctor pyav folders disk
    """
    screen = open_screen()
    names = [name for name in _NAMES if not given.checks or name in given.checks]
    show = (lambda _: None) if given.as_json else _open_table(screen)
    findings = []
    with closing(_in_order(names, Surroundings(given.offline, _folders()), screen)) as ordered:
        for finding in ordered:
            findings.append(finding)
            show(finding)
    faults = sum(finding.state == "fault" for finding in findings)
    if given.as_json:
        checks = [asdict(finding) for finding in findings]
        content: dict[str, Any] = {"smolvideo": __version__, "ok": not faults, "checks": checks}
        screen.write(json_line(content) + "\n")
    elif screen.is_interactive:
        checked = format_count(len(findings), "check")
        screen.err.print(f"{checked}, {format_count(faults, 'fault')}", style="dim")
    return int(faults > 0)


def _open_table(screen: Output) -> Callable[[Finding], None]:
    """Print the head, and return what prints a finding: in a pipe always one line."""
    in_lines = not screen.out.is_terminal
    columns, widths = (_COLUMNS, (*_WIDTHS, 0)) if in_lines else (_COLUMNS[:3], _WIDTHS)
    table = GrowingTable(screen, columns, widths)
    table.show_head()

    def show(finding: Finding) -> None:
        row = [finding.check, finding.state, finding.found]
        style = "bold red" if finding.state == "fault" else ""
        if in_lines:
            table.add([*row, finding.hint or ""])
        else:
            table.add(row, style, below=f"hint: {finding.hint}" if finding.hint else "")

    return show


def _in_order(names: list[str], surroundings: Surroundings, screen: Output) -> Generator[Finding]:
    """Yield findings in the order of ``names``, each as soon as those before it are there."""
    checks = {name: CHECKS[name] for name in names if name in CHECKS}
    found: dict[str, Finding] = {}
    if _TERMINAL in names:
        found[_TERMINAL] = _check_terminal(screen)
    with closing(examine(checks, surroundings)) as running:
        for number, name in enumerate(names):
            while name not in found:
                what = "compiling for" if CHECKS[name].compiles else "checking"
                done = f"{number} of {len(names)} done"
                with _Waiting(screen, f"{what} {name} ({done})"):  # erased before a row is printed
                    finding = next(running)
                found[finding.check] = finding
            yield found[name]


class _Waiting(ProgressBar):
    """The check that the table waits for."""

    def __init__(self, screen: Output, what: str) -> None:
        super().__init__(screen, SpinnerColumn(), TextColumn("{task.description}"))
        self._bar.add_task(what, total=None)


def _folders() -> dict[str, str]:
    """What is kept → its folder; those that have none are an error of the commands that need it."""
    kept: dict[str, Callable[[], Path]] = {
        "cache": cache_dir,
        "models": hub_cache,
        "conversations": sessions_folder,
        "settings": lambda: config_path().parent,
    }
    folders = {}
    for name, folder in kept.items():
        try:
            folders[name] = str(folder())
        except (SmolVideoError, RuntimeError):
            folders[name] = ""
    if folders["settings"] == str(Path(os.devnull).parent):  # SMOLVIDEO_CONFIG switches it off
        del folders["settings"]
    return folders


def _check_terminal(screen: Output) -> Finding:
    """How this terminal draws frames. It is not isolated: a subprocess has no terminal."""
    if not screen.out.is_terminal:
        return Finding(_TERMINAL, "skipped", "stdout is no terminal")
    from smolvideo.show.console import query_capabilities

    able = query_capabilities()
    kinds = [name for name, has in (("kitty graphics", able.kitty), ("sixel", able.sixel)) if has]
    size = f"{screen.out.width} x {screen.out.height} cells"
    if kinds:
        found = f"{size}, frames by {' or '.join(kinds)}"
        if find_spec("textual_image") is None:
            hint = "`pip install 'smolvideo[pictures]'`"
            return Finding(_TERMINAL, "note", f"{found}, in the chat in half blocks", hint)
        return Finding(_TERMINAL, "ok", found)
    colours = screen.out.color_system
    if colours == "truecolor":
        return Finding(_TERMINAL, "ok", f"{size}, frames in half blocks")
    hint = "take a terminal with 24-bit colour; COLORTERM=truecolor says that it has it"
    found = f"{size}, frames in half blocks of {colours or 'no'} colours"
    return Finding(_TERMINAL, "note", found, hint)
