"""``smolvideo doctor`` finds planted faults, and survives checks that hang, crash or print."""

import json
import os
import shutil
import socket
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import record_schemas as schemas
from support.project import ROOT
from support.toy_checkpoint import write_toy_checkpoint
from yt_dlp.version import __version__ as ytdlp_version

from smolvideo.cli.main import cli
from smolvideo.cost import choose, measure, rates
from smolvideo.doctor import (
    CHECKS,
    Check,
    Finding,
    Surroundings,
    computing,
    decoding,
    isolated,
    machine,
)
from smolvideo.doctor.isolated import examine, run_check
from smolvideo.doctor.machine import AGED_DAYS, STALE_DAYS
from smolvideo.network.compilation import has_numba

CLIPS = ROOT / "smolvideo" / "doctor" / "clips"


def check(name: str, *, offline: bool = True, **folders: str) -> Finding:
    """Run one check in this process."""
    return run_check(name, CHECKS[name], Surroundings(offline, folders))


def doctor(*words: str, code: int) -> dict[str, Finding]:
    """Run the whole command; its checks run in subprocesses."""
    done = CliRunner().invoke(cli, ["doctor", *words, "--json"])
    assert done.exit_code == code, done.stdout + done.stderr
    content = schemas.validate_line("doctor", done.stdout)
    assert content["ok"] is (code == 0)
    return {finding["check"]: Finding(**finding) for finding in content["checks"]}


LIMITED_HERE = {"yt-dlp", "javascript", "processor", "devices"}
"""Checks that may fail on some machines, or once the pinned versions are old."""


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in ("speed", "decord")])
def test_doctor_finds_no_fault_here(name: str, tmp_path: Path) -> None:
    found = check(name, cache=str(tmp_path), models=str(tmp_path))
    assert found.check == name
    expected = {"ok", "note", "fault"} if name in LIMITED_HERE else {"ok"}
    assert found.state in ({"skipped"} if name == "hub" else expected), found
    assert found.state in ("ok", "skipped") or found.hint


@pytest.mark.needs("decord")
def test_decord_check() -> None:
    assert check("decord").state == "ok"


def test_speed_check_measures_rates_once_and_stores_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"_ROUNDS": 1, "_CACHED_TOKENS": 1024, "_READ_BYTES": 1 << 22}.items():
        monkeypatch.setattr(measure, name, value)
    found = check("speed")
    assert found.state == "ok"
    assert "GFLOP/s" in found.found
    kept = rates.kept_rates()
    assert kept is not None
    assert check("speed").found == found.found
    assert rates.kept_rates() == kept
    (tmp_path / "file").touch()
    monkeypatch.setenv("SMOLVIDEO_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(measure, "measure_rates", lambda _: kept)
    assert check("speed").state == "note"


def test_findings_are_in_table_order() -> None:
    found = doctor("hub", "models", "pyav", "processor", "terminal", "--offline", code=0)
    assert [*found] == ["processor", "pyav", "models", "hub", "terminal"]
    assert found["pyav"].state == found["models"].state == "ok"
    assert found["terminal"].state == found["hub"].state == "skipped"


def test_doctor_survives_checks_that_hang_crash_or_print() -> None:
    faulty = ("hang", "crash", "leave", "fail", "shout")
    checks = {name: Check(f"support.faulty_checks:{name}") for name in faulty}
    checks = {"measure": Check("support.faulty_checks:shout", measures=True), **checks}
    checks["hang"] = Check("support.faulty_checks:hang", compiles=True)
    checks["missing"] = Check("support.no_such_module:name")
    before = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), before]))
        patch.setattr(isolated, "COMPILING_LIMIT_SECONDS", 1.0)
        found = {one.check: one for one in examine(checks, Surroundings(offline=True))}
    assert {name: (one.state, one.found) for name, one in found.items()} == {
        "hang": ("fault", "hangs: no result after 1 seconds"),
        "crash": ("fault", "crashes: its process was ended by SIGABRT"),
        "leave": ("fault", "crashes: its process ended with exit code 3"),
        "fail": ("fault", "ZeroDivisionError: division by zero"),
        "shout": ("ok", "offline: True"),
        "measure": ("ok", "offline: True"),
        "missing": (
            "fault",
            "support cannot be imported: No module named 'support.no_such_module'",
        ),
    }
    assert "smolvideo doctor hang" in str(found["hang"].hint)
    assert next(iter(found)) == "measure"


def test_unwritable_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SMOLVIDEO_CACHE_DIR", str(tmp_path / "file" / "cache"))
    found = doctor("folders", "disk", code=1)
    assert [*found] == ["folders", "disk"]
    assert str(tmp_path / "file" / "cache") in found["folders"].found
    assert "SMOLVIDEO_CACHE_DIR" in str(found["folders"].hint)
    assert found["disk"].state == "ok"


def test_missing_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOLVIDEO_CACHE_DIR", "~no-such-user/cache")
    found = doctor("folders", "disk", code=1)
    assert "no folder for cache" in found["folders"].found
    assert found["disk"].state == "ok"


