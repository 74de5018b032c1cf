"""Media that requests only name: files of allowed folders, and addresses of allowed hosts."""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.apiserver import CIRCLE, asked, running_server
from support.webserver import Content, WebServer

from smolvideo.serve import media_store
from smolvideo.serve.api_errors import ApiError
from smolvideo.serve.listen import VideoServer
from smolvideo.serve.remote_media import MediaFetcher, is_public_address, open_allowed_file


@pytest.fixture(scope="module")
def server() -> Iterator[VideoServer]:
    with running_server() as running:
        yield running


def call(server: VideoServer, body: Any) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, content


# ---------------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "videos"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "a.mp4").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "good link").symlink_to(inside / "deep" / "a.mp4")
    (inside / "up").symlink_to(tmp_path)
    (tmp_path / "videos2").mkdir()
    (tmp_path / "videos2" / "b.mp4").write_bytes(b"beside")
    if hasattr(os, "mkfifo"):
        os.mkfifo(inside / "pipe")
    return inside


def test_file_of_an_allowed_folder_is_opened(folder: Path) -> None:
    for named in (folder / "deep" / "a.mp4", folder / "good link", folder / "deep/../deep/a.mp4"):
        for text in (str(named), f"file://{named}".replace(" ", "%20")):
            with open_allowed_file(text, [folder], None) as file:
                assert file.read() == b"inside"


def test_everything_else_gets_one_and_the_same_refusal(folder: Path) -> None:
    said = set()
    for named in (
        folder.parent / "secret",
        folder / "link",
        folder / "up" / "secret",
        folder / ".." / "secret",
        folder.parent / "videos2" / "b.mp4",
        folder / "missing.mp4",
        folder / "missing" / "x",
        folder / "pipe",
        folder,
        folder / "deep",
        "/etc/passwd",
        "/dev/zero",
        "relative.mp4",
        "~/x",
        f"{folder}/deep/a.mp4\0.png",
        "file://other-machine/x.mp4",
        "file:deep/a.mp4",
        f"file://{folder}/%2e%2e/secret",
    ):
        with pytest.raises(ApiError) as refused:
            open_allowed_file(str(named), [folder], "p")
        assert refused.value.status == 403
        said.add((refused.value.message, refused.value.code))
    assert len(said) == 1, "the answer does not tell which files exist"


def test_no_file_is_read_unless_a_folder_is_allowed(server: VideoServer) -> None:
    for url in (CIRCLE.as_uri(), str(CIRCLE), "/etc/passwd"):
        part = {"type": "video_url", "video_url": {"url": url}}
        assert call(server, {"messages": asked("What?", part)})[0] == 403


def test_link_put_in_place_of_a_folder_after_the_check_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.path.realpath

    def swap(path: Any, **more: Any) -> str:
        found = real(path, **more)
        if str(path).endswith("a.mp4"):  # resolved: now the folder becomes a link
            (folder / "deep").rename(folder / "old")
            (folder / "deep").symlink_to(folder.parent / "outside")
        return found

    (folder.parent / "outside").mkdir()
    (folder.parent / "outside" / "a.mp4").write_bytes(b"outside")
    monkeypatch.setattr(os.path, "realpath", swap)
    with pytest.raises(ApiError) as refused:
        open_allowed_file(str(folder / "deep" / "a.mp4"), [folder], None)
    assert refused.value.status == 403


# ---------------------------------------------------------------------- addresses

PUBLIC = "93.184.216.34"


def fetcher(web: WebServer, hosts: dict[str, list[str]], **more: Any) -> MediaFetcher:
    """Return a fetcher that finds ``hosts`` by name, and reaches the test server at all."""
    port = int(web.url("").rsplit(":", 1)[1])
    return MediaFetcher(
        ["media.example.org", "*.cdn.example.org"],
        max_bytes=more.pop("max_bytes", 10_000),
        resolve=lambda host, _: hosts[host],
        connect=lambda address, _port, timeout: socket.create_connection(
            ("127.0.0.1", port), timeout
        ),
        **more,
    )


HOSTS = {
    "media.example.org": [PUBLIC],
    "a.cdn.example.org": [PUBLIC, "2606:2800:220:1::1"],
    "cdn.example.org": [PUBLIC],
    "evil.example": [PUBLIC],
}


def fetched(web: WebServer, url: str, hosts: dict[str, list[str]] = HOSTS, **more: Any) -> bytes:
    return b"".join(fetcher(web, hosts, **more).fetch(url, "p"))


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as running:
        running.serve("/a.mp4", Content(b"video" * 1000))
        running.serve("/cut.mp4", Content(b"video" * 1000, break_after=100))
        yield running


def test_file_of_an_allowed_host_is_fetched(web: WebServer) -> None:
    for host in ("media.example.org", "a.cdn.example.org", "MEDIA.example.org."):
        assert fetched(web, f"http://{host}/a.mp4") == b"video" * 1000


