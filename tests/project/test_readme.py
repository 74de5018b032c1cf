"""Output blocks and tables in README and docs equal the output of the program.

``SMOLVIDEO_UPDATE_GOLDEN=1 pytest tests/project/test_readme.py`` rewrites the blocks.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from support.project import ROOT

from smolvideo.bench.measure import Measurement
from smolvideo.bench.report import ratios
from smolvideo.cli.main import cli
from smolvideo.formatting import format_bytes
from smolvideo.train.schedule import TrainOptions

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
CLI_PAGE = ROOT / "docs" / "cli.md"
CLI_INTRODUCTION = """\
# Commands and options

What each command prints with `--help`, in a terminal 100 columns wide.
"""
COLUMNS = "100"


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the stdout of a command of the README."""
    monkeypatch.setenv("COLUMNS", COLUMNS)
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    done = CliRunner().invoke(cli, words[1:], prog_name="smolvideo", terminal_width=int(COLUMNS))
    assert done.exit_code == 0, done.stderr
    return done.stdout.rstrip()


def page_with(comment: str) -> Path:
    """Return the only page that contains a comment."""
    (page,) = (page for page in PAGES if comment in page.read_text("utf-8"))
    return page


def block_after(marker: str) -> str:
    """Return the fenced block that follows a comment in one of the pages."""
    comment = f"<!-- {marker} -->\n```\n"
    text = page_with(comment).read_text("utf-8")
    start = text.index(comment) + len(comment)
    return text[start : text.index("```", start)].rstrip()


def check(marker: str, expected: str) -> None:
    """Compare the fenced block after a comment."""
    check_between(f"<!-- {marker} -->\n```\n", "```", expected + "\n")


def check_table(name: str, rows: list[str]) -> None:
    """Compare the table between two comments."""
    check_between(f"<!-- {name} -->\n", f"<!-- end of {name} -->", "\n".join(rows) + "\n")


def check_between(opening: str, closing: str, expected: str) -> None:
    page = page_with(opening)
    text = page.read_text("utf-8")
    start = text.index(opening) + len(opening)
    end = text.index(closing, start)
    if os.environ.get("SMOLVIDEO_UPDATE_GOLDEN"):
        page.write_text(text[:start] + expected + text[end:], encoding="utf-8")
        return
    assert text[start:end] == expected


def commands(command: click.Command, path: str) -> Iterator[str]:
    """Yield every command in the help texts, depth first, in the order of the help."""
    yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            if found is not None and not found.hidden:
                yield from commands(found, f"{path} {name}")


def test_page_of_all_options_equals_the_help_of_every_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = [CLI_INTRODUCTION]
    for command in commands(cli, "smolvideo"):
        shown = run(f"{command} --help", monkeypatch)
        parts.append(f"## {command}\n\n```\n{shown}\n```\n")
    expected = "\n".join(parts)
    if os.environ.get("SMOLVIDEO_UPDATE_GOLDEN"):
        CLI_PAGE.write_text(expected, encoding="utf-8")
    assert CLI_PAGE.read_text("utf-8") == expected


def test_table_of_models_equals_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run("smolvideo models", monkeypatch).splitlines()
    # The column with the local state is left out, because it depends on the machine.
    here, what = lines[0].index("here"), lines[0].index("what")
    check("models", "\n".join((line[:here] + line[what:]).rstrip() for line in lines))


def test_demo_equals_make_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    command, answer = block_after("demo").splitlines()
    assert command.removeprefix("$ ") in (ROOT / "Makefile").read_text("utf-8").replace(
        "$(BIN)/", ""
    )
    assert run(command.removeprefix("$ "), monkeypatch) == answer