def test_folder_check_leaves_folders_unchanged(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "a" / "b"
    there.mkdir()
    found = check("folders", cache=str(there), conversations=str(missing))
    assert (found.state, found.found) == ("ok", "can be written: cache, conversations")
    assert [*tmp_path.rglob("*")] == [there]


def test_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    folders = {"models": str(tmp_path), "cache": str(tmp_path)}
    for free, state in ((4 * 10**8, "fault"), (2 * 10**9, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(free, 0, free))
        found = check("disk", **folders)
        assert found.state == state, found
        named = ("HF_HOME", "smolvideo cache clear", "smolvideo models rm")
        assert state == "ok" or all(one in str(found.hint) for one in named)


def test_low_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "free_memory_bytes", lambda _: 10**9)
    assert check("memory").state == "fault"
    monkeypatch.setattr(choose, "free_memory_bytes", lambda _: 2 * 10**9)
    assert "smolvlm" in check("memory").found


def test_broken_checkpoint_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert check("models").state == "ok"
    repository = tmp_path / "hub" / "models--HuggingFaceTB--SmolVLM2-256M-Video-Instruct"
    snapshot = write_toy_checkpoint(repository / "snapshots" / "0123abcd")
    whole = check("models")
    assert whole.state == "ok"
    assert "smolvlm2-256m" in whole.found
    weights = snapshot / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    found = doctor("models", code=1)["models"]
    assert "smolvlm2-256m" in found.found
    rm, pull = (f"`smolvideo models {command} smolvlm2-256m`" for command in ("rm", "pull"))
    assert found.hint == f"{rm}, then {pull}"
    for spoil in ("config.json", "tokenizer.json"):
        content = (snapshot / spoil).read_bytes()
        (snapshot / spoil).write_bytes(content[:-9])
        assert check("models").state == "fault", spoil
        (snapshot / spoil).write_bytes(content)
    weights.unlink()
    assert check("models").state == "note"
    weights.symlink_to(tmp_path / "lost")
    assert (check("models").state, check("models").hint) == ("fault", pull)
    repository.rename(repository.with_name("models--someone--fine-tune"))
    found = check("models")
    assert (found.state, found.found.partition(":")[0]) == ("fault", "someone/fine-tune")


@pytest.mark.parametrize(
    ("days", "state"),
    [(0, "ok"), (AGED_DAYS, "ok"), (AGED_DAYS + 1, "note"), (STALE_DAYS + 1, "fault")],
)
def test_old_yt_dlp_is_found(days: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    released = date(*map(int, ytdlp_version.split(".")[:3]))
    monkeypatch.setattr(machine, "_today", lambda: released + timedelta(days))
    found = check("yt-dlp")
    assert found.state == state
    assert f"{days} days" in found.found
    assert state == "ok" or "--upgrade yt-dlp" in str(found.hint)


def test_missing_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "yt_dlp.version", None)
    found = {name: check(name) for name in ("pyav", "opencv", "yt-dlp")}
    assert [one.state for one in found.values()] == ["fault", "note", "fault"]
    assert "pip install av" in str(found["pyav"].hint)
    assert "smolvideo[readers]" in str(found["opencv"].hint)
    assert "yt_dlp" in found["yt-dlp"].found


def test_missing_or_disabled_numba_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "fault" if sys.version_info < (3, 15) else "note"
    monkeypatch.setitem(sys.modules, "numba", None)
    has_numba.cache_clear()
    try:
        assert [check(name).state for name in ("kernels", "token")] == [expected] * 2
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
        assert "NUMBA_DISABLE_JIT" in str(check("token").hint)
    finally:
        has_numba.cache_clear()


def test_package_that_fails_to_import_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: cannot open')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    found = doctor("devices", code=1)["devices"]
    assert found.found == "torch cannot be imported: libtorch.so: cannot open"
    assert "--force-reinstall torch" in str(found.hint)


def test_broken_reader_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("av", "cv2"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('libavcodec.so: cannot open')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    found = doctor("pyav", "opencv", code=1)
    assert all("H.264: " in one.found for one in found.values())
    assert "--force-reinstall av" in str(found["pyav"].hint)
    assert "--force-reinstall opencv-python-headless" in str(found["opencv"].hint)


def test_wrongly_decoded_clip_is_found() -> None:
    assert decoding._difference(CLIPS / "vp9.mp4", "vp9", "pyav") is None
    wrong = decoding._difference(CLIPS / "vp9.mp4", "variable-rate", "pyav")
    assert wrong == "frame 5 is not what was drawn"
    assert decoding._broken_problem(CLIPS / "broken.mp4", "pyav") is None
    assert decoding._broken_problem(CLIPS / "h264.mp4", "pyav") == "its damage is not reported"


def test_wrong_matrix_products_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = computing._relative_error
    monkeypatch.setattr(
        computing, "_relative_error", lambda got, expected: exact(got, expected * 1.2)
    )
    for name in ("devices", "kernels", "token"):
        found = check(name)
        assert found.state == "fault", found
        assert "off by" in found.found


class _Hub(BaseHTTPRequestHandler):
    status = 200

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_Hub, "status", 200)
    with HTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url
        server.shutdown()
        thread.join()


def test_hub_check(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("hub", offline=False).found == f"{hub} answers"
    monkeypatch.setattr(_Hub, "status", 401)
    assert check("hub", offline=False).state == "ok"
    monkeypatch.setattr(_Hub, "status", 503)
    assert "HTTP 503" in check("hub", offline=False).found
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(machine, "HUB_TIMEOUT_SECONDS", 0.2)
        port = silent.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://user:secret@127.0.0.1:{port}")
        found = check("hub", offline=False)
        assert (found.state, "secret" in json.dumps(found.found)) == ("fault", False)
    monkeypatch.setattr(socket, "socket", None)
    assert check("hub").state == "skipped"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert check("hub", offline=False).state == "skipped"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc/passwd")
    assert "no http(s) address" in check("hub", offline=False).found


def test_table_in_a_pipe_has_one_line_per_check() -> None:
    done = CliRunner().invoke(cli, ["doctor", "hub", "models", "terminal", "--offline"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["models", "ok"],
        ["hub", "skipped"],
        ["terminal", "skipped"],
    ]


def test_clips_are_small() -> None:
    names = {path.stem for path in CLIPS.iterdir()}
    assert names == {*decoding.CLIPS, decoding.BROKEN, "nano"}
    assert sum(path.stat().st_size for path in CLIPS.iterdir()) < 60_000