def test_video_of_an_allowed_host_is_answered(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.serve("/circle.mp4", Content(CIRCLE.read_bytes()))
    one = fetcher(web, HOSTS, max_bytes=10**6)
    monkeypatch.setattr(media_store, "MediaFetcher", lambda *_: one)
    address = "http://media.example.org/circle.mp4"
    with running_server() as running:
        for part in (
            {"type": "video_url", "video_url": {"url": address}},
            {"type": "file", "file": {"file_id": address}},
        ):
            status, answer = call(running, {"messages": asked("What moves?", part)})
            assert status == 200
            assert answer["choices"][0]["message"]["content"] == "a purple circle"


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/a.mp4",
        "http://media.example.org.evil.example/a.mp4",
        "http://cdn.example.org/a.mp4",
        "http://media.example.org@evil.example/a.mp4",
        "http://evil.example#media.example.org/a.mp4",
        "http://127.0.0.1/a.mp4",
        "http://2130706433/a.mp4",
        "http://[::1]/a.mp4",
        "http://169.254.169.254/latest/meta-data",
    ],
)
def test_host_that_is_not_allowed_is_not_even_resolved(web: WebServer, url: str) -> None:
    with pytest.raises(ApiError) as refused:
        fetched(web, url, {})
    assert refused.value.status == 403


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.5"],
        ["169.254.169.254"],
        ["::1"],
        ["fe80::1"],
        ["::ffff:192.168.0.1"],
        ["64:ff9b::7f00:1"],
        ["100.64.0.1"],
        ["224.0.0.1"],
        ["0.0.0.0"],
        [PUBLIC, "10.0.0.5"],
        [],
    ],
)
def test_allowed_host_with_a_private_address_is_refused(
    web: WebServer, addresses: list[str]
) -> None:
    with pytest.raises(ApiError, match="no public address"):
        fetched(web, "http://media.example.org/a.mp4", {"media.example.org": addresses})


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://evil.example/a.mp4", 403),
        ("http://169.254.169.254/latest", 403),
        ("http://127.0.0.1:{port}/a.mp4", 403),
        ("file:///etc/passwd", 400),
        ("//evil.example/a.mp4", 403),
        ("/loop", 400),
        ("gopher://media.example.org/", 400),
    ],
)
def test_every_redirect_is_checked_like_the_first_address(
    web: WebServer, target: str, status: int
) -> None:
    port = web.url("").rsplit(":", 1)[1]
    location = target.replace("{port}", port)
    web.serve("/go", Content(b"", status=302, location=location))
    web.serve("/loop", Content(b"", status=302, location="/loop"))
    web.forget_requests()
    with pytest.raises(ApiError) as refused:
        fetched(web, "http://media.example.org/go")
    assert refused.value.status == status
    assert not web.requests_for("/a.mp4")


def test_redirect_to_an_allowed_host_is_followed(web: WebServer) -> None:
    web.serve("/go", Content(b"", status=301, location="http://a.cdn.example.org/a.mp4"))
    assert fetched(web, "http://media.example.org/go") == b"video" * 1000


def test_fetched_file_has_a_limit_of_size_whatever_is_announced(web: WebServer) -> None:
    with pytest.raises(ApiError) as refused:
        fetched(web, "http://media.example.org/a.mp4", max_bytes=4999)
    assert refused.value.status == 413


def test_transfer_that_breaks_off_is_an_error(web: WebServer) -> None:
    with pytest.raises(ApiError, match="broke off"):
        fetched(web, "http://media.example.org/cut.mp4")
    with pytest.raises(ApiError, match="answers 404"):
        fetched(web, "http://media.example.org/missing")


def test_connection_goes_to_the_checked_address(web: WebServer) -> None:
    """A name that resolves to another address at the second look changes nothing."""
    dialled: list[str] = []
    answers = [[PUBLIC], ["127.0.0.1"]]

    def connect(address: str, _port: int, timeout: float) -> socket.socket:
        dialled.append(address)
        port = int(web.url("").rsplit(":", 1)[1])
        return socket.create_connection(("127.0.0.1", port), timeout)

    one = MediaFetcher(["*"], 10_000, resolve=lambda *_: answers.pop(0), connect=connect)
    assert b"".join(one.fetch("http://rebinding.example/a.mp4", None)) == b"video" * 1000
    assert (dialled, len(answers)) == ([PUBLIC], 1)


def test_public_addresses() -> None:
    assert is_public_address("8.8.8.8")
    assert is_public_address("2606:4700:4700::1111")
    assert not any(map(is_public_address, ("x", "", "192.0.2.1", "fd00::1", "2002:7f00:1::")))


def test_no_address_is_fetched_unless_its_host_is_allowed(
    server: VideoServer, web: WebServer
) -> None:
    web.forget_requests()
    for kind in ("video_url", "image_url"):
        part = {"type": kind, kind: {"url": web.url("/a.mp4")}}
        assert call(server, {"messages": asked("?", part)})[0] == 403
    assert not web.requests_for("/a.mp4")
