"""``smolvideo serve`` and ``mcp`` as commands: what cannot be served is one line and a hint."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.project import ROOT

from smolvideo.cli.main import cli
from smolvideo.serve import ServerOptions


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.main(list(words), standalone_mode=False)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "add `--api-key KEY`"),
        (["--host", "::"], 2, "add `--api-key KEY`"),
        (["--host", "no.such.host.invalid", "--api-key", "k"], 2, "no address of this machine"),
        (["--host", "300.1.1.1", "--api-key", "k"], 2, "hint: 127.0.0.1 is for this machine"),
        (["--host", "192.0.2.1", "--api-key", "k"], 2, "cannot listen at"),
        (["--api-key", " "], 2, "the key of the server is empty"),
        (["--api-key", "", "--host", "0.0.0.0"], 2, "give one: `--api-key KEY`"),
        (["--allow-origin", "*"], 2, "every web page"),
        (["--allow-origin", "evil.com"], 2, "hint: such as `https://chat.example.org`"),
        (["--allow-origin", "https://Chat.org:443/x"], 2, "hint: `https://chat.org` is one"),
        (["--allow-domain", "http://x y"], 2, "is no host name"),
        (["--allow-domain", "http://me:s3cret@x.org"], 2, "is no host name"),
        (["--allow-domain", ""], 2, "is no host name"),
        (["--allow-domain", "x.org:80"], 2, "is no host name"),
        (["--allow-folder", "/no/such\x1bfolder"], 2, "cannot be read: "),
        (["--allow-folder", __file__], 2, "cannot be read: "),
        (["--port", "70000"], 2, "70000 is not in the range"),
        (["--max-body", "x"], 2, "is no size"),
        (["--model", "no-such-model"], 4, "no-such-model"),
        (["--engine", "openai"], 2, "is a server"),
    ],
)
def test_server_that_cannot_start_is_one_line(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, err = run("serve", *words, capsys=capsys)
    assert (found, message in err) == (code, True), err
    assert "Traceback" not in err
    assert "s3cret" not in err


def test_folder_that_mcp_cannot_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, err = run("mcp", "--allow-folder", str(tmp_path / "none"), capsys=capsys)
    assert (found, "none` cannot be read: " in err) == (2, True), err


@pytest.mark.parametrize("domain", ["*", "*.example.org", "a-b.example.org.", "8.8.8.8", "2001::1"])
@pytest.mark.parametrize(
    "origin",
    ["https://chat.example.org", "http://localhost:3000", "http://[::1]:3000", "null", "app://x"],
)
def test_domains_and_origins_that_can_match(domain: str, origin: str) -> None:
    options = ServerOptions(allowed_domains=(domain,), allowed_origins=(origin,))
    assert options.is_loopback


def test_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, err = run("serve", "--port", str(port), capsys=capsys)
    assert code == 2
    assert f"port {port} of `127.0.0.1` is taken" in err


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [("serve", "uvicorn", "[serve]"), ("mcp", "mcp", "[mcp]")],
)
def test_missing_extra_is_an_error_with_the_command(
    command: str,
    package: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == package else find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    code, err = run(command, capsys=capsys)
    assert code == 4
    assert f"pip install 'smolvideo{extra}'" in err


@pytest.mark.skipif(os.name == "nt", reason="hardware: signals of other systems")
def test_server_says_where_it_is_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "smolvideo", "serve", "--model", "nano", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=300)
    assert re.match(r"note: http://127\.0\.0\.1:\d+ is a web page", lines[0])
    assert "`nano` is ready" in lines[1]
    assert (process.returncode, out, rest.strip()) == (130, "", "")
