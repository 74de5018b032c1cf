"""Probabilities of choices in the terminal, and the reliability of a calibration."""

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from smolvideo.answer import ChoiceProbabilities
from smolvideo.calibration import Reliability
from smolvideo.sanitize import display_name
from smolvideo.show.console import Output

_MAX_BAR = 40
_MIN_BAR = 4
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_PERCENT = len(" 100.0 % ")


def show_choices(screen: Output, found: ChoiceProbabilities) -> None:
    """Write each choice with its probability to stdout: bars in a terminal; in a pipe the two with
    a tab between them. A rating has its expected value as the last line."""
    if not screen.out.is_terminal:
        screen.write(choice_lines(found))
        return
    probabilities = found.probabilities
    names = {choice: display_name(choice, screen.out.width // 2) for choice in probabilities}
    width = max(cell_len(name) for name in names.values())
    bar = max(_MIN_BAR, min(_MAX_BAR, screen.out.width - width - _PERCENT - 1))
    most_likely = max(probabilities, key=probabilities.__getitem__)
    for choice, probability in probabilities.items():
        name = names[choice] + " " * (width - cell_len(names[choice]))
        style = "bold" if choice == most_likely else ""
        percent = f" {100 * probability:5.1f} % "
        screen.out.print(Text.assemble((name, style), percent, (_bar(probability, bar), "cyan")))
    if found.rating is not None:
        screen.out.print(Text(f"rating {found.rating:.2f}", "bold"))


def choice_lines(found: ChoiceProbabilities) -> str:
    """Return a line for each choice, ``yes<tab>0.9312``, and one for the rating of numbers."""
    lines = [f"{display_name(choice)}\t{p:.4f}" for choice, p in found.probabilities.items()]
    if found.rating is not None:
        lines.append(f"rating\t{found.rating:.4f}")
    return "".join(f"{line}\n" for line in lines)


def show_reliability(console: Console, title: str, found: Reliability) -> None:
    """Print a reliability diagram: for each bin its count, the share of right answers as
    a bar, and ``|`` at the mean confidence."""
    console.print(Text(title, "bold"))
    width = max(_MIN_BAR, min(_MAX_BAR, console.width - 40))
    for one in found.filled:
        cells = list(_bar(one.accuracy, width).ljust(width))
        cells[min(width - 1, int(one.confidence * width))] = "|"
        bin_name = f"{100 * one.low:3.0f} to {100 * one.high:3.0f} % "
        share = f" {100 * one.accuracy:3.0f} % of {one.count:,} right"
        line = Text.assemble(bin_name, ("".join(cells), "cyan"), share)
        console.print(line, soft_wrap=not console.is_terminal)


def _bar(share: float, width: int) -> str:
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
