"""The configuration file: precedence, validation, preferences, ``config set`` and ``unset``."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pytest
import tomlkit
from click.testing import CliRunner, Result
from hypothesis import given as draw
from hypothesis import settings
from hypothesis import strategies as st

from smolvideo.cli.ask import AskFlags, ask
from smolvideo.cli.config import save_setting
from smolvideo.cli.config_file import MAX_BYTES, ConfigFile, FileDefaults, long_options, walk
from smolvideo.cli.eval_options import EvalFlags
from smolvideo.cli.main import cli
from smolvideo.cli.options import read_sampling


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the file, which does not exist yet."""
    monkeypatch.setenv("SMOLVIDEO_CONFIG", str(tmp_path / "config.toml"))
    return tmp_path / "config.toml"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def shown(*words: str) -> dict[str, dict[str, Any]]:
    """Return the rows of ``config show`` by their options."""
    done = run("config", "show", "--json", *words)
    assert done.exit_code == 0, done.stderr
    return {row["option"]: row for row in json.loads(done.stdout)}


def root_context() -> click.Context:
    """Return a parent context for tests; click takes the help option of the first context."""
    return click.Context(cli, **cli.context_settings)


def read_ask(path: Path, *words: str) -> AskFlags:
    """Parse a command line of ``ask`` with the file's defaults."""
    defaults = FileDefaults(ConfigFile(path, path.read_text("utf-8")), (("", cli), ("ask", ask)))
    more = {"parent": root_context(), "default_map": defaults}
    with ask.make_context("ask", [*words, "a.mp4", "What?"], **more) as context:
        return AskFlags.read(context)


# ------------------------------------------------------------------ precedence


