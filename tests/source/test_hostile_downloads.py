"""Hostile downloads cannot reach programs, environment variables or other files of the cache."""

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import downloading
from support.downloading import download
from support.project import ROOT
from support.webserver import Content, WebServer

from smolvideo.conversation.timestamps import player_command
from smolvideo.credentials import WebAddress, without_secrets
from smolvideo.errors import SourceError, UsageError
from smolvideo.evals.datasets.schemas.jsonl import OwnQuestions
from smolvideo.evals.datasets.schemas.schema import RowPlace
from smolvideo.readers import decoder_process
from smolvideo.source import cached_downloads, find_cached, http_only
from smolvideo.source.download_cache import download_folder

clip = downloading.clip
server = downloading.server

SAMPLE = ROOT / "samples" / "circle_right.mp4"


@pytest.mark.parametrize("name", ["x.desktop", "x.exe", "x.html", "x", "x.mp4.bat", "x.lnk"])
def test_executable_suffixes_are_not_passed_to_the_player(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = tmp_path / "xdg-open"
    opener.write_text("#!/bin/sh\n")
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    assert player_command(SAMPLE, 1.0).player == "xdg-open"
    with pytest.raises(UsageError, match="no ending of a video"):
        player_command(tmp_path / name, 1.0)


def test_decoder_process_has_no_secret_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pr0xypw@127.0.0.1:1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started: list[dict[str, str]] = []
    popen = subprocess.Popen

    def spy(*args: Any, **named: Any) -> Any:
        started.append(named["env"])
        return popen(*args, **named)

    monkeypatch.setattr(decoder_process.subprocess, "Popen", spy)
    from smolvideo.readers import open_video, prestart_process

    decoder_process.close_idle_processes()  # decoder processes of other tests
    prestart_process()
    with open_video(SAMPLE) as reader:
        assert reader.metadata.width
    assert started
    for environment in started:
        assert not {"HF_TOKEN", "HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY"} & set(environment)
        assert environment["OMP_NUM_THREADS"] == "1"
        assert environment["PATH"] == os.environ["PATH"]


def test_other_variables_are_passed_on() -> None:
    plain = {
        "PATH": "/usr/bin:/bin",
        "LS_COLORS": "*.tar=01;31:*.tgz=01;31",
        "TOKENIZERS_PARALLELISM": "false",
        "SYSTEMROOT": "C:\\Windows",
        "NO_PROXY": "127.0.0.1",
    }
    assert without_secrets(plain) == plain


@pytest.mark.parametrize(
    "changed",
    [
        {"path": "../../outside.mp4"}, {"path": ".."}, {"path": "link.mp4"}, {"path": 7},
        {"size": "many"}, {"title": None}, {"url": ["x"]}, {"height": "tall"}, {"time": None},
        {"more": 1},
    ],
)  # fmt: skip
def test_tampered_cache_entry_is_a_miss(
    server: WebServer, clip: bytes, tmp_path: Path, changed: dict[str, object]
) -> None:
    url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
    path = download(url)
    entry = path.parent / "entry.json"
    (tmp_path / "outside.mp4").write_bytes(clip)
    (path.parent / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    content = json.loads(entry.read_text()) | changed
    if changed.get("path") == "..":
        content["size"] = path.parent.parent.stat().st_size
    entry.write_text(json.dumps(content))
    found = find_cached(url)
    assert found is None or found.path == path.parent / "outside.mp4"
    assert found is None
    assert cached_downloads() == []


def test_deeply_nested_cache_entry_is_a_miss(server: WebServer, clip: bytes) -> None:
    url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
    (download(url).parent / "entry.json").write_text("[" * 100_000)
    assert find_cached(url) is None
    assert cached_downloads() == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_download_folder_is_private_to_its_owner(server: WebServer, clip: bytes) -> None:
    url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
    downloads = download(url).parent.parent
    assert stat.S_IMODE(downloads.stat().st_mode) == 0o700


def test_endless_page_is_refused(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_only, "MAX_PAGE", 100_000)
    page = Content(b"<html>" + b"<p>x</p>" * 50_000, "text/html")
    with pytest.raises(SourceError, match="not read"):
        download(server.serve("/page", page))


def test_credentials_of_eval_addresses_are_in_no_name() -> None:
    def item(token: str) -> Any:
        url = f"https://e.org/v.mp4?v=1&token={token}"
        row = {"video": url, "question": "q", "options": ["a", "b"], "answer_index": 0}
        return OwnQuestions().item(row, RowPlace(0))

    one, other = item("t0ken1"), item("t0ken2")
    assert one.url == "https://e.org/v.mp4?v=1&token=t0ken1"
    assert "t0ken" not in one.video + "".join(one.subtitle_names)
    assert one.video != other.video, "a token may be all that tells two videos apart"
    assert WebAddress("https://e.org/v.mp4?v=1&sig=a").name == "https://e.org/v.mp4?v=1"


def test_format_id_is_not_a_path(server: WebServer, clip: bytes) -> None:
    server.serve("/v.mp4", Content(clip, "video/mp4"))
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="../../../x%(title)s" bandwidth="1" width="96" height="96" '
        f'codecs="avc1"><BaseURL>{server.url("/v.mp4")}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    url = server.serve("/m.mpd", Content(mpd.encode(), "application/dash+xml"))
    assert download(url).parent == download_folder(url)
