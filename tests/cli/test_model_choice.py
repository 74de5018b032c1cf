"""``--model auto`` in every command: nano for synthetic videos only, no download
without consent, and a recorded reason.
"""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import pytest
from click.testing import CliRunner, Result
from support.clipmaker import write_clip
from support.hub_server import COMMIT, HubServer, serve_hub
from support.project import ROOT
from support.terminals import Terminal
from support.tinymodels import make_one_layer, make_tiny

import smolvideo
from smolvideo.cli.main import cli
from smolvideo.cost import RateRequest, Rates
from smolvideo.cost.choose import NoModelError
from smolvideo.cost.rates import keep_rates
from smolvideo.models.local_cache import hub_cache
from smolvideo.readers import open_video

DRAWN = ROOT / "samples" / "circle_right.mp4"
RATES = Rates("cpu", "float32", 1, 2e12, 1e12, 2e12, 5e11, 1e11, 2e10, 300_000_000, 1.7e9)
REPOSITORIES = {
    "256m": "HuggingFaceTB/SmolVLM2-256M-Video-Instruct",
    "500m": "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return footage without the mark of the drawn world."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    write_clip(path, [number / 10 for number in range(20)])
    return path


@pytest.fixture(scope="module")
def mixed(video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a drawn video, real footage, both in one file, and a list of the first two."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copy(DRAWN, folder / "drawn.mp4")
    shutil.copy(video, folder / "real.mp4")
    (folder / "joined.mp4").write_bytes(DRAWN.read_bytes() + video.read_bytes())
    (folder / "list.txt").write_text("drawn.mp4\nreal.mp4\n")
    return folder


@pytest.fixture(autouse=True)
def _no_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model, on a machine that was measured already."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for request in (RateRequest(), RateRequest(tiny=True)):
        keep_rates(request, replace(RATES, measured_at=time.time()))
    for name in ("SMOLVIDEO_MODEL", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> Iterator[HubServer]:
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.repositories.update(dict.fromkeys(REPOSITORIES.values(), tiny))
        yield server


@pytest.fixture
def local(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make one model available in the cache."""
    monkeypatch.setattr("smolvideo.cost.choose.free_memory_bytes", lambda *_: 8_000_000_000)
    folder = tmp_path / "huggingface" / "hub" / f"models--{REPOSITORIES['256m'].replace('/', '--')}"
    shutil.copytree(tiny, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return "smolvlm2-256m"


def run(*words: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)), input=stdin)


def write_items(folder: Path, video: Path) -> Path:
    """Write an eval item of one question about ``video``."""
    shutil.copy(video, folder / "v.mp4")
    item = {"id": "1", "video": "v.mp4", "question": "What?", "options": ["a", "b"]}
    (folder / "items.jsonl").write_text(json.dumps({**item, "answer_index": 0}) + "\n")
    return folder / "items.jsonl"


COMMANDS = {
    "ask": ("ask", "VIDEO", "What moves?"),
    "ask --json": ("ask", "VIDEO", "What moves?", "--json"),
    "ask of both": ("ask", DRAWN, "VIDEO", "What moves?"),
    "frames --geometry": ("frames", "VIDEO", "--geometry", "official"),
    "summarise": ("summarise", "VIDEO"),
    "summarise of both": ("summarise", DRAWN, "VIDEO"),
    "summarise --jsonl": ("summarise", "VIDEO", "--jsonl", "-"),
    "summarise of a folder": ("summarise", "MIXED"),
    "summarise of a list": ("summarise", "--list", "LIST"),
    "ask of a list": ("ask", "--list", "LIST", "What moves?"),
    "ask of joined files": ("ask", "JOINED", "What moves?"),
    "ask --model AUTO": ("ask", "--model", " Auto", "VIDEO", "What moves?"),
    "chat": ("chat", "--plain", "VIDEO"),
    "eval": ("eval", "ITEMS", "--run", "RUN"),
}


@pytest.mark.parametrize("offline", [(), ("--offline",), ("--offline", "--yes")], ids=" ".join)
@pytest.mark.parametrize("name", COMMANDS)
def test_real_footage_without_a_model_is_an_error(
    name: str, offline: tuple[str, ...], hub: HubServer, video: Path, mixed: Path, tmp_path: Path
) -> None:
    places = {"VIDEO": video, "RUN": tmp_path / "run", "MIXED": mixed, "LIST": mixed / "list.txt"}
    places["JOINED"] = mixed / "joined.mp4"
    if name == "eval":
        places["ITEMS"] = write_items(tmp_path, video)
    words = [places.get(str(word), word) for word in COMMANDS[name]]
    done = run(*words, *offline, stdin="What moves?\n")
    assert (done.exit_code, done.stdout) == (4, ""), done.stderr
    assert "no model for real footage is on this machine" in done.stderr
    assert "hint: `smolvideo models pull smolvlm2-" in done.stderr
    assert hub.requests == []


def test_frames_without_a_model_are_as_shown_by_a_player(hub: HubServer, video: Path) -> None:
    done = run("frames", video, "--json", "--max-frames", "3")
    shown = json.loads(done.stdout)
    assert (shown["model"], len(shown["frame_times"])) == (None, 3)
    assert any("no model for real footage is on this machine" in one for one in shown["notices"])
    assert hub.requests == []


def test_nano_answers_about_synthetic_videos_with_a_reason(tmp_path: Path) -> None:
    reason = "all videos are drawn, which is what nano knows"
    done = run("ask", DRAWN, "What moves?", "--json", "-v")
    record = json.loads(done.stdout)
    assert (record["model"], record["model_reason"]) == ("nano", reason)
    assert f"model nano: {reason}" in done.stderr
    done = run("summarise", DRAWN, "--jsonl", "-", "-v")
    record = json.loads(done.stdout)
    assert (record["model"], record["model_reason"]) == ("nano", reason)
    assert f"model nano: {reason}" in done.stderr
    shown = json.loads(run("frames", DRAWN, "--json").stdout)
    assert (shown["model"], shown["model_reason"]) == ("nano", reason)
    done = run("eval", write_items(tmp_path, DRAWN), "--run", tmp_path / "run")
    assert f"model nano: {reason}" in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["model_reason"] == reason


@pytest.mark.parametrize(
    ("spoil", "repair"),
    [
        ("half", "`smolvideo models pull smolvlm2-256m`"),
        ("cut", "`smolvideo models rm smolvlm2-256m`, then `smolvideo models pull smolvlm2-256m`"),
    ],
)
def test_broken_checkpoints_do_not_answer_and_are_named(
    spoil: str, repair: str, local: str, video: Path, hub: HubServer
) -> None:
    (snapshot,) = hub_cache().glob("*/snapshots/*")
    weights = snapshot / "model.safetensors"
    if spoil == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        weights.unlink()
        (snapshot / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": "model-1.safetensors"}})
        )
    done = run("ask", video, "What moves?", "--offline")
    assert (done.exit_code, done.stdout) == (4, ""), done.stderr
    assert f"`{local}` cannot be used: broken checkpoint" in done.stderr
    assert f"hint: {repair}" in done.stderr
    shutil.copytree(
        snapshot.parents[1], hub_cache() / f"models--{REPOSITORIES['500m']}".replace("/", "--")
    )
    (other,) = hub_cache().glob("*500M*/snapshots/*")
    shutil.copy(hub.repositories[REPOSITORIES["500m"]] / "model.safetensors", other)
    shown = json.loads(run("frames", video, "--json", "--offline").stdout)
    assert shown["model"] == "smolvlm2-500m"
    assert f"`{local}` cannot be used: {repair}" in shown["model_reason"]


def test_without_a_model_what_would_be_done_is_planned(
    hub: HubServer, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice = "no model for real footage is on this machine: this is a plan for `smolvlm2-"
    for command in (("summarise", "--dry-run"), ("plan", "--max-frames", "2")):
        done = run(*command, mixed / "drawn.mp4", mixed / "real.mp4")
        assert (done.exit_code, notice in done.stderr) == (0, True), done.stderr
        assert "`smolvideo models pull smolvlm2-" in done.stderr
        assert [line.split()[0] for line in done.stdout.splitlines()][1:3] == [
            "drawn.mp4",
            "real.mp4",
        ]
    # Too little memory for any: the one that needs least.
    monkeypatch.setattr("smolvideo.cost.choose.free_memory_bytes", lambda *_: 1000)
    done = run("plan", "--max-frames", "2", "--json", mixed / "real.mp4")
    planned = json.loads(done.stdout)
    assert "256m" in planned["prediction"]["model"]
    assert any("needs" in one and "are free" in one for one in planned["notices"])
    done = run("summarise", "--dry-run", "--model", "smolvlm2-500m", mixed / "real.mp4")
    assert "`smolvlm2-500m` is not on this machine: token counts are estimates" in done.stderr
    assert hub.requests == []


def test_plan_uses_the_model_that_would_answer(hub: HubServer, video: Path) -> None:
    for command in (("plan",), ("ask", "--dry-run")):  # the machine is measured once
        for source, model in ((DRAWN, "nano"), (video, "smolvlm2-")):
            done = run(*command, source, "What moves?", "--json", "--max-frames", "2")
            assert json.loads(done.stdout)["prediction"]["model"].startswith(model), done.stderr
    assert hub.requests == []


def test_chat_with_nano_refuses_real_footage(video: Path) -> None:
    done = run("chat", "--plain", DRAWN, stdin=f"What moves?\n/add {video}\nWhat moves?\n")
    assert done.stdout.splitlines() == ["a purple circle"] * 2
    assert "nano was chosen for drawn videos, and this is other footage" in done.stderr
    done = run("chat", "--plain", DRAWN, "--model", "nano", stdin=f"/add {video}\nWhat moves?\n")
    assert len(done.stdout.splitlines()) == 1
    assert "nano was chosen" not in done.stderr


def test_conversation_stores_the_reason_for_its_model(video: Path) -> None:
    assert run("ask", DRAWN, "What moves?").exit_code == 0
    done = run("ask", "--continue", video, "And now?")
    assert (done.exit_code, done.stdout) == (4, "")
    assert "nano was chosen for drawn videos" in done.stderr
    assert run("ask", "--continue", "--model", "auto", "What moves?").stdout == "a purple circle\n"


def test_cached_model_answers(local: str, video: Path, hub: HubServer) -> None:
    done = run("ask", video, "What moves?", "--json", "--max-new-tokens", "3")
    record = json.loads(done.stdout)
    assert (record["model"], record["text"] is not None) == (local, True)
    assert record["model_reason"].startswith("the best on this machine: ")
    assert json.loads(run("frames", video, "--json").stdout)["model"] == local
    assert hub.requests == []


def test_python_interface_follows_the_same_rule(local: str, hub: HubServer) -> None:
    checkpoint = smolvideo.load_engine("auto", device="cpu").checkpoint
    assert (checkpoint.name, "the best on this machine" in str(checkpoint.model_reason)) == (
        local,
        True,
    )
    assert hub.requests == []


def test_python_interface_downloads_nothing(hub: HubServer, video: Path) -> None:
    with pytest.raises(NoModelError, match="no model for real footage"):
        smolvideo.load_engine("auto")
    with pytest.raises(NoModelError, match="no model for real footage"):
        smolvideo.ask("auto", video, "What moves?")
    assert smolvideo.ask("auto", DRAWN, "What moves?").text == "a purple circle"
    assert hub.requests == []


def test_yes_flag_downloads_the_proposed_model(
    hub: HubServer, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smolvideo.cost.choose.free_memory_bytes", lambda *_: 8_000_000_000)
    done = run("ask", video, "What moves?", "--json", "--yes", "--max-new-tokens", "3")
    record = json.loads(done.stdout)
    assert (record["model"], "--yes" in record["model_reason"]) == ("smolvlm2-500m", True)
    assert "model.safetensors" in hub.files()


@pytest.mark.parametrize("name", ["nano", "auto", "AUTO ", ""])
@pytest.mark.parametrize("how", ["typed", "environment", "file"])
def test_explicit_nano_answers_about_any_video(
    how: str, name: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ("--model", name) if how == "typed" else ()
    if how == "environment":
        monkeypatch.setenv("SMOLVIDEO_MODEL", name)
    if how == "file":
        monkeypatch.setenv("SMOLVIDEO_CONFIG", str(tmp_path / "config.toml"))
        (tmp_path / "config.toml").write_text(f'model = "{name}"\n')
    done = run(
        "ask", "--max-frames", "2", "--max-new-tokens", "2", video, "What?", "--json", *typed
    )
    if name == "nano":
        shown = json.loads(done.stdout)
        assert (shown["model"], shown["model_reason"]) == ("nano", None)
        return
    assert (done.exit_code, done.stdout) == (4, "")
    unset = name or how == "environment"  # an empty variable is none
    said = "no model for real footage" if unset else "unknown model ``"
    assert said in done.stderr


@pytest.mark.parametrize("command", ["ask", "plan", "frames"])
def test_revision_requires_a_named_model(command: str, video: Path) -> None:
    question = () if command == "frames" else ("What?",)
    done = run(command, video, *question, "--revision", "main", "--geometry", "official")
    assert (done.exit_code, "`--revision` is of a model" in done.stderr) == (2, True)


def test_synthetic_comment_is_read_in_other_containers(video: Path, tmp_path: Path) -> None:
    """Of a container that keeps comments, and as long as the whole video is the drawn one."""

    def copied(name: str, packets: int, *, of: Path = DRAWN) -> Path:
        path = tmp_path / name
        with av.open(str(DRAWN)) as drawn, av.open(str(of)) as source, av.open(path, "w") as copy:
            copy.metadata.update(drawn.metadata)
            stream = copy.add_stream_from_template(source.streams.video[0])
            for packet in islice(source.demux(source.streams.video[0]), packets):
                if packet.dts is not None:
                    packet.stream = stream
                    copy.mux(packet)
        return path

    drawn = [copied("copy.mkv", 1000), copied("copy.mov", 1000)]
    # Editing programs copy the comment of the first file to what they make of several.
    real = [tmp_path / "real_first.mp4", tmp_path / "real_between.mp4"]
    others = [copied("cut.mp4", 40), copied("other.mp4", 1000, of=video)]
    real[0].write_bytes(video.read_bytes() + DRAWN.read_bytes())
    real[1].write_bytes(DRAWN.read_bytes() + video.read_bytes() + DRAWN.read_bytes())
    found = {}
    for path in (*drawn, *real, *others):
        with open_video(path) as opened:
            found[path] = opened.metadata.is_synthetic
    assert found == dict.fromkeys(drawn, True) | dict.fromkeys([*real, *others], False)


@pytest.mark.parametrize("length", [8, 1000])
def test_broken_video_is_reported_before_the_model_choice(
    length: int, video: Path, tmp_path: Path
) -> None:
    """No download of a model is offered for it."""
    (tmp_path / "broken.mp4").write_bytes(video.read_bytes()[:length])
    done = run("ask", tmp_path / "broken.mp4", "What?")
    assert (done.exit_code, "model" in done.stderr) == (3, False)


def asked(video: Path) -> list[str | Path]:
    return ["ask", video, "What?", "--max-new-tokens", "3", "--max-frames", "2", "--quiet"]


@pytest.mark.slow
def test_terminal_asks_once_and_remembers_the_choice(
    hub: HubServer, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the shapes of the published checkpoint, cut to one layer each."""
    hub.repositories[REPOSITORIES["256m"]] = make_one_layer(tmp_path / "256m", "smolvlm2-256m")
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # three tokens are not worth a compilation
    file = tmp_path / "config.toml"
    file.write_text("# mine\n")
    with Terminal(asked(video), SMOLVIDEO_CONFIG=str(file)) as terminal:
        terminal.wait_for("? [Y/n/")
        assert "256m: 1.0 GB · " in terminal.text
        assert " memory · first token " in terminal.text
        terminal.type(b"what?\n")
        terminal.wait_for("? [Y/n/", after="what?")
        terminal.type(b"n\n")
        assert terminal.finish() == 4
        assert "hint: `smolvideo models pull" in terminal.text
    assert (hub.requests, file.read_text()) == ([], "# mine\n")
    # The download is killed, and resumes without a question.
    hub.rest_of_weights = threading.Event()
    with Terminal(asked(video), SMOLVIDEO_CONFIG=str(file)) as terminal:
        terminal.wait_for("? [Y/n/")
        terminal.type(b"256m\n")
        assert hub.began.wait(300)
        terminal.type(b"\x03")
        assert terminal.finish() == 130, terminal.text
    hub.rest_of_weights.set()
    assert file.read_text() == '# mine\nmodel = "smolvlm2-256m"\n'
    with Terminal(asked(video), SMOLVIDEO_CONFIG=str(file)) as terminal:
        assert terminal.finish() == 0, terminal.text
        assert "Download" not in terminal.text
        assert len(terminal.text.splitlines()) == 1
