"""Suites of runs: one table, resumed, and files that are no suites."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support import tinymodels
from support.project import ROOT

from smolvideo.cli.main import cli
from smolvideo.evals.suite import read_suite
from smolvideo.evals.suite_table import (
    SuiteCell,
    SuiteTable,
    html_table,
    latex_table,
    markdown_table,
)

SUITE = """
[options]
videos = "{videos}"
max-frames = 2
prompt = "plain"
max-new-tokens = 2
geometry = "direct"
[[model]]
name = "first & best"
model = "{tiny}"
[[benchmark]]
benchmark = "jsonl"
file = "items.jsonl"
[[benchmark]]
name = "scored"
benchmark = "jsonl"
file = "items.jsonl"
max-new-tokens = 3
[[setting]]
name = "all"
[[setting]]
name = "one"
limit = 1
control = ["blind"]
"""


def run(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["eval", "suite", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    videos = ("circle_right.mp4", "triangle_down.mp4")
    lines = [
        {"id": video, "video": video, "question": "?", "options": ["a", "b"], "answer_index": 0}
        for video in videos
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tiny = tinymodels.make_tiny(folder / "tiny")
    path = folder / "my suite.toml"
    path.write_text(SUITE.format(tiny=tiny, videos=ROOT / "samples"))
    assert run(path, "--run", folder / "whole", "--quiet")[0] == 0
    return path


def answers(folder: Path) -> Mapping[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("*/answers.jsonl"))}


def test_suite_has_a_run_for_each_combination(suite: Path) -> None:
    found = answers(suite.parent / "whole")
    assert list(found) == [
        "first---best--jsonl--all",
        "first---best--jsonl--one",
        "first---best--scored--all",
        "first---best--scored--one",
    ]
    assert [content.count(b"\n") for content in found.values()] == [2, 2, 2, 2]


def test_stopped_suite_is_resumed_to_the_same_bytes(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smolvideo.evals.evaluator import Evaluator

    whole = answers(suite.parent / "whole")
    evaluate, left = Evaluator.evaluate, [3]

    def stop_after_three(self, look, wanted):  # type: ignore[no-untyped-def]
        for answer in evaluate(self, look, wanted):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield answer

    monkeypatch.setattr(Evaluator, "evaluate", stop_after_three)
    for _ in range(3):
        left[0] = 3
        _, table, _ = run(suite, "--run", tmp_path / "runs")
        assert table == "" or answers(tmp_path / "runs") == whole
    assert answers(tmp_path / "runs") == whole
    code, table, _ = run(suite, "--run", tmp_path / "runs", "--table-only")
    assert code == 0
    assert table == run(suite, "--run", suite.parent / "whole", "--table-only")[1]


def test_unfinished_suite_has_a_table(suite: Path, tmp_path: Path) -> None:
    code, table, _ = run(suite, "--run", tmp_path, "--table-only", "--format", "markdown")
    assert code == 6
    assert table.splitlines()[2] == "| first & best | all | -, not run | -, not run |"


def test_run_that_cannot_start_is_named(suite: Path, tmp_path: Path) -> None:
    found = 'file = "items.jsonl"\nmax-new'
    text = suite.read_text().replace(found, found.replace("items", "gone"))
    text = text.replace('file = "items', f'file = "{suite.parent}/items')
    (tmp_path / "s.toml").write_text(text)
    code, table, said = run(tmp_path / "s.toml", "--run", tmp_path / "runs")
    assert code == 6
    assert said.count("scored · one failed: no such file or folder") == 1
    assert "gone.jsonl" in said
    assert table.count("-, failed") == 2
    assert len(answers(tmp_path / "runs")) == 2


MODEL = '[[model]]\nmodel = "nano"\n'
BENCHMARK = '[[benchmark]]\nbenchmark = "jsonl"\nfile = "x.jsonl"\n'
BOTH = MODEL + BENCHMARK


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no [[model]]"),
        (MODEL, "has no [[benchmark]]"),
        ("\x00", "invalid TOML"),
        ("a = " + "[" * 3000, "nested too deeply"),
        ("a = 1\na = 2", "invalid TOML"),
        ("n = " + "9" * 5000, "invalid TOML"),
        ("x" * 2**21, "is larger than 1024 KiB"),
        ("[suite]\n" + BOTH, "unknown key `suite`"),
        ('"a\\u001b[2J" = 1\n' + BOTH, "unknown key `a`"),
        ("options = 3\n" + BOTH, "[options] is no table"),
        ("[model]\nmodel = 'nano'\n" + BENCHMARK, "`model` is written as [[model]]"),
        ("model = 'nano'\n" + BENCHMARK, "`model` is written as [[model]]"),
        ("[[model]]\n" + BENCHMARK, "[[model]] 1 needs `model`, a text"),
        ("[[model]]\nmodel = 3\n" + BENCHMARK, "[[model]] 1 needs `model`, a text"),
        ("[[model]]\nmodel = 'a'\nname = ''\n" + BENCHMARK, "[[model]] 1 needs `name`, a text"),
        (MODEL + MODEL + BENCHMARK, "[[model]] 2 has the name of another one: `nano`"),
        (MODEL + "[[benchmark]]\nbenchmark = 'cinepil'\n", "no such benchmark: `cinepil`"),
        (BOTH + "[[setting]]\nlimit = 1\n", "[[setting]] 1 needs `name`, a text"),
        (BOTH + "[[setting]]\nname = 'a'\nmodel = 'b'\n", "`model` belongs into [[model]]"),
        ("[options]\nfile = 'b'\n" + BOTH, "`file` belongs into [[benchmark]]"),
        ("[options]\nrun = 'here'\n" + BOTH, "`run` is not for one run of a suite"),
        ("[options]\nlimit = 2026-01-01\n" + BOTH, "`limit` is no text or number"),
        ("[options]\nlimit = {a = 1}\n" + BOTH, "`limit` is no text or number"),
        ("[options]\nlimit = [[1]]\n" + BOTH, "`limit` is no text or number"),
        ("[options]\nlimit = 0\n" + BOTH, "nano · jsonl: Invalid value for '--limit'"),
        ("[options]\nlimit = nan\n" + BOTH, "nano · jsonl: Invalid value for '--limit'"),
        ("[options]\nlimit = true\n" + BOTH, "`limit` has a value, and is not true or false"),
        ("[options]\ndownload = 'yes'\n" + BOTH, "`download` is true or false, not `yes`"),
        ("[options]\nlimits = 1\n" + BOTH, "No such option '--limits'"),
        ("[options]\n'--limit' = 1\n" + BOTH, "`--limit` is no option"),
        ("[options]\nprompt = \"a\\u001b[2J\\nb\"\n" + BOTH, "Invalid value for '--prompt'"),
        (
            "".join(f"[[model]]\nmodel = 'm{n}'\n" for n in range(1001)) + BENCHMARK,
            "has 1,001 runs, more than 1,000",
        ),
        (
            BOTH + "[[setting]]\nname = 'a b'\n[[setting]]\nname = 'a-b'\n",
            "two runs would be in",
        ),
    ],
)  # fmt: skip
def test_files_that_are_no_suites_are_one_line(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(text)
    code, table, said = run(tmp_path / "s.toml", "--run", tmp_path / "runs")
    assert (code, table) == (2, "")
    assert why in said.replace("\n", " ")
    assert "\x1b" not in said
    lines = said.rstrip("\n").split("\n")
    assert len(lines) == 1 + any(line.startswith("hint: ") for line in lines)
    assert not (tmp_path / "runs").exists()


def test_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.toml", tmp_path):
        code, _, said = run(path)
        assert code == 2
        assert said.startswith("Error: cannot read ")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    assert "invalid TOML" in run(tmp_path / "latin.toml")[2]
    assert run(tmp_path / "gone.toml", "--overwrite")[0] == 2


TABLE = SuiteTable(
    ("model", "50% _of_ it"),
    (
        (("a & b_c{}\\#$^~%",), (SuiteCell("61.5 %", "57.2 to 65.8", "90% answered"),)),
        (("|<script>\u202e🎞é`",), (SuiteCell("-", remark="not run"),)),
    ),
)


def test_tables_escape_names() -> None:
    assert latex_table(TABLE).splitlines() == [
        r"\begin{tabular}{lr}",
        r"\hline",
        r"model & 50\% \_of\_ it \\",
        r"\hline",
        r"a \& b\_c\{\}\textbackslash{}\#\$\textasciicircum{}\textasciitilde{}\% & "
        r"61.5 \% (57.2 to 65.8), 90\% answered \\",
        r"{|}{<}script{>}[U+1F39E]é{`} & {-}, not run \\",
        r"\hline",
        r"\end{tabular}",
    ]
    assert r"\|\<script\>" in markdown_table(TABLE)
    page = html_table(TABLE, "</title><script>")
    assert "<script" not in page
    assert "default-src 'none'" in page


@given(st.text())
def test_latex_has_no_special_character_of_a_name(name: str) -> None:
    line = latex_table(SuiteTable((name,), ())).splitlines()[2].removesuffix(r" \\")
    for escape in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}"):
        line = line.replace(escape, "")
    for mark in "{}&%$#_":
        line = line.replace(f"\\{mark}", "")
    for mark in "<>|\"'`-":
        line = line.replace(f"{{{mark}}}", "")
    assert not set(line) & set("\\{}&%$#_~^")


def test_paths_are_relative_to_the_file(suite: Path) -> None:
    plan = read_suite(suite)
    assert plan.folder == suite.parent
    assert plan.runs[0].folder == Path("runs/my-suite/first---best--jsonl--all")
    assert plan.runs[0].options["file"] == "items.jsonl"