def test_command_line_then_environment_then_file_then_default(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SMOLVIDEO_MODEL", raising=False)
    path.write_text("")
    default = shown("ask")["model"]
    assert default["origin"] == "default"
    path.write_text('model = "in-all"\n')
    assert shown("ask")["model"] == {**default, "value": "in-all", "origin": f"{path}, line 1"}
    path.write_text('model = "in-all"\n[ask]\nmodel = "in-ask"\n')
    assert shown("ask")["model"] == {**default, "value": "in-ask", "origin": f"{path}, line 3"}
    assert shown("chat")["model"]["value"] == "in-all"
    monkeypatch.setenv("SMOLVIDEO_MODEL", "in-environment")
    expected = {"value": "in-environment", "origin": "environment, SMOLVIDEO_MODEL"}
    assert shown("ask")["model"] == {**default, **expected}
    expected = {"value": "typed", "origin": "command line"}
    assert shown("ask", "--model", "typed")["model"] == {**default, **expected}


def test_table_of_a_group_applies_to_its_commands(path: Path) -> None:
    path.write_text("seed = 1\n[eval]\nseed = 2\n[eval.cinepile]\nseed = 3\n")
    found = {name: shown(*name.split())["seed"]["value"] for name in ("eval mvbench", "ask")}
    assert found == {"eval mvbench": 2, "ask": 1}
    assert shown("eval", "cinepile")["seed"]["value"] == 3


def test_group_option_with_the_name_of_a_subcommand(path: Path) -> None:
    path.write_text("[bench]\nframes = 7\n")
    assert shown("bench")["frames"]["value"] == 7
    assert shown("bench", "frames")["max-frames"]["origin"] == "default"
    path.write_text("[bench.frames]\nmax-frames = 7\n")
    assert shown("bench")["frames"]["origin"] == "default"
    assert shown("bench", "frames")["max-frames"]["value"] == 7


def test_both_spellings_of_summarise_use_its_table(path: Path) -> None:
    path.write_text("[summarise]\nwndow = 3\n")
    for name in ("summarise", "summarize"):
        assert "did you mean `window`?" in run(name, "a.mp4").stderr


# ------------------------------------------------------------------ every option


def sample_value(option: click.Option) -> object:
    """Return a valid value of the option, of another type than text where TOML has one."""
    kind = option.type
    if option.is_flag:
        return True
    if isinstance(kind, click.Choice):
        value: object = kind.choices[-1]
    else:
        values = {"whole number": 2, "integer range": 2, "number": 0.5, "formats": "md,html"}
        values |= {
            "size": "2GiB",
            "time": "1:30",
            "length": 90,
            "when": "7d",
            "folder": ".",
            "shard": "3/8",
        }
        value = values.get(kind.name, "text")
    return [value, value] if option.multiple else value


def test_every_long_option_of_every_command_can_be_set(path: Path) -> None:
    for names, command in walk(cli):
        if not names:
            continue  # --version is not a setting
        document = tomlkit.document()
        table: Any = document
        for name in names:
            table[name] = tomlkit.table()
            table = table[name]
        options = long_options(command)
        assert {name for one in command.params for name in one.opts if name.startswith("--")} == {
            f"--{name}" for name in options
        }
        for name, option in options.items():
            table[name] = sample_value(option)
        chain: list[tuple[str, click.Command]] = [("", cli)]
        for name in names:
            group = chain[-1][1]
            assert isinstance(group, click.Group)
            below = group.get_command(click.Context(group), name)
            assert below is not None
            chain.append((name, below))
        found = ConfigFile(path, document.as_string()).settings(tuple(chain))
        assert found.keys() == {option.name for option in options.values()}, names


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("\n[ask]\nmax-frmes = 3", "line 3: unknown key `max-frmes` in [ask]", "`max-frames`"),
        ("[ask]\nmax_frames = 3", "line 2: unknown key `max_frames` in [ask]", "`max-frames`"),
        ("modle = 'nano'", "line 1: unknown key `modle` in the options of all", "`model`"),
        ("[aks]\nfps = 3", "line 1: unknown table `aks` in the options of all", "`ask`"),
        ("[ask.ask]\nfps = 3", "line 1: unknown table `ask` in [ask]", None),
        ("ask = 3", "line 1: unknown key `ask`", None),
        ("[ask]\nwindow = 3", "unknown key `window` in [ask]", None),
        ("[config.show]\njson = true", "unknown table `config`", None),
        ("[ask]\nfps = 1\nfps = 2", "invalid TOML: ", None),
        ("[ask]\nmax-frames = '3'", "line 2: `max-frames` takes a whole number, not the", None),
        ("[ask]\nmax-frames = 3.0", "`max-frames` takes a whole number, not `3.0`", None),
        ("[ask]\nmax-frames = true", "`max-frames` takes a whole number, not true", None),
        ("[ask]\nmax-frames = [3]", "`max-frames` takes a whole number, not a list", None),
        ("[ask.max-frames]\nx = 1", "unknown table `max-frames` in [ask]", None),
        ("[ask]\nmax-frames = 0", "`max-frames`: 0 is not in the range", None),
        ("[ask]\nfps = 'fast'", '`fps` takes a number, not the text "fast"', None),
        ("[ask]\nfps = inf", "`fps`: inf is not a finite number", None),
        ("[ask]\nquiet = 'yes'", '`quiet` takes true or false, not the text "yes"', None),
        ("[ask]\nquiet = 1", "`quiet` takes true or false, not `1`", None),
        ("[ask]\nmodel = 5", "`model` takes a text in quotes, not `5`", None),
        ("[ask]\nstop = ['a', 5]", "`stop` takes a text in quotes, not `5`", None),
        ("[ask]\nstrategy = 'best'", "`strategy`: 'best' is not one of", None),
        ("[ask]\nstart = '1:99'", "`start`: `1:99` is no time", None),
        ("[ask]\nmax-filesize = 'big'", "`max-filesize`: `big` is no size", None),
        ("max-frames = 0", "line 1: `max-frames`: 0 is not in the range", None),
        (f"[ask]\nseed = 0x{'f' * 9000}", "`seed` takes a whole number, not such a long one", None),
        (f"[ask]\nquiet = 0x{'f' * 9000}", "not a number beyond 64 bits", None),
        (f"a = {'9' * 9000}", "invalid TOML: ", None),
        (f"a = {'[' * 9000}", "invalid TOML: it is nested too deeply", None),
        ("a = \x00", "invalid TOML: ", None),
        ('"\\u001b[31m" = 1', "unknown key `", None),
    ],
)
def test_errors_name_file_line_and_closest_match(
    path: Path, text: str, message: str, hint: str | None
) -> None:
    path.write_text(text)
    done = run("ask", "a.mp4", "What?")
    assert (done.exit_code, done.stdout) == (2, "")
    assert str(path) in done.stderr
    assert message in done.stderr
    assert hint is None or f"hint: did you mean {hint}?" in done.stderr
    assert "\x1b" not in done.stderr
    assert run("ask", "--help").exit_code == 0