@pytest.mark.parametrize("marker", ["summarise one", "summarise"])
def test_example_of_a_folder(marker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command, *shown = block_after(marker).splitlines()
    assert run(command.removeprefix("$ "), monkeypatch).splitlines() == shown


def test_examples_for_scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, right, second, mover = block_after("json").splitlines()
    command = first.removeprefix("$ ").removesuffix(" | jq -r .text")
    assert json.loads(run(command, monkeypatch))["text"] == right
    saved = second.removeprefix("$ ").replace("answers.jsonl", str(tmp_path / "answers.jsonl"))
    assert run(saved, monkeypatch) == mover
    assert json.loads((tmp_path / "answers.jsonl").read_text("utf-8"))["text"] == mover


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "python.md"], ids=lambda page: page.name)
def test_python_examples_run(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    found = re.search(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert found
    exec(compile(found[1], page.name, "exec"), {})
    assert capsys.readouterr().out.startswith("a purple circle")


def test_readme_is_short_and_its_links_exist() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 250
    for page in PAGES:
        links = re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
        for link in links:
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page}: {link}"
    listed = re.findall(r"\]\(docs/(\w+\.md)\)", README.read_text("utf-8"))
    assert {page.name for page in PAGES[1:]} <= set(listed)


def test_documented_training_time_is_the_default() -> None:
    text = (ROOT / "docs" / "nano.md").read_text("utf-8")
    assert f"in {TrainOptions().minutes:.0f} minutes of two cores" in text


@pytest.mark.parametrize(
    "name", ["first video", "speed", "quantized", "formats", "int8", "picture", "served load"]
)
def test_speed_tables_equal_the_bench_results(name: str) -> None:
    tables = {
        "first video": first_video_table,
        "speed": speed_table,
        "quantized": quantized_table,
        "formats": formats_table,
        "int8": int8_table,
        "picture": picture_table,
        "served load": served_table,
    }
    check_table(name, tables[name]())


def test_figures_of_why_equal_their_measurement() -> None:
    found = json.loads((ROOT / ".github" / "bench" / "why-quality.json").read_text("utf-8"))
    drawn, real = found["cost"]
    text = " ".join((ROOT / "docs" / "proving.md").read_text("utf-8").split())
    for said in (
        f"of {found['questions']} questions about a colour, a text or a thing "
        f"{found['right_scene']} point into the right shot",
        f"of {found['order_and_motion']} about order and motion {found['refused']} name no frame",
        f"{real['frames']} frames of real footage `--why` adds "
        f"{real['cost_over_first_answer'] - 1:.0%}".replace("%", " %"),
        f"encoded once, {drawn['cost_over_first_answer'] - 1:.0%}".replace("%", " %"),
    ):
        assert said in text, said


def test_table_of_find_equals_its_measurement() -> None:
    found = json.loads((ROOT / ".github" / "bench" / "find-quality.json").read_text("utf-8"))
    names = {
        "thing": "colour and shape",
        "motion": "colour, shape and direction",
        "text": "text on screen",
        "subtitles": "subtitles",
        "all": "all",
    }
    rows = [
        "| queries | number | mAP | by chance | boundaries within a step |",
        "|---|---|---|---|---|",
    ]
    for kind, name in names.items():
        one = found["scores"][kind]
        rows.append(
            f"| {name} | {one['queries']} | {one['map']:.3f} | {one['chance']:.3f} "
            f"| {one['within_a_step']:.0%} of {one['boundaries']} |"
        )
    grey = found["grey"]
    rows.append(
        f"| grey frames | {grey['queries']} | {grey['map']:.3f} | {grey['chance']:.3f} | - |"
    )
    check_table("find", rows)


def test_table_of_the_cost_of_an_index_equals_its_measurement() -> None:
    found = json.loads((ROOT / ".github" / "bench" / "index-cost.json").read_text("utf-8"))
    rows = ["| CPU hours per hour of video | SmolVLM2-256M, one core |", "|---|---|"]
    for name, key in {
        "`index`": "index_seconds_per_hour",
        "`index`, as the cost model of `plan` predicts it": "predicted_seconds_per_hour",
        "`find`, all windows looked at": "search_seconds_per_hour",
    }.items():
        rows.append(f"| {name} | {found[key] / 3600:.1f} |")
    check_table("index cost", rows)


def first_video_table() -> list[str]:
    """Return the cost of the first and the next question about a video for each model."""
    rows = [
        "| model | first token | next question | tokens per second | peak memory |",
        "|---|---|---|---|---|",
    ]
    for file in ("SmolVLM2-256M", "SmolVLM2-500M", "SmolVLM2-2.2B-int8"):
        found = measured(file)["engines"]["native"]
        rows.append(
            f"| `{file.removesuffix('-int8').lower()}` | {found['first_token']:.0f} s "
            f"| {found['next_question']:.1f} s | {found['tokens_per_second']:.0f} "
            f"| {format_bytes(found['peak_memory_bytes'])} |"
        )
    return rows


def measured(name: str) -> dict[str, Any]:
    """Return a JSON line in ``.github/bench``, written by ``smolvideo bench``."""
    content = json.loads((ROOT / ".github" / "bench" / f"{name}.json").read_text("utf-8"))
    assert isinstance(content, dict)
    assert content["options"]["frames"] == 50
    assert not content["machine"]["commit"].endswith("-dirty")
    return content


def speed_table() -> list[str]:
    """Return engine against engine; 2.2B has the native engine alone."""
    rows = [
        "| shapes, engine | encode a frame | first token | tokens per second | next question "
        "| twenty questions | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for file in ("SmolVLM2-256M", "SmolVLM2-500M", "SmolVLM2-2.2B-int8"):
        content, name = measured(file), file.removesuffix("-int8")
        for engine, told in content["engines"].items():
            if engine == "native int8":
                continue
            twenty = told["twenty_questions"]
            rows.append(
                f"| {name}, {engine} | {told['encode'] / told['frames']:.2f} s "
                f"| {told['first_token']:.1f} s | {told['tokens_per_second']:.1f} "
                f"| {told['next_question']:.2f} s | {f'{twenty:.0f} s' if twenty else '-'} "
                f"| {format_bytes(told['peak_memory_bytes'])} |"
            )
        ours = Measurement(**content["engines"]["native"])
        for engine, told in content["engines"].items():
            if engine.startswith("native"):
                continue
            times = ratios([ours, Measurement(**told)])
            rows.append(
                f"| times as fast as {engine} | {times['encode']:.2f} | {times['first_token']:.2f} "
                f"| {times['generation']:.2f} | {times['next_question']:.0f} | - | - |"
            )
    return rows


def quantized_table() -> list[str]:
    """Return quantized weights against bfloat16, each pair measured in one run."""
    rows = [
        "| shapes, weights | weights | peak memory | first token | tokens per second "
        "| twenty questions | log-probabilities off by |",
        "|---|---|---|---|---|---|---|",
    ]
    runs = [
        f"{name}-{how}" for name in ("SmolVLM2-256M", "SmolVLM2-2.2B") for how in ("int8", "int4")
    ]
    for run in runs:
        content, name = measured(run), run.rpartition("-")[0]
        for told in content["engines"].values():
            weights, off = told["dtype"], "-"
            if told["quantize"] != "none":
                weights = told["quantize"]
                off = f"{content['log_probability_error']['mean']:.3f} on average"
            rows.append(
                f"| {name}, {weights} | {format_bytes(told['weight_bytes'])} "
                f"| {format_bytes(told['peak_memory_bytes'])} | {told['first_token']:.1f} s "
                f"| {told['tokens_per_second']:.1f} | {told['twenty_questions']:.0f} s "
                f"| {off} |"
            )
    return rows


def int8_table() -> list[str]:
    """Return int8 against float32 arithmetic and other engines in float32."""
    rows = [
        "| engine, arithmetic | encode a frame | prefill | first token | tokens per second "
        "| peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for file in (
        "SmolVLM2-256M-avx512-vnni",
        "SmolVLM2-256M-avx512-vnni-float",
        "SmolVLM2-256M-avx2",
        "SmolVLM2-256M-avx2-float",
    ):
        content = measured(file)
        isa = content["options"]["isa"]
        cap = f", `--isa {isa}`" if isa else ""
        for found in content["engines"].values():
            rows.append(
                f"| {found['engine']}, {found['arithmetic']}{cap} "
                f"| {found['encode'] / found['frames']:.2f} s | {found['prefill']:.1f} s "
                f"| {found['first_token']:.1f} s | {found['tokens_per_second']:.1f} "
                f"| {format_bytes(found['peak_memory_bytes'])} |"
            )
    return rows


def formats_table() -> list[str]:
    """Tabulate the accuracy of each weight format on trained weights."""
    formats: dict[str, dict[str, float]] = {}
    for file in ("weight-formats-int8-arithmetic", "weight-formats"):
        content = json.loads((ROOT / ".github" / "bench" / f"{file}.json").read_text("utf-8"))
        assert not content["machine"]["commit"].endswith("-dirty")
        formats |= content["formats"]
    rows = [
        "| weights | perplexity | times that of float32 | same most likely token | KL divergence |",
        "|---|---|---|---|---|",
    ]
    for name, found in sorted(formats.items(), key=lambda item: item[1]["kl_divergence"]):
        assert found["ties"] == 0
        rows.append(
            f"| {name} | {found['perplexity']:.2f} | {found['ratio']:.3f} | {found['top1']:.1%} "
            f"| {found['kl_divergence']:.4f} |"
        )
    return rows


def picture_table() -> list[str]:
    """Tabulate one picture with 2.2B and with Qwen2-VL 2B."""
    file = ROOT / ".github" / "bench" / "SmolVLM-2.2B-qwen2-vl.json"
    content = json.loads(file.read_text("utf-8"))
    assert not content["machine"]["commit"].endswith("-dirty")
    rows = [
        "| model | tokens of the picture | encode | prefill | first token | tokens per second "
        "| peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in content["engines"].values():
        first_token = one["encode"] + one["prefill"]
        rows.append(
            f"| {one['name']}, {one['arithmetic']} | {one['picture_tokens']:,} "
            f"| {one['encode']:.1f} s | {one['prefill']:.1f} s | {first_token:.1f} s "
            f"| {one['generation']:.1f} | {format_bytes(one['peak_memory_bytes'])} |"
        )
    return rows


def served_table() -> list[str]:
    """Tabulate what many clients of a server with nano met."""
    file = ROOT / ".github" / "bench" / "served-load.json"
    content = json.loads(file.read_text("utf-8"))
    load, overhead = content["load"], content["overhead"]
    counts = f"{load['answered']:,}, {load['lost']}, {load['refused_503']}"
    memory = f"{load['memory_mb_second_quarter']} MB, {load['memory_mb_last_quarter']} MB"
    return [
        f"| {load['clients']} clients, {load['minutes']:g} minutes, {load['processors']} cores | |",
        "|---|---|",
        f"| answered, lost, refused | {counts} |",
        f"| whole answer, median and 95th percentile | {load['seconds_p50']:.2f} s, "
        f"{load['seconds_p95']:.2f} s |",
        f"| memory, second and last quarter of the time | {memory} |",
        f"| first token of a further question, engine alone and over HTTP | "
        f"{overhead['engine_first_token_ms']:.0f} ms, {overhead['http_first_token_ms']:.0f} ms |",
    ]
