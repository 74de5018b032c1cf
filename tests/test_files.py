"""Atomic file writes: the whole new file, or the old one."""

from pathlib import Path
from typing import Any

import pytest

from smolvideo.files import atomic_path, open_atomic, write_atomic


@pytest.mark.parametrize("content", ["é\r\n", b"\x00\xff", ""])
@pytest.mark.parametrize("name", ["a.json", "x" * 250 + ".txt"])
def test_write_atomic_replaces_the_whole_file(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(b"what it held before")
    write_atomic(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("opened", [open_atomic, atomic_path])
def test_failed_write_leaves_only_the_old_file(tmp_path: Path, opened: Any) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail() -> None:
        with opened(path) as target:
            if isinstance(target, Path):
                assert (target.parent, target.suffix) == (tmp_path, ".png")
                target.write_bytes(b"ne")
            else:
                target.write(b"ne")
            assert path.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\udc80")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
