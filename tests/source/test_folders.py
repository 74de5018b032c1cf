"""Folders as sources: listed files, skipped files with a notice, unreadable and very deep
folders.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from support import clipmaker

from smolvideo.cli.main import cli
from smolvideo.errors import ReaderError, SourceError
from smolvideo.evals.video_folder import VideoFolder
from smolvideo.files import make_folders, walk
from smolvideo.media_types import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from smolvideo.readers import images, open_video
from smolvideo.source import local, resolve_source
from smolvideo.summaries.worklist import list_items

NOT_FRAMES = {
    *(".blp", ".bufr", ".bw", ".cur", ".dcx", ".emf", ".eps", ".fit", ".flc", ".fli", ".ftc"),
    *(
        ".ftu",
        ".gbr",
        ".gif",
        ".grib",
        ".h5",
        ".hdf",
        ".icns",
        ".ico",
        ".iim",
        ".im",
        ".mpeg",
        ".mpg",
    ),
    *(".pcd", ".ps", ".pxr", ".rgb", ".rgba", ".wmf"),
}
"""Suffixes that Pillow reads but that are not frames: icons, textures, raw data, videos, and
formats passed to other programs."""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clipmaker.write_clip(
        tmp_path_factory.mktemp("video") / "a.mp4", clipmaker.evenly(10, 10)
    ).path


def test_image_suffixes_are_those_that_pillow_reads() -> None:
    Image.init()
    read = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    assert read | {".heic", ".heif"} == IMAGE_SUFFIXES | NOT_FRAMES
    assert not IMAGE_SUFFIXES & NOT_FRAMES
    formats = {Image.registered_extensions()[suffix] for suffix in IMAGE_SUFFIXES & read}
    allowed = {*images._COMMON_FORMATS, *images._OTHER_FORMATS}
    assert formats <= allowed
    assert not allowed & {"EPS", "WMF", "HDF5", "GRIB", "BUFR", "MPEG", "FPX"}
    assert not (IMAGE_SUFFIXES & VIDEO_SUFFIXES)


WRITTEN = [
    "jfif", "tga", "jp2", "j2k", "pcx", "dib", "sgi", "qoi", "pbm", "pnm", "tif", "avif",
    "webp", "apng", "dds", "bmp", "jpe", "msp", "xbm", "vda",
]  # fmt: skip


@pytest.mark.parametrize("suffix", WRITTEN)
def test_folder_of_frames_in_any_format(suffix: str, tmp_path: Path) -> None:
    for number in (2, 10, 1):
        image = Image.new("L", (64, 48), 255 * (number % 2))
        mode = "1" if suffix in ("msp", "xbm", "pbm") else "RGB"
        kind = {"jfif": "JPEG", "jpe": "JPEG", "apng": "PNG", "vda": "TGA"}.get(suffix)
        image.convert(mode).save(tmp_path / f"f{number}.{suffix}", kind)
    (source,) = resolve_source(str(tmp_path))
    assert (source.kind, source.notices) == ("frames", ())
    with open_video(source.path, kind=source.kind) as reader:
        assert reader.metadata.num_frames == 3
        levels = [int(frame.image.mean()) > 127 for frame in reader.frames_at([0, 1, 2])]
    # X bitmaps store black as 1.
    assert levels in ([True, False, False], [False, True, True])


def test_frame_formats_may_be_mixed(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "f0.png")
    Image.new("RGB", (64, 64), "green").save(tmp_path / "f1.jfif", "JPEG")
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "f2.tga")
    with open_video(tmp_path, kind="frames") as reader:
        colours = [frame.image[9, 9].argmax() for frame in reader.frames_at([0, 1, 2])]
    assert colours == [0, 1, 2]


def test_images_run_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would pass PostScript to Ghostscript, under any suffix."""
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, "EPS")
    data = path.read_bytes()
    header = b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    path.write_bytes(header + bytes(20) + data)
    with Image.open(path) as picture:
        assert picture.format == "EPS"
    monkeypatch.setattr("subprocess.check_call", None)
    with pytest.raises(ReaderError, match="not a picture that can be read"):
        images.ImageReader(path)


def test_skipped_files_that_may_be_videos_are_counted(tmp_path: Path, video: Path) -> None:
    for name in ("a.mp4", "b.insv", "c.lrv", "d.mk3d", "e.LRV", "without", "old.mp4.bak"):
        shutil.copy(video, tmp_path / name)
    for name in ("a.srt", "notes.txt", "cover.jpg", "sound.m4a", ".hidden", "g.mp4.part"):
        (tmp_path / name).write_bytes(b"hello" * 100)
    shutil.copy(video, tmp_path / "sound.m4a")
    (source,) = resolve_source(str(tmp_path))
    (notice,) = source.notices
    assert notice.startswith(
        "6 files were passed over that may be videos (2 .lrv, 1 without suffix, 1 .bak, …)"
    )
    assert notice.endswith("a file that is named is used")
    for name in ("d.mk3d", "old.mp4.bak"):
        (tmp_path / name).unlink()
    (source,) = resolve_source(str(tmp_path))
    assert "(2 .lrv, 1 without suffix, 1 .insv)" in source.notices[0], "all three are named"
    (named,) = resolve_source(str(tmp_path / "b.insv"))
    assert (named.kind, named.notices) == ("video", ())
    with open_video(named.path) as reader:
        assert reader.metadata.num_frames == 10


