"""Downloads: yt-dlp against a server on loopback."""

import io
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import av
import pytest
from support import downloading
from support.downloading import QUICK, download, partial_files
from support.webserver import Content

from smolvideo.errors import SourceError
from smolvideo.progress import Progress
from smolvideo.source import (
    cache_dir,
    cached_downloads,
    clear_downloads,
    find_cached,
    resolve_source,
)
from smolvideo.source.download_cache import CachedDownload, download_folder, lock_download_folder

# Fixtures are found by their name in this module.
clip = downloading.clip
server = downloading.server
streams_left_open = downloading.streams_left_open


class TestFetching:
    def test_video_is_downloaded_with_progress_and_no_output(self, server, clip, capfd):
        url = server.serve("/some%20clip.mp4", Content(clip, "video/mp4"))
        steps: list[Progress] = []
        (source,) = resolve_source(url, download=QUICK, on_progress=steps.append)
        assert source.path.read_bytes() == clip
        assert (source.kind, source.url, source.given) == ("video", url, url)
        assert source.name == "some clip"
        assert {step.stage for step in steps} == {"download"}
        assert steps[0].done == 0
        assert (steps[-1].done, steps[-1].total) == (len(clip), len(clip))
        assert [step.done for step in steps] == sorted(step.done for step in steps)
        assert capfd.readouterr() == ("", "")

    def test_download_without_content_type_or_length(self, server, clip):
        url = server.serve("/download?id=7", Content(clip, length=False, ranges=False))
        assert download(url).read_bytes() == clip

    def test_page_with_one_video_is_followed(self, server, clip):
        server.serve("/film.mp4", Content(clip, "video/mp4"))
        page = b"<!doctype html><html><body><video src='/film.mp4'></video></body></html>"
        url = server.serve("/watch", Content(page, "text/html"))
        assert download(url).read_bytes() == clip

    def test_page_with_two_videos_is_refused(self, server, clip):
        page = b"<html><body><video src='/a.mp4'></video><video src='/b.mp4'></video></body></html>"
        for path in ("/a.mp4", "/b.mp4"):
            server.serve(path, Content(clip, "video/mp4"))
        url = server.serve("/list", Content(page, "text/html"))
        with pytest.raises(SourceError, match="is a list of videos"):
            download(url)
        assert server.requests_for("/a.mp4") == []

    def test_hls_segments_are_joined_without_ffmpeg(self, server, clip):
        # MPEG-TS can be cut between any two packets of 188 bytes.
        packets = io.BytesIO()
        with av.open(io.BytesIO(clip)) as source, av.open(packets, "w", format="mpegts") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        whole = packets.getvalue()
        half = len(whole) // 376 * 188
        server.serve("/0.ts", Content(whole[:half], "video/mp2t"))
        server.serve("/1.ts", Content(whole[half:], "video/mp2t"))
        manifest = (
            b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-PLAYLIST-TYPE:VOD\n"
            b"#EXTINF:0.6,\n0.ts\n#EXTINF:0.6,\n1.ts\n#EXT-X-ENDLIST\n"
        )
        url = server.serve("/film.m3u8", Content(manifest, "application/vnd.apple.mpegurl"))
        assert download(url).read_bytes() == whole

    def test_largest_format_within_the_limit_is_chosen(self, server, clip):
        master = "#EXTM3U\n"
        for width, height in ((640, 360), (720, 1280), (1920, 1080)):  # one of them is upright
            side = min(width, height)
            master += (
                f"#EXT-X-STREAM-INF:BANDWIDTH={side}000,RESOLUTION={width}x{height}\n{side}.m3u8\n"
            )
            pieces = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{side}.ts\n#EXT-X-ENDLIST\n"
            server.serve(f"/{side}.m3u8", Content(pieces.encode(), "application/x-mpegurl"))
            server.serve(
                f"/{side}.ts", Content(b"G" + bytes([side % 251]) + bytes(186), "video/mp2t")
            )
        url = server.serve("/film.m3u8", Content(master.encode(), "application/x-mpegurl"))
        chosen = {}
        for limit in (720, 719, 144, None):
            content = download(url, replace(QUICK, max_height=limit)).read_bytes()
            chosen[limit] = next(side for side in (360, 720, 1080) if content[1] == side % 251)
        assert chosen == {720: 720, 719: 360, 144: 360, None: 1080}
        entry = find_cached(url)
        assert entry is not None
        assert (entry.height, entry.max_height) == (1080, None)

    def test_live_stream_is_refused(self, server):
        pieces = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:1,\n7.ts\n"
        url = server.serve("/live.m3u8", Content(pieces, "application/x-mpegurl"))
        with pytest.raises(SourceError, match="live stream"):
            download(url)

    @pytest.mark.usefixtures("streams_left_open")
    def test_missing_segment_is_an_error(self, server, clip):
        server.serve("/0.ts", Content(b"G" + bytes(187), "video/mp2t"))
        manifest = (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n0.ts\n#EXTINF:1,\nlost.ts\n"
            b"#EXT-X-ENDLIST\n"
        )
        url = server.serve("/holes.m3u8", Content(manifest, "application/vnd.apple.mpegurl"))
        with pytest.raises(SourceError, match="404"):
            download(url)
        assert find_cached(url) is None

    def test_cookies_are_sent_and_their_file_is_not_rewritten(self, server, clip, tmp_path):
        cookies = tmp_path / "cookies.txt"
        text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc\n"
        cookies.write_text(text)
        cookies.chmod(0o444)
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        download(url, replace(QUICK, cookies=cookies))
        assert cookies.read_text() == text
        assert server.last_headers("/clip.mp4")["Cookie"] == "session=abc"


