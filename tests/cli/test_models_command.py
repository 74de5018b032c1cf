"""``smolvideo models``: list, details, pull, rm and use, with a hub on loopback."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from support import tinymodels
from support.clipmaker import evenly, write_clip
from support.hub_server import COMMIT, HubServer, serve_hub
from support.terminals import Terminal, run_process

from smolvideo.cli.main import cli
from smolvideo.cost import RateRequest, Rates, predict_first_token
from smolvideo.cost.rates import keep_rates
from smolvideo.formatting import format_bytes
from smolvideo.models import MODELS, find_model, list_local


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("model") / "tiny")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["models", *map(str, words)])


@pytest.fixture(autouse=True)
def _measured(_isolated_dirs: None) -> None:
    """Store rates of a machine with 1e12 operations per second."""
    rates = Rates(
        "cpu", "bfloat16", 4, 1e12, 1e12, 1e12, 1e12, 1e10, 1e10, 300_000_000, time.time()
    )
    keep_rates(RateRequest(), rates)


@pytest.mark.parametrize("words", [(), ("list",)])
def test_list_has_a_line_per_model(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *MODELS]
    assert " bundled " in lines[1]
    assert "memory" in lines[0]
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
    costs = [rows[name] for name in ("smolvlm2-256m", "smolvlm2-500m", "smolvlm2-2.2b")]
    for key in ("memory_bytes", "first_token_seconds"):
        assert 0 < costs[0][key] < costs[1][key] < costs[2][key]
    expected = predict_first_token(find_model("smolvlm2-256m"), 50)
    assert expected is not None
    assert costs[0]["memory_bytes"] == expected.memory_bytes
    assert costs[0]["first_token_seconds"] == pytest.approx(expected.first_token, abs=0.01)
    assert rows["nano"]["memory_bytes"] is None


@pytest.mark.parametrize(("free", "fits"), [(10**12, True), (10**8, False)])
def test_list_marks_models_too_large_for_memory(
    monkeypatch: pytest.MonkeyPatch, free: int, fits: bool
) -> None:
    monkeypatch.setattr("smolvideo.cli.models_list.free_memory_bytes", lambda: free)
    rows = {row["name"]: row for row in json.loads(run("--json").stdout)}
    assert rows["smolvlm2-2.2b"]["fits_memory"] is fits
    line = next(line for line in run().stdout.splitlines() if line.startswith("smolvlm2-2.2b "))
    assert ("too large" in line) is not fits


def test_list_without_rates_has_a_hint(tmp_path: Path) -> None:
    (tmp_path / "cache" / "cost" / "rates.json").unlink()
    done = run("list")
    assert "`smolvideo models --measure`" in done.stderr
    row = json.loads(run("--json").stdout)[1]
    assert (row["memory_bytes"], row["fits_memory"], row["first_token_seconds"]) == (None,) * 3


def test_info_about_a_folder(tiny: Path) -> None:
    facts = json.loads(run("info", tiny, "--json").stdout)
    assert facts["name"] == "tiny"
    assert facts["folder"] == str(tiny.resolve())
    assert facts["weights_here"] is True
    assert facts["parameters"] > 10_000
    assert facts["arithmetic"] == "floating-point arithmetic"  # of tiny networks
    assert facts["tokens_per_image"] == tinymodels.TOKENS_PER_IMAGE
    assert facts["context_tokens"] == tinymodels.CONTEXT_TOKENS
    assert facts["most_frames"] * facts["tokens_per_frame"] < tinymodels.CONTEXT_TOKENS


def test_info_in_words(tiny: Path) -> None:
    lines = run("info", tiny).stdout.splitlines()
    assert lines[0].split() == ["name", "tiny"]
    assert any(line.startswith("context tokens") and line.endswith("2,048") for line in lines)
    assert all(line.split("  ", 1)[1].strip() for line in lines)


def test_info_about_missing_weights(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    facts = json.loads(run("info", tmp_path, "--json").stdout)
    assert (facts["weights_here"], facts["parameters"]) == (False, None)
    assert facts["arithmetic"] is None


@pytest.mark.parametrize(
    "words",
    [
        *(("info", "nanno"), ("pull", "nanno"), ("pull", "nano"), ("rm", "nano", "--yes")),
        *(("rm", "smolvlm2-256m", "--yes"), ("rm", "../..", "--yes"), ("use", "smolvlm2-255m")),
        *(("use", "./nowhere"), ("use", "a/b/c"), ("use", "")),
    ],
)
def test_missing_models_are_errors(words: tuple[str, ...]) -> None:
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
        server.repositories["HuggingFaceTB/SmolVLM2-500M-Video-Instruct"] = tiny
        server.repositories["HuggingFaceTB/SmolVLM2-256M-Video-Instruct"] = tiny
        server.repositories["someone/fine-tune"] = tiny
        yield server


def test_pull_prints_the_folder(hub: HubServer) -> None:
    done = run("pull", "smolvlm2-256m")
    assert done.exit_code == 0
    folder = Path(done.stdout.strip())
    assert folder.name == COMMIT
    assert (folder / "model.safetensors").is_file()
    assert "`--model smolvlm2-256m`" in done.stderr
    row = next(row for row in json.loads(run("--json").stdout) if row["name"] == "smolvlm2-256m")
    assert row["on_this_machine"] is True


def test_models_without_a_short_name_are_listed_when_cached(hub: HubServer) -> None:
    assert run("pull", "someone/fine-tune", "--json").exit_code == 0
    lines = run("list").stdout.splitlines()
    assert lines[-1].split()[0] == "someone/fine-tune"
    size = list_local()[0].size_bytes
    assert lines[-1].endswith(format_bytes(size))  # cached


def test_unreadable_video_downloads_no_weights(hub: HubServer, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 100)
    words = ["ask", "-m", "smolvlm2-256m", str(text), "What?"]
    assert CliRunner().invoke(cli, words).exit_code == 3
    assert "model.safetensors" not in hub.files()
    video = write_clip(tmp_path / "clip.mp4", evenly(4, 2)).path
    words = ["ask", "-m", "smolvlm2-256m", str(video), "What?", "--max-new-tokens", "2"]
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert hub.files().count("model.safetensors") == 1


def test_pull_continues_after_a_failed_model(hub: HubServer) -> None:
    done = run("pull", "smolvlm2-256m", "some/thing", "smolvlm2-500m", "--json")
    assert done.exit_code == 6
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == [
        "smolvlm2-256m",
        "smolvlm2-500m",
    ]
    assert "Error: `some/thing` is neither a folder here nor a model on the hub" in done.stderr
    assert "hint: check the spelling" in done.stderr


@pytest.mark.parametrize(
    ("words", "variable", "said"),
    [
        (("--offline",), None, "`--offline` forbids the network"),
        ((), "HF_HUB_OFFLINE", "HF_HUB_OFFLINE forbids the network"),
        (("--replace",), None, "`--replace` is for `--dtype bfloat16`"),
        (("smolvlm2-500m", "--revision", "v1"), None, "`--revision` is of one model"),
    ],
)
def test_invalid_pulls_are_usage_errors(
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    variable: str | None,
    said: str,
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    done = run("pull", "smolvlm2-256m", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert hub.requests == []


def test_bfloat16_copy_is_listed_and_deleted(hub: HubServer, tmp_path: Path) -> None:
    tiny = hub.repositories["someone/fine-tune"]
    assert isinstance(tiny, Path)
    finer = shutil.copytree(tiny, tmp_path / "finer")
    weights = {name: one.float() for name, one in load_file(tiny / "model.safetensors").items()}
    save_file(weights, finer / "model.safetensors")
    hub.repositories["someone/fine-tune"] = finer
    done = run("pull", "someone/fine-tune", "--dtype", "bfloat16")
    assert "the published files are kept, too" in done.stderr
    assert "bfloat16, " in run().stdout.splitlines()[-1]
    row = json.loads(run("--json").stdout)[-1]
    assert (row["name"], row["bfloat16_copy"]) == ("someone/fine-tune", True)
    assert "has a bfloat16 copy, which is used" in run("pull", "someone/fine-tune").stderr
    done = run("rm", "someone/fine-tune", "--dtype", "bfloat16", "--yes")
    assert (done.exit_code, done.stderr) == (0, "")
    after = json.loads(run("--json").stdout)[-1]
    assert (after["on_this_machine"], after["bfloat16_copy"]) == (True, False)
    freed = row["size_bytes"] - after["size_bytes"]
    assert done.stdout == f"someone/fine-tune: {format_bytes(freed)} freed\n"
    assert run("pull", "smolvlm2-256m", "--dtype", "bfloat16").stderr.endswith(
        "no copy is needed\n"
    )


def test_rm_deletes_after_confirmation(hub: HubServer) -> None:
    run("pull", "smolvlm2-256m", "smolvlm2-500m")
    refused = run("rm", "smolvlm2-256m")
    assert refused.exit_code == 2
    assert "`--yes` deletes without a question" in refused.stderr
    for answer, left in ((b"n\r", 2), (b"y\r", 1)):
        with Terminal(["models", "rm", "smolvlm2-256m"]) as terminal:
            terminal.wait_for("Delete? [y/N]")
            terminal.type(answer)
            assert terminal.finish() == (130 if left == 2 else 0)
        assert "smolvlm2-256m: the published files, " in terminal.text
        assert ("freed" in terminal.text) is (left == 1)
        assert len(list_local()) == left


def test_use_writes_the_configuration_file(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    config = tmp_path / "config.toml"
    monkeypatch.setenv("SMOLVIDEO_CONFIG", str(config))
    assert cli.main(["models", "--json", "use", "auto"], standalone_mode=False) == 2
    assert not config.exists()
    done = CliRunner().invoke(cli, ["models", "use", "smolvlm2-500m"])
    assert (done.exit_code, config.read_text()) == (0, 'model = "smolvlm2-500m"\n')
    config.write_text("# mine\n")
    done = run("use", "SmolVLM2-256M")
    assert (done.exit_code, done.stdout) == (0, "")
    assert config.read_text() == '# mine\nmodel = "smolvlm2-256m"\n'
    assert "`smolvideo models pull smolvlm2-256m`" in done.stderr
    run("pull", "smolvlm2-256m")
    assert "not on this machine" not in run("use", "smolvlm2-256m").stderr
    assert "`smolvlm2-256m` is still the default" in run("rm", "smolvlm2-256m", "--yes").stderr
    assert run("use", "AUTO").exit_code == 0
    assert 'model = "auto"' in config.read_text()
    monkeypatch.chdir(tiny.parent)
    assert run("use", "./tiny").exit_code == 0
    assert str(tiny) in config.read_text()
    monkeypatch.setenv("SMOLVIDEO_MODEL", "nano")
    assert "SMOLVIDEO_MODEL is `nano`" in run("use", "someone/fine-tune").stderr
    before = config.read_text()
    unknown = run("use", "smolvlm2-255m")
    assert "did you mean `smolvlm2-256m`?" in unknown.stderr
    assert config.read_text() == before


def test_interrupted_pull_is_resumed(hub: HubServer, tiny: Path) -> None:
    """Ctrl-C within the weights; the next pull requests only the rest."""
    size = (tiny / "model.safetensors").stat().st_size
    hub.rest_of_weights, hub.first_bytes = threading.Event(), size // 2
    words = ["models", "pull", "smolvlm2-256m"]
    with Terminal(words, HF_HUB_DISABLE_XET="1") as terminal:
        terminal.wait_for(format_bytes(size // 2))
        terminal.type(b"\x03")
        assert terminal.finish() == 130
    assert "the same command resumes it" in terminal.text
    assert "downloading smolvlm2-256m" in terminal.text
    assert list_local() == []
    hub.rest_of_weights.set()
    hub.rest_of_weights = None
    hub.sent.clear()
    assert run("pull", "smolvlm2-256m").exit_code == 0
    assert hub.sent["model.safetensors"] == [size - size // 2]


def test_pull_respects_proxy_token_and_home_of_the_environment(
    hub: HubServer, tmp_path: Path
) -> None:
    home = tmp_path / "other home"
    done = run_process(
        *("models", "pull", "smolvlm2-256m"),
        HF_HOME=str(home),
        HF_TOKEN="hf_secret",
        HF_ENDPOINT="http://mirror.invalid",
        HTTP_PROXY=hub.url,
        http_proxy=hub.url,
        NO_PROXY="",
        no_proxy="",
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(home / "hub")
    assert hub.proxied
    assert all(address.startswith("http://mirror.invalid/") for address in hub.proxied)
    assert hub.authorizations == {"Bearer hf_secret"}
    assert "hf_secret" not in done.stderr
