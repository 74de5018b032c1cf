"""Credentials in addresses reach no file and no output of any command."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import downloading
from support.project import ROOT
from support.webserver import Content, WebServer

from smolvideo.cli.main import cli
from smolvideo.source import cached_downloads
from smolvideo.source.download_cache import download_folder

server = downloading.server

USER, PASSWORD, TOKEN, SIGNATURE = "us3rname", "p4ssw0rd", "t0ken5678", "s1gnature9"
SECRETS = (USER, PASSWORD, TOKEN, SIGNATURE)
VIDEO = ROOT / "samples" / "circle_right.mp4"


def secret_url(server: WebServer, name: str, content: Content, more: str = "") -> str:
    path = f"/{name}?v=1&token={TOKEN}&sig={SIGNATURE}{more}"
    return server.serve(path, content).replace("http://", f"http://{USER}:{PASSWORD}@")


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["--debug", *words])


def check_nothing_left(result: Result, folder: Path) -> None:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    said = {"output": result.output}
    for path in folder.rglob("*"):
        said[str(path.relative_to(folder))] = (
            path.read_bytes().decode("latin-1") if path.is_file() else ""
        )
    for where, text in said.items():
        for secret in SECRETS:
            assert secret not in where, f"a name holds {secret}"
            assert secret not in text, f"{where} holds {secret}"


@pytest.fixture
def video() -> Content:
    return Content(VIDEO.read_bytes(), "video/mp4", login=f"{USER}:{PASSWORD}")


def test_ask_leaves_no_credentials(server: WebServer, video: Content, tmp_path: Path) -> None:
    url = secret_url(server, "clip.mp4", video)
    result = run("ask", "-v", "--save", str(tmp_path / "r.jsonl"), "--json", url, "What moves?")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "r.jsonl").read_text())
    assert record["sources"][0]["url"] == server.url("/clip.mp4?v=1")
    assert record["sources"][0]["given"] == server.url("/clip.mp4?v=1")
    check_nothing_left(result, tmp_path)
    again = run("ask", "--continue", "What colour is it?")
    assert again.exit_code == 0, again.output
    check_nothing_left(again, tmp_path)


def test_summary_resumed_with_another_token_leaves_no_credentials(
    server: WebServer, video: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    formats = "txt,md,json,jsonl,srt,vtt,chapters,html"
    url = secret_url(server, "clip.mp4", video)
    result = run("summarise", "-v", "--out", str(out), "--format", formats, url)
    assert result.exit_code == 0, result.output
    check_nothing_left(result, tmp_path)
    assert (out / "clip.summary.html").exists()
    before = (out / "summaries.jsonl").read_text()
    renewed = server.serve("/clip.mp4?v=1&token=an0therone", video)
    renewed = renewed.replace("http://", f"http://{USER}:{PASSWORD}@")
    result = run("summarise", "--out", str(out), "--format", formats, "--jsonl", "-", renewed)
    assert result.exit_code == 0, result.output
    assert (out / "summaries.jsonl").read_text() == before, "the same content was done before"
    assert "an0therone" not in result.output


BAD = {
    "missing": lambda content: Content(b"none", "text/plain", 404),
    "login": lambda content: Content(content.body, "video/mp4", login="someone:else"),
    "text": lambda content: Content(b"a text\n" * 99, "text/plain"),
    "moved": lambda content: Content(status=302, location=f"file:///x?token={TOKEN}"),
    "page": lambda content: Content(f"<p>?token={TOKEN}</p>".encode(), "text/html"),
    "large": lambda content: content,
    "pieces": lambda content: Content(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nno.ts?token={TOKEN}\n#EXT-X-ENDLIST".encode(),
        "application/vnd.apple.mpegurl",
    ),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore:.*unclosed file")
def test_failed_sources_leave_no_credentials(
    kind: str, server: WebServer, video: Content, tmp_path: Path
) -> None:
    url = secret_url(server, f"{kind}.mp4" if kind != "page" else kind, BAD[kind](video))
    quick = ["--max-filesize", "1K"] if kind == "large" else []
    result = run("ask", "-v", "--save", str(tmp_path / "r.jsonl"), *quick, url, "What moves?")
    assert result.exit_code == 3, result.output
    check_nothing_left(result, tmp_path)
    out = tmp_path / "out"
    result = run("summarise", "--out", str(out), *quick, url)
    assert result.exit_code == 3, result.output
    assert json.loads((out / "summaries.jsonl").read_text())["error"]
    check_nothing_left(result, tmp_path)


def test_usage_errors_and_playlists_leave_no_credentials(
    server: WebServer, video: Content, tmp_path: Path
) -> None:
    urls = [secret_url(server, "get", video, f"&n={n}") for n in (1, 2)]
    broken = f"http://{USER}:{PASSWORD}@[::1/x?token={TOKEN}"
    slash = f"http://{USER}:{PASSWORD}/{TOKEN}@e.org/x"
    for words in (["ask", urls[0]], ["ask", broken, "What?"], ["ask", slash, "What?"],
                  ["summarise", broken], ["summarise", f"ftp://{USER}:{PASSWORD}@e.org/{PASSWORD}"[:-9]],
                  ["frames", broken]):  # fmt: skip
        result = run(*words)
        assert result.exit_code in (2, 3), result.output
        check_nothing_left(result, tmp_path)
    feed = "".join(f"<item><link>{url.replace('&', '&amp;')}</link></item>" for url in urls)
    feed = f"<rss version='2.0'><channel>{feed}</channel></rss>"
    listed = secret_url(server, "feed", Content(feed.encode(), "application/rss+xml"))
    result = run("summarise", "--dry-run", listed)
    assert result.exit_code == 0, result.output
    check_nothing_left(result, tmp_path)


def test_logins_distinguish_videos_and_signatures_do_not(server: WebServer, video: Content) -> None:
    other = Content(VIDEO.with_name("number_42.mp4").read_bytes(), "video/mp4")
    one = server.serve("/get?token=aaaaaa", Content(video.body, "video/mp4"))
    two = server.serve("/get?token=bbbbbb", other)
    assert downloading.download(one).read_bytes() == video.body
    assert downloading.download(two).read_bytes() == other.body
    assert {entry.url for entry in cached_downloads()} == {server.url("/get")}
    server.serve("/s?v=1&sig=1", other)
    assert downloading.download(server.url("/s?v=1&sig=1")).read_bytes() == other.body
    assert downloading.download(server.url("/s?v=1&sig=2")).read_bytes() == other.body
    assert download_folder("http://e.org/?key=a") != download_folder("http://e.org/?key=b")


def test_addresses_that_differ_only_in_a_token_are_two_items(tmp_path: Path) -> None:
    from smolvideo.source import DownloadOptions
    from smolvideo.summaries import list_items

    urls = [f"http://127.0.0.1/get.mp4?token={one}" for one in ("aaaa", "bbbb", "aaaa")]
    items = list_items(urls, download=DownloadOptions(offline=True))
    assert [item.path for item in items] == [
        "http://127.0.0.1/get.mp4",
        "http://127.0.0.1/get.mp4#2",
    ]


@pytest.mark.parametrize(
    "typed",
    [
        f"http:/{USER}:{PASSWORD}@127.0.0.1/x.mp4",
        f"http:{USER}:{PASSWORD}@127.0.0.1/x.mp4",
        f"'http://{USER}:{PASSWORD}@127.0.0.1/x.mp4'",
        f"www.e.org/x.mp4?token={TOKEN}",
        f"rtsp://{USER}:{PASSWORD}@127.0.0.1/x.mp4",
        f" HTTP://{USER}:{PASSWORD}@[::1/x.mp4",
        f"{USER}:{PASSWORD}@127.0.0.1/x.mp4",
        f"//{USER}:{PASSWORD}@127.0.0.1:80",
    ],
)
def test_mistyped_addresses_leave_no_credentials(typed: str, tmp_path: Path) -> None:
    video = str(VIDEO)
    save = ["--save", str(tmp_path / "r.jsonl")]
    for words in (
        ["ask", typed, "What?", *save],
        ["ask", video, "What?", "--subtitles", typed, *save],
        ["ask", video, "What?", "--model", typed, *save],
        ["summarise", typed, "--out", str(tmp_path / "out")],
        ["summarise", "--dry-run", typed],
        ["frames", typed],
    ):
        result = run(*words)
        assert result.exit_code == 0 or "Error: " in result.output, result.output
        check_nothing_left(result, tmp_path)


def test_errors_have_no_credentials() -> None:
    from smolvideo.errors import ModelError

    url = f"http://{USER}:{PASSWORD}@e.org/?token={TOKEN}"
    error = ModelError(f"cannot read `{url}`", hint=f"try `{url}`")
    assert str(error) == "cannot read `http://e.org/`"
    assert error.hint == "try `http://e.org/`"


def test_cookies_are_in_no_error(server: WebServer, tmp_path: Path) -> None:
    cookies = tmp_path / "cookies"
    cookies.mkdir()
    lines = [
        f"e.org\tTRUE\t/\tFALSE\t0\tsid\t{TOKEN}",
        f".e.org\tFALSE\t/\tFALSE\t0\tsid\t{TOKEN}",
        f"127.0.0.1\tFALSE\t/\tFALSE\t0\tsid\t{TOKEN}",
        f"a bad line {TOKEN}",
        f"\tTRUE\t\t\t\t\t{TOKEN}",
    ]
    for number, line in enumerate(lines):
        file = cookies / f"{number}.txt"
        file.write_text(line + "\n")
        url = server.url("/none.mp4")
        result = run(
            "ask", "--cookies", str(file), url, "What?", "--save", str(tmp_path / "r.jsonl")
        )
        assert result.exit_code == 3, result.output
        assert TOKEN not in result.output
    assert "404" in run("ask", "--cookies", str(cookies / "0.txt"), url, "What?").output
    assert server.last_headers("/none.mp4")["Cookie"] is None, "it is for another site"