class TestCache:
    def test_second_download_requests_nothing(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        first = download(url)
        server.forget_requests()
        steps: list[Progress] = []
        assert download(url, on_progress=steps.append) == first
        assert download(url.replace("http:", "HTTP:")) == first
        assert server.requests_for("/clip.mp4") == []
        assert steps == []

    def test_offline_uses_only_the_cache(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        offline = replace(QUICK, offline=True)
        with pytest.raises(SourceError, match="not in the download cache") as error:
            download(url, offline)
        assert "--offline" in str(error.value.hint)
        assert server.requests_for("/clip.mp4") == []
        path = download(url)
        assert download(url, offline) == path

    def test_other_addresses_have_other_entries(self, server, clip):
        one = server.serve("/clip.mp4?v=1", Content(clip, "video/mp4"))
        two = server.serve("/clip.mp4?v=2", Content(clip + b"\0" * 8, "video/mp4"))
        assert download(one).read_bytes() == clip
        assert download(two).read_bytes() == clip + b"\0" * 8

    @pytest.mark.parametrize("damage", ["deleted", "truncated", "index"])
    def test_damaged_entry_is_downloaded_again(self, server, clip, damage):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        path = download(url)
        if damage == "deleted":
            path.unlink()
        elif damage == "truncated":
            path.write_bytes(clip[:500])
        else:
            (path.parent / "entry.json").write_text('{"url": ')
        assert find_cached(url) is None
        assert cached_downloads() == []
        assert download(url).read_bytes() == clip
        assert find_cached(url) is not None

    def test_finished_file_without_entry_is_reused(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        (download(url).parent / "entry.json").unlink()
        server.forget_requests()
        assert download(url).read_bytes() == clip
        assert len(server.requests_for("/clip.mp4")) == 1  # the headers only, not the body

    def test_index_has_no_passwords(self, server, clip):
        plain = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        url = plain.replace("http://", "http://me:secret@")
        path = download(url)
        (entry,) = cached_downloads()
        assert (entry.url, entry.path, entry.title, entry.size) == (plain, path, "clip", len(clip))
        assert entry.time == pytest.approx(path.stat().st_mtime, abs=60)
        assert "secret" not in (path.parent / "entry.json").read_text()

    def test_clearing_deletes_all_but_running_downloads(self, server, clip):
        done = server.serve("/done.mp4", Content(clip, "video/mp4"))
        broken = server.serve("/broken.mp4", Content(clip, "video/mp4", break_after=1000))
        download(done)
        with pytest.raises(SourceError):
            download(broken)
        running = download_folder("http://127.0.0.1/running.mp4")
        with lock_download_folder(running, lambda: None):
            (running / "video.mp4.part").write_bytes(b"12345")
            freed = clear_downloads()
            assert (running / "video.mp4.part").exists()
        assert freed >= len(clip) + 1000
        assert cached_downloads() == []
        assert partial_files(broken) == []

    def test_two_processes_download_once(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        code = (
            "import sys; from smolvideo.source import resolve_source;"
            "print(resolve_source(sys.argv[1])[0].path)"
        )
        both = [
            subprocess.Popen(
                [sys.executable, "-c", code, url], stdout=subprocess.PIPE, env=os.environ, text=True
            )
            for _ in range(2)
        ]
        paths = {process.communicate(timeout=600)[0] for process in both}
        assert [process.returncode for process in both] == [0, 0]
        assert len(paths) == 1
        assert Path(paths.pop().strip()).read_bytes() == clip
        # One process requests headers and body; the other requests nothing.
        assert len(server.requests_for("/clip.mp4")) == 2

    def test_waiting_process_reports_it_and_uses_the_file(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        waiting = threading.Event()
        found: list[Path] = []
        with lock_download_folder(download_folder(url), lambda: None):
            thread = threading.Thread(
                target=lambda: found.append(download(url, on_progress=lambda _: waiting.set()))
            )
            thread.start()
            assert waiting.wait(timeout=300)
            assert server.requests_for("/clip.mp4") == []
        thread.join(timeout=300)
        assert found[0].read_bytes() == clip

    def test_unwritable_cache_is_an_error(self, server, clip, tmp_path):
        (tmp_path / "file").write_text("in the way")
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        with pytest.raises(SourceError, match="cannot keep downloads in") as error:
            download(url, replace(QUICK, cache_dir=tmp_path / "file"))
        assert "SMOLVIDEO_CACHE_DIR" in str(error.value.hint)

    def test_cache_folder_with_special_characters(self, server, clip, tmp_path):
        folder = tmp_path / "100 % $HOME %(id)s ~ é"
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
        path = download(url, replace(QUICK, cache_dir=folder))
        assert path.is_relative_to(folder)
        assert path.read_bytes() == clip

    def test_cache_folder_follows_the_environment(self, monkeypatch, tmp_path):
        assert cache_dir() == Path(os.environ["SMOLVIDEO_CACHE_DIR"])
        monkeypatch.delenv("SMOLVIDEO_CACHE_DIR")
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_dir() == tmp_path / "smolvideo"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert cache_dir() == Path.home() / ".cache" / "smolvideo"

    @pytest.mark.parametrize(
        ("height", "chosen_for", "asked", "serves", "serves_offline"),
        [
            (None, 720, 144, True, True),  # a direct file has no other format
            (480, 720, 720, True, True),
            (480, 720, 480, True, True),  # the best up to 720 is the best up to 480
            (480, 720, 360, False, False),  # too large
            (480, 480, 720, False, True),  # a better format may exist
            (1080, 720, 720, True, True),  # there was no smaller format
            (480, 720, None, False, True),
            (480, None, 720, True, True),
        ],
    )
    def test_cached_download_satisfies_a_height_limit(
        self, height, chosen_for, asked, serves, serves_offline
    ):
        entry = CachedDownload("u", Path("f"), "t", 1, 0.0, height, chosen_for)
        assert entry.satisfies(asked) is serves
        assert entry.satisfies(asked, offline=True) is serves_offline


class TestResuming:
    def test_broken_download_is_resumed(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4", break_after=50_000))
        with pytest.raises(SourceError, match="broke off") as error:
            download(url)
        assert "run the same command again" in str(error.value.hint)
        assert [part.stat().st_size for part in partial_files(url)] == [50_000]
        server.serve("/clip.mp4", Content(clip, "video/mp4"))
        server.forget_requests()
        steps: list[Progress] = []
        assert download(url, on_progress=steps.append).read_bytes() == clip
        assert "bytes=50000-" in server.requests_for("/clip.mp4")
        assert steps[1].done >= 50_000
        assert partial_files(url) == []

    def test_server_without_ranges_sends_all_again(self, server, clip):
        content = Content(clip, "video/mp4", ranges=False)
        url = server.serve("/clip.mp4", replace(content, break_after=50_000))
        with pytest.raises(SourceError):
            download(url)
        server.serve("/clip.mp4", content)
        assert download(url).read_bytes() == clip

    def test_changed_remote_file_is_not_appended(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4", break_after=50_000))
        with pytest.raises(SourceError):
            download(url)
        other = bytes(reversed(clip)) + clip
        server.serve("/clip.mp4", Content(clip[:32] + other, "video/mp4"))
        assert download(url).read_bytes() == clip[:32] + other

    def test_broken_download_is_retried_within_a_run(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4", break_after=120_000))
        assert download(url, replace(QUICK, retries=2)).read_bytes() == clip
        assert "bytes=120000-" in server.requests_for("/clip.mp4")

    def test_ctrl_c_keeps_the_partial_download(self, server, clip):
        url = server.serve("/clip.mp4", Content(clip, "video/mp4"))

        def interrupt(step: Progress) -> None:
            if step.done > 30_000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            download(url, on_progress=interrupt)
        (part,) = partial_files(url)
        kept = part.stat().st_size
        assert 30_000 < kept < len(clip)
        server.forget_requests()
        assert download(url).read_bytes() == clip
        assert f"bytes={kept}-" in server.requests_for("/clip.mp4")
