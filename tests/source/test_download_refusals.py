"""Failed downloads: each ends in one line and a hint."""

from dataclasses import replace

import pytest
from support import downloading
from support.downloading import IMPATIENT, QUICK, download, partial_files
from support.webserver import Content

from smolvideo.errors import SourceError, UsageError
from smolvideo.progress import Progress
from smolvideo.source import find_cached
from smolvideo.source.download_cache import download_folder
from smolvideo.source.ytdlp import to_source_error

# Fixtures are found by their name in this module.
clip = downloading.clip
server = downloading.server
streams_left_open = downloading.streams_left_open


class TestRefusals:
    def test_http_404(self, server):
        with pytest.raises(SourceError, match=r"nothing at `.*/none\.mp4` \(404\)"):
            download(server.url("/none.mp4"))

    @pytest.mark.parametrize(
        ("status", "says"),
        [(401, "needs a login"), (403, "refuses"), (410, "no longer there"), (429, "too many"),
         (451, "country"), (503, "fault of its own")],
    )  # fmt: skip
    def test_other_http_errors(self, server, status, says):
        url = server.serve("/x.mp4", Content(b"no", "text/plain", status))
        with pytest.raises(SourceError, match=says) as error:
            download(url)
        assert error.value.hint
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("notes.txt", Content(b"Dear diary,\n" * 50, "text/plain"), "is a text, not a video"),
            ("clip.mp4", Content(b"Dear diary,\n" * 50, "video/mp4"), "is a text, not a video"),
            ("page.mp4", Content(b"<html><p>Log in</p>", "video/mp4"), "is a web page"),
            ("paper.mp4", Content(b"%PDF-1.7\n\xe2\xe3\xcf\xd3" + bytes(99)), "a PDF"),
            ("all.zip", Content(b"PK\x03\x04" + bytes(999), "application/zip"), "an archive"),
            ("page", Content(b"<html><body>Hello</body></html>", "text/html"), "no video found"),
        ],
    )
    def test_content_that_is_not_video_is_refused(self, server, name, content, says):
        url = server.serve(f"/{name}", content)
        with pytest.raises(SourceError, match=says):
            download(url)
        assert find_cached(url) is None
        assert not list(download_folder(url).glob("video.*"))

    def test_long_text_is_aborted_early(self, server):
        text = b"never ending story\n" * 2_000_000
        url = server.serve("/story", Content(text, "application/octet-stream"))
        steps: list[Progress] = []
        with pytest.raises(SourceError, match="is a text"):
            download(url, on_progress=steps.append)
        assert max(step.done for step in steps) < len(text) / 4
        assert partial_files(url) == []

    def test_audio_only_file_is_refused(self, server):
        url = server.serve("/song.mp3", Content(b"ID3" + bytes(999), "audio/mpeg"))
        with pytest.raises(SourceError, match="sound only"):
            download(url)

    def test_empty_file_is_refused(self, server):
        url = server.serve("/clip.mp4", Content(b"", "video/mp4"))
        with pytest.raises(SourceError, match=r"`.*/clip\.mp4` broke off"):
            download(url)

    @pytest.mark.parametrize("length", [True, False])
    def test_file_above_the_size_limit_is_refused(self, server, clip, length):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4", length=length))
        steps: list[Progress] = []
        with pytest.raises(SourceError, match="larger than the limit of 20,000 bytes") as error:
            download(url, replace(QUICK, max_filesize=20_000), on_progress=steps.append)
        assert "--max-filesize" in str(error.value.hint)
        assert max(step.done for step in steps) <= (0 if length else 20_000)
        assert partial_files(url) == []
        assert download(url, replace(QUICK, max_filesize=len(clip))).read_bytes() == clip

    def test_server_that_stalls_is_a_timeout(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4", stall_after=30_000))
        with pytest.raises(SourceError, match="silent for 2 seconds") as error:
            download(url, IMPATIENT)
        assert "run the same command again" in str(error.value.hint)
        (part,) = partial_files(url)
        assert 0 < part.stat().st_size <= 30_000

    def test_server_that_never_answers_is_a_timeout(self, server):
        url = server.serve("/page", Content(b"<html>" * 100, "text/html", stall_after=0))
        with pytest.raises(SourceError, match="silent for"):
            download(url, IMPATIENT)

    def test_refused_connection_is_an_error(self, server):
        with pytest.raises(SourceError, match="nothing answers"):
            download("http://127.0.0.1:1/clip.mp4")

    @pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/clip.mp4"])
    def test_redirects_to_other_schemes_are_not_followed(self, server, target):
        moved = server.serve("/moved.mp4", Content(status=302, location=target))
        page = f"<html><body><video src='{target}'></video></body></html>".encode()
        inside = server.serve("/inside", Content(page, "text/html"))
        away = r"leads (out of the web, to|to an address that cannot be followed)"
        for url, told in ((moved, away), (inside, "offers no video that can be fetched")):
            with pytest.raises(SourceError, match=told):
                download(url)
            assert find_cached(url) is None

    @pytest.mark.usefixtures("streams_left_open")
    def test_local_stream_segments_are_not_read(self, server, tmp_path):
        secret = tmp_path / "secret.ts"
        secret.write_bytes(b"G" + bytes(187))
        manifest = (
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret.as_uri()}\n#EXT-X-ENDLIST\n"
        )
        url = server.serve("/f.m3u8", Content(manifest.encode(), "application/vnd.apple.mpegurl"))
        with pytest.raises(SourceError, match="out of the web"):
            download(url)

    @pytest.mark.parametrize("url", ["http://", "https:///clip.mp4", "http://[::1/clip.mp4"])
    def test_invalid_address_is_an_error(self, url):
        with pytest.raises(SourceError, match="not a valid address"):
            download(url)

    def test_missing_or_invalid_cookies_are_an_error(self, server, clip, tmp_path):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        with pytest.raises(SourceError, match="no such file"):
            download(url, replace(QUICK, cookies=tmp_path / "cookies.txt"))
        broken = tmp_path / "broken.txt"
        broken.write_text("not at all a jar of cookies")
        with pytest.raises(SourceError, match="no cookies in"):
            download(url, replace(QUICK, cookies=broken))
        with pytest.raises(UsageError, match="netscape"):
            download(url, replace(QUICK, cookies_from_browser="netscape"))

    def test_cookies_of_a_missing_browser_are_an_error(self, server, clip, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        with pytest.raises(SourceError, match=r"cookies for .* cannot be read"):
            download(url, replace(QUICK, cookies_from_browser="firefox"))


@pytest.mark.parametrize(
    ("message", "says", "hint"),
    [
        ("[youtube] abc: Sign in to confirm you're not a bot.", "a person", "firefox"),
        ("[youtube] abc: Private video. Sign in if you've been granted", "private", "--cookies"),
        ("[youtube] abc: Sign in to confirm your age.", "adults", "firefox"),
        ("[youtube] abc: Join this channel for members-only content", "login", "firefox"),
        ("[vimeo] 1: The video is not available in your country", "this country", "PROXY"),
        ("[x] 1: This video is DRM protected", "DRM", None),
        ("[youtube] abc: Video unavailable. It has been removed", "no longer", "check"),
        ("[youtube] abc: Premieres in 3 hours", "not begun", None),
        ("[x] 1: Unable to download webpage: <urlopen error [Errno -2] Name or service not known>"
         " (caused by TransportError('x'))", "no such host, or no network", "check"),
        ("unable to write data: [Errno 28] No space left on device", "disk is full", "make room"),
        ("[x] 1: a wholly new complaint; please report this issue on  https://github.com/x",
         "cannot download `https://e.org/private.mp4`: a wholly new complaint", "upgrade yt-dlp"),
        ("ERROR: [generic] private.mp4: \x1b[31mHTTP Error 404\x1b[0m: Not Found", "404", "check"),
    ],
)  # fmt: skip
def test_messages_of_yt_dlp_are_classified(message: str, says: str, hint: str | None) -> None:
    # The word `private` in the address must not decide the class.
    error = to_source_error("https://e.org/private.mp4", message, timeout_seconds=20)
    assert says in str(error)
    assert (hint in str(error.hint)) if hint else error.hint is None
    assert "\x1b" not in str(error)
