"""Local sources: paths, folders, source lists and names. No network is needed."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smolvideo.errors import SourceError
from smolvideo.source import (
    DownloadOptions,
    display_url,
    is_url,
    read_source_list,
    resolve_source,
    resolve_sources,
)

MP4 = b"\0\0\0\x1cftypisom" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(20)


def make(path: Path, content: bytes = MP4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(folder: Path, **options: bool) -> list[str]:
    return [source.name for source in resolve_source(str(folder), **options)]


def refused(source: object) -> SourceError:
    with pytest.raises(SourceError) as error:
        resolve_source(str(source))
    for text in (str(error.value), error.value.hint or ""):
        assert text.isprintable()
    return error.value


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Drop root for a while, because root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


class TestFiles:
    def test_video_file(self, tmp_path):
        path = make(tmp_path / "holiday.mp4")
        (source,) = resolve_source(str(path))
        assert (source.given, source.path) == (str(path), path)
        assert (source.kind, source.name, source.url) == ("video", "holiday.mp4", None)

    @pytest.mark.parametrize(
        ("name", "content", "kind"),
        [
            ("a.jpg", JPEG, "image"),
            ("a.JPG", b"\1\2\3\4", "image"),
            ("named wrongly.mp4", JPEG, "image"),
            ("named wrongly.jpg", MP4, "video"),
            ("without suffix", JPEG, "image"),
            ("raw.mjpeg", JPEG, "video"),
            ("a.webp", b"RIFF\x10\0\0\0WEBPVP8 ", "image"),
            ("a.avi", b"RIFF\x10\0\0\0AVI LIST", "video"),
            ("a.avif", b"\0\0\0\x1cftypavif", "image"),
            ("a.gif", b"GIF89a\0\0", "video"),  # may move
            ("odd.xyz", b"\1\2\3\4", "video"),
            ("drawn.ppm", b"P3\n1 1\n255\n0 0 0\n", "image"),
            ("named on purpose.mp4.part", MP4, "video"),
        ],
    )
    def test_content_decides_image_or_video(self, tmp_path, name, content, kind):
        (source,) = resolve_source(str(make(tmp_path / name, content)))
        assert source.kind == kind

    @pytest.mark.parametrize(
        "name",
        ["-v.mp4", "--help.mp4", "-", "a b.mp4", "$(touch x).mp4", "über 视频 🎬.mp4", "%s.mp4"],
    )
    def test_special_characters_in_names_have_no_meaning(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        make(Path(name))
        (source,) = resolve_source(name)
        assert source.path == Path(name)
        assert source.name == name
        assert os.listdir() == [name]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids such names")
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("two\nlines.mp4", "two lines.mp4"),
            ("\x1b[31mred\x1b[0m.mp4", "red.mp4"),
            ("\x1b]0;title\x07bell\x07.mp4", "bell.mp4"),
            ("\u202egpj.4pm", "gpj.4pm"),
            ("\x9b2Jgone.mp4", "gone.mp4"),
            ("tab\there\r.mp4", "tab here .mp4"),
        ],
    )
    def test_hostile_names_open_and_are_shown_escaped(self, tmp_path, name, shown):
        path = make(tmp_path / name)
        (source,) = resolve_source(str(path))
        assert source.path == path
        assert source.name == shown
        path.write_bytes(b"")
        assert "empty" in str(refused(path))

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names must be text")
    def test_name_that_is_not_utf8_opens(self, tmp_path):
        path = make(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")))
        (source,) = resolve_source(str(path))
        assert source.path == path
        assert source.name == "caf\N{REPLACEMENT CHARACTER}.mp4"
        assert source.name.encode()

    def test_symlinks_are_followed(self, tmp_path):
        target = make(tmp_path / "real.mp4")
        link = tmp_path / "link.mp4"
        link.symlink_to(target)
        (source,) = resolve_source(str(link))
        assert source.path == link
        target.unlink()
        error = refused(link)
        assert "no such file" in str(error)
        assert "real.mp4" in str(error.hint)
        target.symlink_to(link)
        assert "leads back to itself" in str(refused(link))

    def test_file_urls_are_paths(self, tmp_path):
        path = make(tmp_path / "a b#1 50%.mp4")
        (source,) = resolve_source(path.as_uri())
        assert source.path == path
        assert resolve_source(path.as_uri().replace("file://", "FILE://localhost"))[0].path == path
        assert "another machine" in str(refused("file://server/share/a.mp4"))

    def test_tilde_is_the_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        path = make(tmp_path / "a.mp4")
        assert resolve_source("~/a.mp4")[0].path == path
        assert "no such file" in str(refused("~no-such-user-here/a.mp4"))


class TestRefusedPaths:
    def test_missing_file_has_a_suggestion(self, tmp_path):
        make(tmp_path / "birthday-2024.mp4")
        make(tmp_path / "other.mkv")
        error = refused(tmp_path / "brithday-2024.mp4")
        assert "no such file or folder" in str(error)
        assert error.hint == f"did you mean `{tmp_path}/birthday-2024.mp4`?".replace("/", os.sep)
        assert "birthday" in str(refused(tmp_path / "BIRTHDAY-2024.MP4").hint)
        assert refused(tmp_path / "zzz").hint is None

    def test_missing_folder_has_a_suggestion(self, tmp_path):
        make(tmp_path / "videos" / "a.mp4")
        assert str(tmp_path / "videos") in str(refused(tmp_path / "vidoes" / "deep" / "a.mp4").hint)

    def test_suggestion_among_names_that_look_equal(self, tmp_path):
        make(tmp_path / "\u1e9b\u0323.mp4")
        make(tmp_path / "\u017f\u0323\u0307.mp4")
        if len(list(tmp_path.iterdir())) < 2:
            pytest.skip("this file system does not tell the forms apart")
        assert "did you mean" in str(refused(tmp_path / "\u017f\u0307\u0323.mp4").hint)

    def test_address_without_scheme_has_a_hint(self):
        assert "https://www.youtube.com" in str(refused("www.youtube.com/watch?v=abc").hint)
        assert "https://youtu.be/abc" in str(refused("youtu.be/abc").hint)

    @pytest.mark.parametrize("scheme", ["ftp", "rtsp", "s3", "ytsearch"])
    def test_other_schemes_are_refused(self, scheme):
        assert f"`{scheme}://` addresses are not supported" in str(
            refused(f"{scheme}://host/a.mp4")
        )

    @pytest.mark.parametrize("text", ["", "  ", "\n"])
    def test_empty_source_is_refused(self, text):
        assert "empty" in str(refused(text))

    @pytest.mark.parametrize("text", ["a\0b.mp4", "x" * 5000, "a/" * 3000])
    def test_impossible_path_is_a_missing_file(self, text):
        assert "no such file" in str(refused(text))

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"a.mp4\nb.mp4\n", "is a text, not a video"),
            ("käse ".encode() * 1000, "is a text"),
            (b"<!DOCTYPE html>\n<p>Log in", "is a web page"),
            (b"%PDF-1.7\n\xe2\xe3", "is a PDF document"),
            (b"PK\x03\x04\0\0", "is an archive"),
        ],
    )
    def test_non_media_files_are_refused(self, tmp_path, content, says):
        error = refused(make(tmp_path / "a.mp4", content))
        assert says in str(error)
        assert ("download" in str(error.hint)) == ("text" in says)

    def test_list_of_sources_is_named_as_one_unless_it_has_the_suffix_of_a_video(self, tmp_path):
        assert "--list FILE" in str(refused(make(tmp_path / "a.txt", b"a.mp4\nb.mp4\n")).hint)
        assert "--list" not in str(refused(make(tmp_path / "a.mkv", b"a.mp4\nb.mp4\n")).hint)

    def test_empty_file_is_refused(self, tmp_path):
        error = refused(make(tmp_path / "a.mp4", b""))
        assert "is empty (0 bytes)" in str(error)
        assert error.hint

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
    def test_pipes_and_devices_do_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.mp4")
        assert "pipe" in str(refused(tmp_path / "pipe.mp4"))
        assert "device" in str(refused("/dev/zero"))
        assert "no videos" in str(refused(tmp_path))

    @pytest.mark.parametrize("closed", ["file", "folder"])
    @pytest.mark.skipif(sys.platform == "win32", reason="permissions are other things there")
    def test_unreadable_file_is_refused(self, tmp_path, closed):
        path = make(tmp_path / "shut" / "a.mp4")
        shut = path if closed == "file" else path.parent
        shut.chmod(0)
        with as_ordinary_user():
            errors = [refused(path), refused(shut)]
        shut.chmod(0o755)
        for error in errors:
            assert "no permission to read" in str(error)
            assert error.hint


class TestFolders:
    def test_folder_lists_videos_in_natural_order_without_hidden_or_partial_files(self, tmp_path):
        for name in ("clip10.mp4", "clip2.mp4", "Clip1.MKV", "cover.jpg", "notes.txt", "empty.mov"):
            make(tmp_path / name, b"" if name.startswith("empty") else MP4)
        for name in (".hidden.mp4", "._clip2.mp4", "new.mp4.part", "new.f137.mp4.part-Frag12",
                     "x.mp4.ytdl", "y.mp4.crdownload", "z.tmp", "w.mp4.download"):  # fmt: skip
            make(tmp_path / name)
        (tmp_path / "folder.mp4").mkdir()
        (tmp_path / "lost.mp4").symlink_to(tmp_path / "nowhere")
        make(tmp_path / "deeper" / "b.mp4")
        expected = ["Clip1.MKV", "clip2.mp4", "clip10.mp4", "empty.mov"]
        assert names(tmp_path) == expected
        sources = resolve_source(str(tmp_path))
        assert {source.kind for source in sources} == {"video"}
        assert {source.given for source in sources} == {str(tmp_path)}
        assert sorted(names(tmp_path, recursive=True)) == sorted([*expected, "b.mp4"])

    def test_symlink_cycles_are_not_walked(self, tmp_path):
        make(tmp_path / "deep" / "a.mp4")
        (tmp_path / "deep" / "up").symlink_to(tmp_path)
        assert names(tmp_path, recursive=True) == ["a.mp4"]

    def test_folder_of_images_is_one_source(self, tmp_path):
        folder = tmp_path / "frames of a dog"
        for n in range(3):
            make(folder / f"{n}.png")
        make(folder / ".DS_Store")
        (source,) = resolve_source(str(folder))
        assert (source.kind, source.path) == ("frames", folder)
        assert source.name == "frames of a dog"

    def test_the_current_folder_has_its_name(self, tmp_path, monkeypatch):
        make(tmp_path / "shots" / "1.jpg")
        monkeypatch.chdir(tmp_path / "shots")
        assert names(Path()) == ["shots"]

    def test_folder_without_media_is_refused(self, tmp_path):
        assert "no videos or pictures in the folder" in str(refused(tmp_path))
        make(tmp_path / "a.mp4.part")
        assert "unfinished" in str(refused(tmp_path).hint)
        make(tmp_path / "season 1" / "a.mp4")
        assert str(tmp_path / "season 1") in str(refused(tmp_path).hint)

    def test_several_sources_keep_their_order(self, tmp_path):
        folder = make(tmp_path / "videos" / "1.mp4").parent
        make(folder / "2.mp4")
        picture = make(tmp_path / "0.png", JPEG)
        found = resolve_sources([str(folder), str(picture), str(folder / "1.mp4")])
        assert [source.name for source in found] == ["1.mp4", "2.mp4", "0.png", "1.mp4"]
        assert [source.kind for source in found] == ["video", "video", "image", "video"]


class TestLists:
    def test_each_line_is_a_source(self, tmp_path):
        listing = tmp_path / "list.txt"
        listing.write_bytes(
            "\ufeff# holiday\r\na b.mp4\r\n\r\n  https://e.org/x#1  \n; no\n-v.mp4".encode()
        )
        found = [str(one) for one in read_source_list(listing)]
        assert found == ["a b.mp4", "https://e.org/x#1", "-v.mp4"]

    def test_paths_are_relative_to_the_list(self, tmp_path, monkeypatch):
        beside = make(tmp_path / "lists" / "beside.mp4")
        own = make(tmp_path / "lists" / "here.mp4")
        make(tmp_path / "here.mp4")
        listing = make(tmp_path / "lists" / "l.txt", b"beside.mp4\nhere.mp4\nnowhere.mp4\n")
        monkeypatch.chdir(tmp_path)
        found = [str(one) for one in read_source_list(listing)]
        assert found == [str(beside), str(own), "nowhere.mp4"], "what it may name comes first"
        found = [str(one) for one in read_source_list(listing, allow_outside=True)]
        assert found == [str(beside), "here.mp4", "nowhere.mp4"]

    def test_list_from_standard_input(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.mp4\n#\nb.mp4\n")))
        assert read_source_list(Path("-")) == ["a.mp4", "b.mp4"]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "names no source"),
            (b"# only this\n", "names no source"),
            (b"\xff\xfe\x00\x80\x00", "is not a list of sources"),  # half a code unit of UTF-16
            (b"\x80\x81", "is not a list of sources"),
            (b"x" * (2**24 + 1), "too large"),
        ],
    )
    def test_invalid_list_is_an_error(self, tmp_path, content, says):
        with pytest.raises(SourceError, match=says):
            read_source_list(make(tmp_path / "list.txt", content))

    def test_missing_list_is_an_error(self, tmp_path):
        make(tmp_path / "list.txt")
        with pytest.raises(SourceError, match="no such file") as error:
            read_source_list(tmp_path / "lst.txt")
        assert "list.txt" in str(error.value.hint)
        with pytest.raises(SourceError, match="is a folder"):
            read_source_list(tmp_path)


class TestNames:
    def test_secrets_of_addresses_are_not_shown(self):
        assert display_url("https://me:secret@e.org/a`b\n.mp4") == "`https://e.org/a'b.mp4`"

    def test_is_url(self):
        assert is_url(" HTTPS://e.org/a.mp4")
        assert not is_url("file:///a.mp4")
        assert not is_url("a.mp4")

    def test_options_import_no_heavy_module(self):
        # The command line reads its defaults from this module before it loads anything heavy.
        import subprocess

        heavy = "{'yt_dlp', 'numpy', 'av'} & set(sys.modules)"
        code = f"import sys, smolvideo.source; print({heavy})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout.strip() == b"set()"
        assert DownloadOptions().max_height == 720
