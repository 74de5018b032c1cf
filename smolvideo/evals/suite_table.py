"""Table of a suite: a row per model and setting, a column per benchmark; Markdown, LaTeX, HTML."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smolvideo.evals.report_text import interval, percent
from smolvideo.evals.scores import EvalReport
from smolvideo.evals.suite import SuiteRun
from smolvideo.html_page import render_page
from smolvideo.sanitize import display_name, escape_controls


@dataclass(frozen=True)
class SuiteCell:
    """Score of one run: ``percent`` with its 95 % ``interval``, and ``remark`` on what is missing.

    ``percent`` is ``-`` for a run without answers.
    """

    percent: str
    interval: str = ""
    remark: str = ""

    @property
    def text(self) -> str:
        """``61.5 % (57.2 to 65.8), 90 % answered``"""
        text = f"{self.percent} ({self.interval})" if self.interval else self.percent
        return f"{text}, {self.remark}" if self.remark else text


@dataclass(frozen=True)
class SuiteTable:
    """``header`` are the titles of the columns, ``rows`` the names of a row and its cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[SuiteCell, ...]], ...]


def suite_table(
    runs: Sequence[SuiteRun], reports: Mapping[SuiteRun, EvalReport | str]
) -> SuiteTable:
    """Arrange the reports; a text instead of one is why the run failed."""
    benchmarks = list(dict.fromkeys(run.benchmark for run in runs))
    has_settings = any(run.setting for run in runs)
    cells: dict[tuple[str, ...], dict[str, SuiteCell]] = {}
    for run in runs:
        names = (run.model, run.setting) if has_settings else (run.model,)
        cells.setdefault(names, {})[run.benchmark] = _cell(reports.get(run))
    names = ("model", "setting") if has_settings else ("model",)
    rows = tuple((row, tuple(of[one] for one in benchmarks)) for row, of in cells.items())
    return SuiteTable((*names, *benchmarks), rows)


def _cell(report: EvalReport | str | None) -> SuiteCell:
    if not isinstance(report, EvalReport):
        return SuiteCell("-", remark="not run" if report is None else "failed")
    score = report.main.overall
    missing = "" if score.coverage == 1 else f"{score.coverage:.0%} answered"
    if score.share.value is None:
        return SuiteCell("-", remark=missing)
    return SuiteCell(percent(score.share.value), interval(score), missing)


def markdown_table(table: SuiteTable) -> str:
    """Return the table for a page or a pull request."""
    lines = [table.header, ("---",) * len(table.header)]
    lines += [(*names, *(cell.text for cell in cells)) for names, cells in table.rows]
    shown = [[part if part == "---" else _markdown(part) for part in line] for line in lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in shown)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", display_name(text, 200))


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_"},
    **{mark: f"{{{mark}}}" for mark in "<>|\"'`-"},
}


def latex_table(table: SuiteTable) -> str:
    """Return a ``tabular`` that needs no package; ``[U+1F600]`` stands for other than Latin-1."""
    names = len(table.rows[0][0]) if table.rows else 1
    columns = "l" * names + "r" * (len(table.header) - names)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", _latex_row(table.header), r"\hline"]
    lines += [_latex_row((*row, *(cell.text for cell in cells))) for row, cells in table.rows]
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _latex_row(parts: Sequence[str]) -> str:
    return " & ".join(map(_latex, parts)) + r" \\"


def _latex(text: str) -> str:
    return "".join(map(_latex_character, display_name(text, 200)))


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    is_plain = " " <= character <= "~" or "\xc0" <= character <= "\xff"
    return character if is_plain else f"[U+{ord(character):04X}]"


def html_table(table: SuiteTable, title: str) -> str:
    """Return a self-contained page with the table."""
    return render_page("smolvideo.evals", "suite.html", title=escape_controls(title), table=table)
