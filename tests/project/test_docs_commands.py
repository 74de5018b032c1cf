"""Commands, options, files, variables and extras that README and docs name exist."""

import contextlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.project import ROOT

from smolvideo.cli.main import cli

PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "cli.md"),
    ROOT / ".github" / "CONTRIBUTING.md",
]
TEXTS = {page.name: page.read_text("utf-8") for page in PAGES}
PAGE_NAMES = sorted(TEXTS)
PLACEHOLDERS = {"BENCHMARK": "cinepile", "NAME": "nano", "bash|zsh|fish": "bash"}
FOREIGN_OPTIONS = {
    "--index-url", "--torch-backend", "--pip-args",  # pip, uv, pipx
}  # fmt: skip


def blocks(text: str) -> list[str]:
    """Return the fenced blocks of a page, without those of other languages."""
    return [
        code
        for language, code in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        if language in ("", "bash", "sh")
    ]


def shell_commands(text: str) -> Iterator[list[str]]:
    """Return the words of each command in the blocks, and of each `smolvideo …` in the text."""
    lines = [line for block in blocks(text) for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in [*lines, *inline]:
        line = line.strip().removeprefix("$ ")
        if re.match(r"(\w+=\S+ )*(smolvideo|make|pip|pipx|uv|python) ", line):
            line = re.sub(r"^(\w+=\S+ )+", "", line)
            words = shlex.split(line.replace("bash|zsh|fish", "bash"), comments=True)
            for end in ("|", "<", ">", "&&", ";"):
                words = words[: words.index(end)] if end in words else words
            yield [PLACEHOLDERS.get(word, word) for word in words if word != "…"]


def smolvideo_commands(text: str) -> list[list[str]]:
    return [words[1:] for words in shell_commands(text) if words[0] == "smolvideo" and words[1:]]


def parse(words: list[str]) -> click.Context:
    """Parse a command line as the program does, without running the command."""
    command: click.Command = cli
    # With the program's settings: click takes the help option of the first context.
    context = click.Context(cli, info_name="smolvideo", **cli.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)
    if isinstance(command, click.Group) and not words:
        return context
    return command.make_context(command.name, [*words], parent=context.parent)


@pytest.mark.parametrize("page", PAGE_NAMES)
def test_documented_commands_parse(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = TEXTS[page]
    for words in smolvideo_commands(text):
        # A sentence may name a command without its arguments.
        allowed: tuple[type[Exception], ...] = (click.exceptions.Exit,)
        if f"`smolvideo {' '.join(words)}`" in text:
            allowed += (click.MissingParameter,)
        with contextlib.suppress(*allowed):
            assert parse(words)


def test_documented_commands_are_found_and_wrong_ones_fail() -> None:
    assert len([words for text in TEXTS.values() for words in smolvideo_commands(text)]) > 50
    with pytest.raises(click.ClickException, match="No such option"):
        parse(["ask", "a.mp4", "What?", "--no-such-option"])
    with pytest.raises(click.UsageError, match="No such command"):
        parse(["models", "fetch"])


def all_options() -> set[str]:
    def below(command: click.Command) -> Iterator[str]:
        for parameter in command.params:
            yield from (*parameter.opts, *parameter.secondary_opts)
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from below(found)

    return {"--help", "--version", *below(cli)}


@pytest.mark.parametrize("page", PAGE_NAMES)
def test_documented_options_exist(page: str) -> None:
    others = {
        word for words in shell_commands(TEXTS[page]) if words[0] != "smolvideo" for word in words
    }
    text = re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL)
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text))
    unknown = named - all_options() - FOREIGN_OPTIONS - others
    assert not unknown


@pytest.mark.parametrize("page", PAGE_NAMES)
def test_documented_files_targets_variables_and_extras_exist(page: str) -> None:
    text = TEXTS[page]
    for path in re.findall(
        r"(?<![\w./])((?:tests|samples|smolvideo|docs|\.github)/[\w./*-]+)", text
    ):
        path = path.rstrip(".,:/")
        assert list(ROOT.glob(path)) or "https" in path, f"{page}: {path}"
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for words in shell_commands(text):
        if words[0] == "make":
            assert words[1] in targets, words
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for extra in re.findall(r"smolvideo\[([\w,-]+)\]", text):
        assert {*extra.split(",")} <= settings["optional-dependencies"].keys()
    source = "\n".join(
        path.read_text("utf-8")
        for folder in ("smolvideo", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if path != Path(__file__)
    )
    for variable in set(re.findall(r"\bSMOLVIDEO_[A-Z_]+", text)):
        assert f'"{variable}"' in source, f"{page}: {variable}"


def test_schema_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"```python\n(.*?)```", TEXTS["records.md"], re.DOTALL)
    assert found
    exec(compile(found[1], "records.md", "exec"), {})
    assert capsys.readouterr().out == "smolvideo.answer/2\n"
