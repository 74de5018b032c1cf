"""Source lists are confined to files below their own folder, in any spelling of a path."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from smolvideo.cli.main import cli
from smolvideo.errors import SourceError
from smolvideo.source import read_source_list, resolve_sources
from smolvideo.source.lists import is_on_another_drive
from smolvideo.summaries import list_items

VIDEO = b"\0\0\0\x18ftypisom"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return ``lists/`` with a video and a subfolder; files next to it must stay out of reach."""
    for name in ("lists/in.mp4", "lists/sub/deep.mp4", "secret.mp4", "lists-too/near.mp4"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(VIDEO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "lists"


def entry(folder: Path, line: str, *, allow_outside: bool = False) -> list[Path]:
    (folder / "list.txt").write_text(line + "\n", encoding="utf-8")
    named = read_source_list(folder / "list.txt", allow_outside=allow_outside)
    return [source.path.resolve() for source in resolve_sources(named)]


@pytest.mark.parametrize(
    "line",
    ["in.mp4", "sub/deep.mp4", "sub", "sub/../in.mp4", "./in.mp4", "{folder}/in.mp4",
     "file://{folder}/in.mp4", "../lists/in.mp4", "~/lists/in.mp4", "lists/in.mp4"],
)  # fmt: skip
def test_paths_below_the_list_are_allowed(folder: Path, line: str) -> None:
    (path,) = entry(folder, line.format(folder=folder))
    assert path.is_relative_to(folder.resolve())


OUTSIDE = [
    "../secret.mp4", "sub/../../secret.mp4", "secret.mp4", "{up}/secret.mp4", "..", ".././.",
    "file://{up}/secret.mp4", "FILE://{up}/secret.mp4", "file://localhost{up}/secret.mp4",
    "file://{up}/lists/%2e%2e/secret.mp4", "~/secret.mp4", "../lists-too/near.mp4",
    "link.mp4", "linked/secret.mp4", "linked", "holds-a-link", "/etc/passwd", "../none.mp4",
    "/proc/self/environ", "/dev/zero",
]  # fmt: skip


@pytest.mark.parametrize("line", OUTSIDE)
def test_paths_outside_the_list_folder_are_refused(folder: Path, line: str) -> None:
    up = folder.parent
    os.symlink("../secret.mp4", folder / "link.mp4")
    os.symlink("..", folder / "linked")
    (folder / "holds-a-link").mkdir()
    os.symlink(up / "secret.mp4", folder / "holds-a-link" / "x.mp4")
    with pytest.raises(SourceError, match="lies outside") as refused:
        entry(folder, line.format(up=up))
    assert "--allow-outside" in str(refused.value.hint)


def test_folder_with_images_linked_from_outside_is_refused(folder: Path) -> None:
    frames = folder / "frames"
    frames.mkdir()
    (frames / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert entry(folder, "frames") == [frames.resolve()]
    (folder.parent / "private.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    os.symlink(folder.parent / "private.png", frames / "2.png")
    with pytest.raises(SourceError, match="lies outside"):
        entry(folder, "frames")


def test_allow_outside_adds_a_notice(folder: Path) -> None:
    (folder / "list.txt").write_text("in.mp4\n../secret.mp4\n")
    named = read_source_list(folder / "list.txt", allow_outside=True)
    inside, outside = resolve_sources(named)
    assert inside.notices == ()
    (notice,) = outside.notices
    assert notice == "`secret.mp4` lies outside the folder of its list (`--allow-outside`)"


def test_refused_line_of_a_batch_is_its_own_error(folder: Path) -> None:
    lines = [
        *("in.mp4", "../secret.mp4", "lists-too/*.mp4", "list.txt"),
        *("lists/s*/*.mp4", "smb://host/x.mp4"),
    ]
    (folder / "list.txt").write_text("\n".join(lines))
    items = list_items(read_source_list(folder / "list.txt"))
    errors = [str(item.error) if item.error else item.name for item in items]
    assert errors[0] == "in.mp4"
    assert "lies outside" in errors[1]
    assert "lies outside" in errors[2], "a pattern is no way out"
    assert "is a text, not a video" in errors[3], "a list that names itself ends"
    assert errors[4] == "deep.mp4"
    assert "addresses are not supported" in errors[5]


def test_allow_outside_requires_a_list(folder: Path) -> None:
    (folder / "list.txt").write_text("../secret.mp4\n")
    for words in (["ask", "in.mp4", "What?"], ["summarise", "in.mp4"]):
        done = CliRunner().invoke(cli, [*words, "--allow-outside"])
        assert done.exit_code == 2, done.output
        assert "--list" in done.stderr
    done = CliRunner().invoke(cli, ["ask", "-a", str(folder / "list.txt"), "What?"])
    assert done.exit_code == 3
    assert "lies outside" in done.stderr
    assert "hint: `--allow-outside`" in done.stderr


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [
        (r"\\machine\share\x.mp4", True), ("//machine/share/x.mp4", True), (r"D:\x.mp4", True),
        (r"d:x.mp4", True), (r"\\?\C:\x.mp4", True), (r"C:\x.mp4", False),
        ("c:/videos/x.mp4", False), ("x.mp4", False), (r"..\x.mp4", False), (r"\x.mp4", False),
    ],
)  # fmt: skip
def test_windows_network_paths_are_recognised_without_access(name: str, elsewhere: bool) -> None:
    import ntpath

    assert is_on_another_drive(name, r"C:\videos", ntpath) is elsewhere


def test_list_from_a_file_descriptor_is_not_confined(folder: Path) -> None:
    (folder / "list.txt").write_text(f"{folder.parent / 'secret.mp4'}\n")
    with (folder / "list.txt").open() as opened:
        path = Path(f"/dev/fd/{opened.fileno()}")
        if not path.exists():
            pytest.skip("this system has no /dev/fd")
        assert read_source_list(path) == [str(folder.parent / "secret.mp4")]