def as_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("# " + "x" * MAX_BYTES), "is larger than 64 KiB"),
        (lambda path: path.write_bytes(b"model = '\xff'"), "is not UTF-8"),
        (lambda path: path.mkdir(), "cannot read the configuration file"),
        (lambda path: path.symlink_to(path), "cannot read the configuration file"),
        (lambda path: path.symlink_to("/dev/zero"), "cannot read the configuration file"),
        (as_fifo, "it is not a regular file"),
        (lambda path: None, "no such file: "),
    ],
    ids=["huge", "not UTF-8", "folder", "loop", "device", "pipe", "missing"],
)
def test_invalid_configuration_files_are_errors(
    path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(path)
    done = run("models")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_mark_is_accepted(path: Path, encoding: str) -> None:
    path.write_text('[ask]\nstop = "é"\r\n', encoding=encoding)
    assert shown("ask")["stop"]["value"] == ["é"]


def test_file_of_the_platform_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SMOLVIDEO_CONFIG")
    for name in ("HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    place = Path(run("config", "path").stdout.strip())
    assert tmp_path in place.parents
    assert place.parts[-2:] == ("smolvideo", "config.toml")
    assert shown() == {}
    assert run("config", "set", "ask.fps", "2").exit_code == 0
    assert place.read_text() == "[ask]\nfps = 2.0\n"


# ------------------------------------------------------------------ preferences


def test_frame_count_of_the_file_is_reduced_and_that_of_a_flag_is_not(path: Path) -> None:
    path.write_text("[ask]\nmax-frames = 20\n")
    assert read_sampling(read_ask(path)).max_frames == 20
    assert read_sampling(read_ask(path)).reduce_to_fit
    assert not read_sampling(read_ask(path, "--max-frames", "20")).reduce_to_fit


def test_flags_override_contradictory_settings(path: Path) -> None:
    path.write_text("[ask]\nquiet = true\nno-keep = true\n")
    assert (read_ask(path).quiet, read_ask(path, "-v").quiet) == (True, False)
    assert not read_ask(path, "--continue").no_keep


@pytest.mark.parametrize(
    "text",
    [
        "[ask]\noverwrite = true\nallow-outside = true\ntop-p = 0.5\nseed = 3\nmax-height = 480",
        "[frames]\noverwrite = true\nmax-height = 480",
        "[summarise]\noverwrite = true\nformat = 'html,md'\nray-workers = 3",
        "[chat]\njsonl = true\nsubtitles = 'auto'\ntheme = 'dark'",
    ],
)
def test_inapplicable_settings_are_ignored(path: Path, text: str, tmp_path: Path) -> None:
    path.write_text(text)
    command = text[1 : text.index("]")]
    missing = str(tmp_path / "missing.mp4")
    words = {"ask": (missing, "What?"), "chat": ("--plain", missing)}.get(command, (missing,))
    done = run(command, *words)
    assert done.exit_code == 3, done.stderr
    assert "no such file" in done.stderr


def test_max_new_tokens_of_the_file_is_not_the_default_of_nano(path: Path) -> None:
    from smolvideo.cli.eval_run import benchmark_command

    file = ConfigFile(path, "[eval]\nmax-new-tokens = 5\n")
    evaluate = cli.get_command(click.Context(cli), "eval")
    assert evaluate is not None
    cinepile = benchmark_command("cinepile")
    defaults = FileDefaults(file, (("", cli), ("eval", evaluate), ("cinepile", cinepile)))
    more = {"parent": root_context(), "default_map": defaults}
    with cinepile.make_context("cinepile", [], **more) as context:
        read = EvalFlags.read(context)
    assert (read.max_new_tokens, read.is_default("max_new_tokens")) == (5, False)
    assert not read.is_explicit("max_new_tokens")


def test_tilde_in_paths_of_the_file_is_expanded(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    path.write_text("[summarise]\nout = '~/notes'\n")
    assert shown("summarise")["out"]["value"] == str(tmp_path / "notes")


# ------------------------------------------------------------------ changes


def test_set_and_unset_keep_the_rest_of_the_file(path: Path) -> None:
    path.write_text("# mine\n[ask]   # asked daily\nfps = 1.0 # slow\n")
    assert run("config", "set", "model", "nano").exit_code == 0
    assert run("config", "set", "ask.max-frames", "20").exit_code == 0
    assert run("config", "set", "eval.cinepile.only-failed", "yes").exit_code == 0
    text = path.read_text()
    assert all(comment in text for comment in ("# mine", "# asked daily", "# slow"))
    assert {name: row["value"] for name, row in shown().items()} == {
        "model": "nano",
        "ask.fps": "1.0",
        "ask.max-frames": "20",
        "eval.cinepile.only-failed": True,
    }
    assert run("config", "unset", "ask.fps").exit_code == 0
    assert "ask.fps" not in shown()
    done = run("config", "unset", "ask.fps")
    assert (done.exit_code, "`ask.fps` is not set" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ask.max-frmes", "3"), "did you mean `ask.max-frames`?"),
        (("aks.fps", "3"), "no such command: `aks`"),
        (("ask.fps.x", "3"), "no such command: `ask fps`"),
        (("ask.max-frames", "x"), "`ask.max-frames` takes a whole number, not `x`"),
        (("max-frames", "0"), "`max-frames` of `smolvideo ask`: 0 is not in the range"),
        (("ask.quiet", "maybe"), "`ask.quiet` takes true or false, not `maybe`"),
        (("ask.fps", "1", "2"), "`ask.fps` takes one value, not 2"),
        (("ask.strategy", "best"), "is not one of"),
        (("ask.", "3"), "no option `"),
    ],
)
def test_set_refuses_invalid_values(path: Path, words: tuple[str, ...], message: str) -> None:
    done = run("config", "set", *words)
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    assert not path.exists()


def test_set_follows_a_symlink_and_keeps_the_mode(path: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.toml"
    kept.write_text("")
    kept.chmod(0o600)
    path.symlink_to(kept)
    assert run("config", "set", "ask.fps", "2").exit_code == 0
    assert path.is_symlink()
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("[ask]\nfps = 2.0\n", 0o600)


def test_set_never_replaces_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOLVIDEO_CONFIG", os.devnull)
    assert run("config", "set", "ask.fps", "2").exit_code == 2
    assert not Path(os.devnull).is_file()


@settings(max_examples=40)
@draw(st.lists(st.text(), min_size=1, max_size=3))
def test_set_texts_round_trip(texts: list[str]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMOLVIDEO_CONFIG", str(Path(folder) / "config.toml"))
        save_setting("ask.stop", texts)
        found = ConfigFile.read().settings((("", cli), ("ask", ask)))
    assert found["stop"].value == texts
