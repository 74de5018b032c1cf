"""Playlists and pages from the web reach only public web addresses, no local file or network."""

import gzip
import socket
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import downloading
from support.downloading import QUICK, download
from support.webserver import Content, WebServer

from smolvideo.errors import SourceError
from smolvideo.source import http_only as encodings_module
from smolvideo.source import lists, urls
from smolvideo.source.urls import Reach, check_named, reach_of
from smolvideo.summaries import WorkItem, list_items
from smolvideo.summaries.worklist import resolve_item

clip = downloading.clip
server = downloading.server
streams_left_open = downloading.streams_left_open


@pytest.fixture
def planted(tmp_path: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a video in the current folder that no playlist may reach."""
    (tmp_path / "planted.mp4").write_bytes(clip)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "planted.mp4"


def feed(*addresses: str) -> Content:
    from xml.sax.saxutils import quoteattr

    items = "".join(
        f"<item><title>x</title><enclosure url={quoteattr(one)} type='video/mp4'/></item>"
        for one in addresses
    )
    text = f"<?xml version='1.0'?><rss version='2.0'><channel>{items}</channel></rss>"
    return Content(text.encode(), "application/rss+xml")


def bring(items: list[WorkItem]) -> list[str]:
    """Resolve each item and return its file name or its error."""
    found = []
    for item in items:
        try:
            found.append(resolve_item(item, QUICK, lambda _: None).path.name)
        except SourceError as error:
            found.append(str(error))
    assert not any("\n" in one for one in found)
    return found


LOCAL = [
    "{path}", "planted.mp4", "./planted.mp4", "../{folder}/planted.mp4", "file://{path}",
    "FILE://{path}", "File:{path}", " file://{path}", "\tfile://{path}", "\x0bfile://{path}",
    "file://localhost{path}", "fi\nle://{path}", "%66ile://{path}", "file:%2f%2f{path}", "~/x.mp4",
    "C:\\planted.mp4", "C:/planted.mp4", "\\\\host\\share\\x.mp4", "//127.0.0.1/x.mp4",
    "data:video/mp4;base64,AAAA", "smb://127.0.0.1/x.mp4", "ftp://127.0.0.1/x.mp4",
    "concat:{path}|{path}", "subfile:,,start,0,end,9,,:{path}", "pipe:0", "-", "javascript:x",
    "http:{path}", "http://", "https:///x.mp4", "http://[::1/x.mp4", "http://e.org:port/x.mp4",
    "view-source:http://127.0.0.1/", "ytsearch:cats", "jar:http://127.0.0.1/x!/y", "blob:http://x/",
]  # fmt: skip


def test_feed_entries_that_name_files_are_refused_one_by_one(
    server: WebServer, clip: bytes, planted: Path
) -> None:
    good = server.serve("/good.mp4", Content(clip, "video/mp4"))
    # XML forbids vertical tabs, so such a feed is invalid.
    named = [one.format(path=planted, folder=planted.parent.name) for one in LOCAL]
    written = [one for one in named if "\x0b" not in one]
    url = server.serve("/feed", feed(*written, good))
    items = list_items([url])
    # XML reads tabs and line breaks in attributes as blanks, and these are stripped.
    assert len(items) == len({one.strip() for one in written}) + 1
    for item, said in zip(items[:-1], bring(items[:-1]), strict=True):
        assert "no web address" in said, item.path
        assert item.path.startswith(f"{url}#"), "never the key of a file's own record"
    assert bring(items[-1:])[0].endswith(".mp4")
    assert items[-1].path == good


@pytest.mark.parametrize("name", LOCAL)
def test_entries_of_yt_dlp_must_be_web_addresses(name: str, planted: Path) -> None:
    from smolvideo.source.urls import checked_entry

    name = name.format(path=planted, folder=planted.parent.name)
    for entry in (
        {"_type": "url", "url": name},
        {"_type": "url_transparent", "url": name, "webpage_url": name},
        {"_type": "video", "url": name, "webpage_url": "http://127.0.0.1/list"},
        {"formats": [{"url": name}], "webpage_url": "http://127.0.0.1/list"},
    ):
        with pytest.raises(SourceError, match="no web address"):
            checked_entry(entry, "http://127.0.0.1/list")


LISTS = {
    "xspf": (
        "<?xml version='1.0'?><playlist version='1' xmlns='http://xspf.org/ns/0/'><trackList>"
        "<track><location>{0}</location></track><track><location>{1}</location></track>"
        "</trackList></playlist>",
        "application/xspf+xml",
    ),
    "page": (
        "<html><body><video src='{0}'></video><video src='{1}'></video></body></html>",
        "text/html",
    ),
    "atom": (
        "<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'><entry>"
        "<link rel='enclosure' href='{0}'/></entry><entry><link href='{1}'/></entry></feed>",
        "application/atom+xml",
    ),
    "m3u": ("#EXTM3U\n#EXTINF:1,\n{0}\n#EXTINF:1,\n{1}\n", "audio/x-mpegurl"),
    "hls": (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{0}\n#EXTINF:1,\n{1}\n#EXT-X-ENDLIST\n",
        "application/vnd.apple.mpegurl",
    ),
    "pls": ("[playlist]\nFile1={0}\nFile2={1}\nNumberOfEntries=2\n", "audio/x-scpls"),
    "json": ('{{"videos": ["{0}", "{1}"]}}', "application/json"),
    "plain": ("{0}\n{1}\n", "text/plain"),
    "refresh": (
        "<html><head><meta http-equiv='refresh' content='0; url={0}'></head>{1}</html>",
        "text/html",
    ),
    "og": (
        "<html><head><meta property='og:video' content='{0}'>"
        '<script type=\'application/ld+json\'>{{"@context": "https://schema.org", '
        '"@type": "VideoObject", "contentUrl": "{1}"}}</script></head></html>',
        "text/html",
    ),
}


@pytest.mark.usefixtures("streams_left_open")
@pytest.mark.parametrize("kind", LISTS)
def test_playlists_of_all_formats_reach_no_file(
    server: WebServer, kind: str, clip: bytes, planted: Path
) -> None:
    text, content_type = LISTS[kind]
    content = Content(text.format(planted.as_uri(), planted).encode(), content_type)
    url = server.serve(f"/{kind}", content)
    items = list_items([url])
    said = bring(items)
    assert items
    assert not any(one.endswith(".mp4") for one in said), said


def test_xspf_playlist_is_listed_as_its_videos(server: WebServer, clip: bytes) -> None:
    one = server.serve("/a/one.mp4", Content(clip, "video/mp4"))
    text, content_type = LISTS["xspf"]
    url = server.serve(
        "/a/list", Content(text.format("one.mp4", one + "?v=2").encode(), content_type)
    )
    server.serve("/a/one.mp4?v=2", Content(clip, "video/mp4"))
    assert [item.path for item in list_items([url])] == [one, one + "?v=2"]


def test_endless_playlist_is_cut_with_a_notice(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MAX_ENTRIES", 3)
    names = [f"http://127.0.0.1/{number}.mp4" for number in range(5)]
    items = list_items([server.serve("/feed", feed(*names))])
    assert [item.path for item in items[:3]] == names[:3]
    (rest,) = items[3:]
    assert "more than 3 videos" in str(rest.error)
    items = list_items([server.serve("/feed", feed(*names[:3]))])
    assert [item.path for item in items] == names[:3]


def test_playlist_that_contains_itself_ends(server: WebServer) -> None:
    url = server.url("/loop")
    server.serve("/loop", feed(url, url))
    (item,) = list_items([url])
    with pytest.raises(SourceError, match="list of videos"):
        resolve_item(item, QUICK, lambda _: None)
    server.serve("/loop1", feed(server.url("/loop1")))
    with pytest.raises(SourceError, match="no video found"):
        download(server.url("/loop1"))
    assert len(server.requests_for("/loop1")) <= 3


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("127.0.0.1", Reach.THIS_MACHINE), ("127.1", Reach.THIS_MACHINE),
        ("2130706433", Reach.THIS_MACHINE), ("0x7f.1", Reach.THIS_MACHINE),
        ("0177.0.0.1", Reach.THIS_MACHINE), ("localhost", Reach.THIS_MACHINE),
        ("LOCALHOST.", Reach.THIS_MACHINE), ("0.0.0.0", Reach.THIS_MACHINE),
        ("0", Reach.THIS_MACHINE), ("127\u30020\u30020\u30021", Reach.THIS_MACHINE),
        ("\uff11\uff12\uff17.0.0.1", Reach.THIS_MACHINE), ("[::1]", Reach.THIS_MACHINE),
        ("[::]", Reach.THIS_MACHINE), ("[::ffff:127.0.0.1]", Reach.THIS_MACHINE),
        ("[64:ff9b::7f00:1]", Reach.THIS_MACHINE), ("[2002:7f00:1::]", Reach.THIS_MACHINE),
        ("169.254.169.254", Reach.LINK_LOCAL), ("[fe80::1]", Reach.LINK_LOCAL),
        ("[fe80::1%25eth0]", Reach.LINK_LOCAL), ("[::ffff:169.254.169.254]", Reach.LINK_LOCAL),
        ("2852039166", Reach.LINK_LOCAL), ("10.1.2.3", Reach.PRIVATE),
        ("192.168.0.1", Reach.PRIVATE), ("172.31.255.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE), ("[fd00::1]", Reach.PRIVATE), ("224.0.0.1", Reach.PRIVATE),
        ("8.8.8.8", Reach.PUBLIC), ("[2606:4700::1111]", Reach.PUBLIC),
        ("172.32.0.1", Reach.PUBLIC),
    ],
)  # fmt: skip
def test_reach_of_addresses(address: str, where: Reach) -> None:
    assert reach_of(f"http://{address}/x.mp4") is where
    assert reach_of(f"http://me:secret@{address}:8080/x.mp4") is where


@pytest.fixture
def strange_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Resolve ``public.test`` to a public address for checks and to loopback for connections."""
    known = socket.getaddrinfo
    public = {"public.test": "93.184.216.34", "evil.test": "127.0.0.1"}

    def lookup(host: str, port: object, *args: object, **named: object) -> object:
        in_reach = port is None  # ``reach_of`` looks up without a port, a connection with one
        if host in public:
            host = public[host] if in_reach else "127.0.0.1"
        return known(host, port, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    urls._reach_of_host.cache_clear()
    yield
    urls._reach_of_host.cache_clear()


def at(host: str, url: str) -> str:
    return url.replace("127.0.0.1", host)


@pytest.mark.usefixtures("strange_names")
def test_public_playlist_reaches_no_private_address(server: WebServer, clip: bytes) -> None:
    near = server.serve("/near.mp4", Content(clip, "video/mp4"))
    listed = [
        near,
        at("evil.test", near),
        "http://169.254.169.254/latest/x.mp4",
        "http://10.0.0.1/x.mp4",
    ]
    far = at("public.test", server.serve("/feed", feed(*listed)))
    said = bring(list_items([far]))
    assert all("leads to" in one for one in said), said
    for one, where in zip(said, ("machine", "machine", "link-local", "private"), strict=True):
        assert where in one
    assert server.requests_for("/near.mp4") == []
    here = server.serve("/own", feed(near))
    assert bring(list_items([here]))[0].endswith(".mp4"), "a list of this machine may name it"


@pytest.mark.usefixtures("strange_names")
def test_public_redirects_and_pages_reach_no_private_address(
    server: WebServer, clip: bytes
) -> None:
    near = server.serve("/near.mp4", Content(clip, "video/mp4"))
    page = f"<html><video src='{near}'></video></html>".encode()
    moved = at("public.test", server.serve("/moved.mp4", Content(status=302, location=near)))
    inside = at("public.test", server.serve("/page", Content(page, "text/html")))
    twice = server.serve("/twice.mp4", Content(status=301, location=moved))
    for far in (moved, inside, twice):
        with pytest.raises(SourceError, match="leads to"):
            download(far)
    assert server.requests_for("/near.mp4") == []
    own = server.serve("/own.mp4", Content(status=302, location=near))
    assert download(own).read_bytes() == clip


@pytest.mark.usefixtures("streams_left_open", "strange_names")
def test_public_stream_segments_reach_no_private_address(server: WebServer) -> None:
    near = server.serve("/near.ts", Content(b"G" + bytes(187), "video/mp2t"))
    pieces = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{near}\n#EXT-X-ENDLIST\n"
    url = server.serve("/film.m3u8", Content(pieces.encode(), "application/vnd.apple.mpegurl"))
    with pytest.raises(SourceError, match="leads to"):
        download(at("public.test", url))
    assert server.requests_for("/near.ts") == []


def test_redirect_to_another_scheme_is_not_connected(server: WebServer) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.0)
    port = listener.getsockname()[1]
    for scheme in ("ftp", "gopher", "smb"):
        moved = server.serve(
            f"/{scheme}.mp4", Content(status=302, location=f"{scheme}://127.0.0.1:{port}/x.mp4")
        )
        with pytest.raises(SourceError):
            download(moved)
    with listener, pytest.raises(BlockingIOError):
        listener.accept()


def test_login_is_sent_only_to_its_own_site(server: WebServer, clip: bytes) -> None:
    with WebServer() as other:
        target = other.serve("/x.mp4", Content(clip, "video/mp4"))
        moved = server.serve("/moved.mp4", Content(status=302, location=target))
        download(moved.replace("http://", "http://me:s3cret@"))
        assert other.all_headers("/x.mp4")
        for headers in other.all_headers("/x.mp4"):
            assert "Authorization" not in headers
            assert "s3cret" not in str(headers)
        assert server.last_headers("/moved.mp4")["Authorization"].startswith("Basic ")


def test_referer_has_no_credentials(server: WebServer, clip: bytes) -> None:
    with WebServer() as other:
        video = other.serve("/x.mp4", Content(clip, "video/mp4"))
        page = Content(f"<html><video src='{video}'></video></html>".encode(), "text/html")
        url = server.serve("/page?v=1&token=t0ken5678", page)
        download(url.replace("http://", "http://me:s3cret@"))
        assert other.all_headers("/x.mp4")
        for headers in other.all_headers("/x.mp4"):
            assert headers["Referer"] in (None, server.url("/page?v=1"))
            assert "s3cret" not in str(headers)
            assert "t0ken5678" not in str(headers)


def test_configuration_files_of_yt_dlp_are_ignored(
    server: WebServer, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "executed"
    for folder in (tmp_path / ".config" / "yt-dlp", tmp_path / "yt-dlp"):
        folder.mkdir(parents=True)
        (folder / "config").write_text(f"--exec 'touch {mark}'\n--enable-file-urls\n-o /x/%(id)s\n")
    (tmp_path / "yt-dlp.conf").write_text(f"--exec 'touch {mark}'\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
    assert download(url, replace(QUICK, cache_dir=tmp_path / "c")).is_relative_to(tmp_path / "c")
    assert not mark.exists()


def test_plugins_of_yt_dlp_are_ignored(
    server: WebServer, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yt_dlp.globals import all_plugins_loaded

    mark = tmp_path / "executed"
    homes = (tmp_path / "yt-dlp" / "plugins" / "x", tmp_path / "yt-dlp-plugins" / "x", tmp_path)
    for home in homes:
        folder = home / "yt_dlp_plugins" / "extractor"
        folder.mkdir(parents=True)
        (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(all_plugins_loaded, "value", False)
    url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
    download(url)
    lists.playlist_entries(server.serve("/f", feed(url)), QUICK, lambda _: None)
    assert not mark.exists()
    assert all_plugins_loaded.value is False, "who has plugins of his own still gets them"


def packed(content: bytes, *encodings: str) -> Content:
    for encoding in encodings:
        pack = zlib.compressobj(9, wbits={"gzip": 31, "deflate": 15, "raw": -15}[encoding])
        content = pack.compress(content) + pack.flush()
    named = ", ".join("deflate" if one == "raw" else one for one in encodings)
    return Content(content, "application/rss+xml", encoding=named)


@pytest.mark.parametrize("encodings", [("gzip",), ("deflate",), ("raw",), ("gzip", "gzip")])
def test_decompression_bomb_is_refused(
    encodings: tuple[str, ...], server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encodings_module, "MAX_PAGE", 10_000)
    video = server.url("/a.mp4")
    list_url = server.serve("/feed", packed(feed(video).body, *encodings))
    found = lists.playlist_entries(list_url, QUICK, lambda _: None)
    assert [one.address for one in found] == [video], "a list that is packed is read"
    bomb = feed(video).body + b" " * 1_000_000
    for status in (200, 404):
        content = replace(packed(bomb, *encodings), status=status)
        with pytest.raises(SourceError, match="not read"):
            lists.playlist_entries(server.serve("/b", content), QUICK, lambda _: None)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"x", "br"),
        (b"x", "gzip"),
        (b"x", "deflate"),
        (gzip.compress(b"x" * 99, mtime=0)[:20], "gzip"),
        (b"x", "gzip, gzip, gzip, gzip"),
    ],
)
def test_unrequested_content_encoding_is_refused(
    body: bytes, encoding: str, server: WebServer
) -> None:
    url = server.serve("/feed", Content(body, "application/rss+xml", encoding=encoding))
    with pytest.raises(SourceError, match="the server"):
        lists.playlist_entries(url, QUICK, lambda _: None)
    asked = server.last_headers("/feed")["Accept-Encoding"]
    assert set(asked.split(", ")) <= {"gzip", "deflate", "identity"}


def test_file_name_of_a_header_is_not_a_path(server: WebServer, clip: bytes) -> None:
    url = server.serve("/get?id=1", Content(clip, 'video/mp4; name="../../x.mp4"'))
    path = download(url)
    assert path.parent.parent.name == "downloads"
    with pytest.raises(SourceError, match="leads to"):
        check_named("http://127.0.0.1/x", "https://93.184.216.34/", Reach.PUBLIC)
