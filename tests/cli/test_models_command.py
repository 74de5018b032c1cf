"""``smolvideo models``: the list, one model, and fetching from a hub on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import tinymodels
from support.clipmaker import evenly, write_clip
from support.hub_server import COMMIT, HubServer, serve_hub

from smolvideo.cli.main import cli
from smolvideo.models import MODELS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("model") / "tiny")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["models", *map(str, words)])


@pytest.mark.parametrize("words", [(), ("list",)])
def test_list_has_a_line_for_each(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *MODELS]
    assert " bundled " in lines[1]
    row = next(line for line in lines if line.startswith("smolvlm2-2.2b "))
    assert row.split()[1:9] == ["2.25", "B", "9.0", "GB", "8,192", "94", "83", "no"]


@pytest.mark.parametrize("words", [("--json",), ("list", "--json")])
def test_list_as_json(words: tuple[str, ...]) -> None:
    rows = {row["name"]: row for row in json.loads(run(*words).stdout)}
    assert set(rows) == set(MODELS)
    assert rows["nano"]["on_this_machine"] is True
    assert rows["nano"]["tokens_per_frame"] > 0
    assert rows["smolvlm-2.2b"]["most_frames"] > 50
    assert rows["smolvlm-2.2b"]["on_this_machine"] is False


def test_info_about_a_folder(tiny: Path) -> None:
    facts = json.loads(run("info", tiny, "--json").stdout)
    assert facts["name"] == "tiny"
    assert facts["folder"] == str(tiny.resolve())
    assert facts["weights_here"] is True
    assert facts["parameters"] > 10_000
    assert facts["tokens_per_image"] == tinymodels.TOKENS_PER_IMAGE
    assert facts["context_tokens"] == tinymodels.CONTEXT_TOKENS
    assert facts["most_frames"] * facts["tokens_per_frame"] < tinymodels.CONTEXT_TOKENS


def test_info_in_words(tiny: Path) -> None:
    lines = run("info", tiny).stdout.splitlines()
    assert lines[0].split() == ["name", "tiny"]
    assert any(line.startswith("context tokens") and line.endswith("2,048") for line in lines)
    assert all(line.split("  ", 1)[1].strip() for line in lines)


def test_info_about_weights_that_are_missing(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    facts = json.loads(run("info", tmp_path, "--json").stdout)
    assert (facts["weights_here"], facts["parameters"]) == (False, None)


@pytest.mark.parametrize("words", [("info", "nanno"), ("pull", "nanno"), ("pull", "nano")])
def test_what_is_not_there(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr.startswith("Error: ")


# ------------------------------------------------------------------ a hub on loopback


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> Iterator[HubServer]:
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.repositories["HuggingFaceTB/SmolVLM2-256M-Video-Instruct"] = tiny
        server.repositories["someone/fine-tune"] = tiny
        yield server


def test_pull_says_where_it_is(hub: HubServer) -> None:
    done = run("pull", "smolvlm2-256m")
    assert done.exit_code == 0
    folder = Path(done.stdout.strip())
    assert folder.name == COMMIT
    assert (folder / "model.safetensors").is_file()
    assert "`--model smolvlm2-256m`" in done.stderr
    row = next(row for row in json.loads(run("--json").stdout) if row["name"] == "smolvlm2-256m")
    assert row["on_this_machine"] is True


def test_models_without_a_short_name_are_listed_once_they_are_here(hub: HubServer) -> None:
    assert run("pull", "someone/fine-tune", "--json").exit_code == 0
    lines = run("list").stdout.splitlines()
    assert lines[-1].split()[0] == "someone/fine-tune"
    assert lines[-1].split()[-1] == "yes"


def test_weights_are_not_downloaded_for_a_video_that_cannot_be_read(
    hub: HubServer, tmp_path: Path
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 100)
    words = ["ask", "-m", "smolvlm2-256m", str(text), "What?"]
    assert CliRunner().invoke(cli, words).exit_code == 3
    assert "model.safetensors" not in hub.files()
    video = write_clip(tmp_path / "clip.mp4", evenly(4, 2)).path
    words = ["ask", "-m", "smolvlm2-256m", str(video), "What?", "--max-new-tokens", "2"]
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert hub.files().count("model.safetensors") == 1