def test_notice_of_a_single_skipped_file(tmp_path: Path, video: Path) -> None:
    shutil.copy(video, tmp_path / "a.mp4")
    shutil.copy(video, tmp_path / "b.insv")
    (source,) = resolve_source(str(tmp_path))
    assert source.notices == (
        "1 file was passed over that may be videos (1 .insv); a file that is named is used",
    )


def test_hint_names_skipped_files_of_a_folder_without_media(tmp_path: Path, video: Path) -> None:
    shutil.copy(video, tmp_path / "b.insv")
    with pytest.raises(SourceError, match="no videos or pictures") as caught:
        resolve_source(str(tmp_path))
    assert "1 .insv" in str(caught.value.hint)


@pytest.mark.parametrize("count", [3, 50])
def test_skipped_files_are_counted_by_suffix_and_few_are_opened(
    count: int, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(video, tmp_path / "a.mp4")
    for number in range(count):
        os.link(video, tmp_path / f"b{number}.lrv")
        (tmp_path / f"c{number}.dat").write_bytes(b"nothing")
    opened: list[Path] = []
    true = local._looks_like_video

    def looks_like_video(path: Path) -> bool:
        opened.append(path)
        return true(path)

    monkeypatch.setattr(local, "_looks_like_video", looks_like_video)
    (source,) = resolve_source(str(tmp_path))
    assert f"{count} .lrv" in source.notices[0]
    assert len(opened) <= 40


@pytest.fixture
def closed(tmp_path: Path, video: Path) -> Iterator[Path]:
    """Yield a folder with a video and a subfolder that only root may list."""
    shutil.copy(video, tmp_path / "a.mp4")
    locked = tmp_path / "lost+found"
    locked.mkdir()
    locked.chmod(0)
    yield tmp_path
    locked.chmod(0o700)


def deny(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make ``scandir`` fail as for a user who is not root."""
    true = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return true(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_unreadable_subfolder_is_a_notice(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "lost+found")
    (source,) = resolve_source(str(closed), recursive=True)
    assert source.path.name == "a.mp4"
    (notice,) = source.notices
    assert "lost+found` cannot be read and is left out: Permission denied" in notice
    (item,) = list_items([str(closed)])
    assert item.error is None
    assert item.source is not None
    assert item.source.notices == (notice,)
    assert resolve_source(str(closed))[0].notices == (), "it was not asked for"


def test_unreadable_folder_is_an_error(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, closed.name)
    with pytest.raises(SourceError, match="no permission"):
        resolve_source(str(closed), recursive=True)


@pytest.mark.skipif(sys.platform != "linux", reason="paths are shorter on other systems")
def test_very_deep_folder(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,300 levels exceed Python's recursion limit; deeper ones exceed the system's path length."""
    monkeypatch.chdir(tmp_path)
    here = os.getcwd()
    os.makedirs("deep", exist_ok=True)
    os.chdir("deep")
    for level in range(1300):
        if level == 900:
            shutil.copy(video, "b.mp4")
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)
    shutil.copy(video, "deep/a.mp4")
    sources = resolve_source("deep", recursive=True)
    assert [source.path.name for source in sources] == ["a.mp4", "b.mp4"]
    for words in (["frames", "deep"], ["frames", "deep/" + "d/" * 900 + "b.mp4"]):
        done = CliRunner().invoke(cli, [*words, "--max-frames", "2"])
        assert done.exit_code == 0, done.stderr
    os.system("rm -rf deep")


def test_grey_levels_of_frames_are_exact(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    image = np.repeat(ramp[None, :, None], 48, 0).repeat(3, 2)
    for suffix in ("tga", "pcx", "sgi", "qoi", "png"):
        Image.fromarray(image).save(tmp_path / f"{suffix}.{suffix}")
    with open_video(tmp_path, kind="frames") as reader:
        for frame in reader.frames_at([0, 1, 2, 3, 4]):
            assert (frame.image == image).all()


@pytest.mark.skipif(sys.platform != "linux", reason="paths are shorter on other systems")
def test_folders_are_created_and_listed_at_any_depth(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deep = Path("top", *["d"] * 1200)
    make_folders(deep)
    make_folders(deep)
    assert deep.is_dir()
    shutil.copy(video, deep / "b.mp4")
    assert VideoFolder(Path("top")).find(["b.mp4"]) == deep / "b.mp4"
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_folders(tmp_path / "file" / "below")
    for folder in [deep, *deep.parents][:-1]:  # pytest's own removal is recursive
        for file in folder.glob("*.mp4"):
            file.unlink()
        folder.rmdir()


def test_walk_equals_os_walk_and_follows_no_symlinks(tmp_path: Path) -> None:
    make_folders(tmp_path / "a" / "b")
    make_folders(tmp_path / "left_out")
    (tmp_path / "a" / "f.mp4").touch()
    (tmp_path / "left_out" / "g.mp4").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    found = []
    for folder, below, files in walk(tmp_path):
        below[:] = sorted(name for name in below if name != "left_out")
        found.append((folder, below, files))
    assert found == [
        (tmp_path, ["a"], []),
        (tmp_path / "a", ["b", "up"], ["f.mp4"]),
        (tmp_path / "a" / "b", [], []),
    ]
