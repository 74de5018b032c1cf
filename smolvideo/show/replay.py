"""The result of a replay in the terminal: one line for an equal record, else what differs."""

from rich.text import Text

from smolvideo.replay.comparison import ReplayResult
from smolvideo.sanitize import display_name, escape_controls
from smolvideo.show.console import Output


def show_replay(screen: Output, result: ReplayResult) -> None:
    """Show ``result`` on stdout, its notices on stderr."""
    name = display_name(result.name)
    if result.skipped is not None:
        _line(screen, result.line, "skipped", "yellow", f"{name}: {result.skipped}")
    elif result.first is None:
        _line(screen, result.line, "equal", "green", name)
    else:
        _line(screen, result.line, "differs", "red", name)
        for difference in result.differences:
            text = f"   {difference.step}: {escape_controls(difference.text)}"
            screen.out.print(Text(text), soft_wrap=True)
        if "answer" in result.compared and not _differs(result, "answer"):
            screen.out.print(Text("   answer: the same"), soft_wrap=True)
    screen.notes(f"record {result.line}: {notice}" for notice in result.notices)


def _differs(result: ReplayResult, step: str) -> bool:
    return any(one.step == step for one in result.differences)


def _line(screen: Output, number: int, verdict: str, style: str, text: str) -> None:
    parts = (f"{number}  ", (verdict, style), f"  {escape_controls(text)}")
    screen.out.print(Text.assemble(*parts), soft_wrap=True)
