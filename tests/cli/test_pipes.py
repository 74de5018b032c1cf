"""Files named on the command line that are pipes or devices."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from smolvideo.errors import SourceError
from smolvideo.source import read_source_list
from smolvideo.source.ytdlp import cookie_text
from smolvideo.subtitles import read_subtitles
from smolvideo.text_input import read_file_or_pipe

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes here")

SRT = b"1\n00:00:01,000 --> 00:00:02,000\nA ball rolls.\n"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe.srt"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("read", [read_subtitles, read_source_list, cookie_text])
def test_pipe_without_writer_is_an_error(pipe: Path, read) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SourceError, match=r"`.*pipe\.srt`: it is a pipe that no program writes to"):
        read(pipe)


@pytest.mark.parametrize("read", [read_subtitles, read_source_list, cookie_text])
def test_device_is_an_error(read) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SourceError, match=r"`/dev/tty`: it is a device, not a file"):
        read(Path("/dev/tty"))


def test_slow_pipe_is_read_to_its_end(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = os.open(pipe, os.O_RDWR)  # a writer that has not written yet
    waited_for = threading.Event()
    set_blocking = os.set_blocking

    def blocks(descriptor: int, blocking: bool) -> None:
        set_blocking(descriptor, blocking)
        waited_for.set()

    def write() -> None:
        waited_for.wait(300)
        for place in range(len(SRT)):
            os.write(held, SRT[place : place + 1])
        os.close(held)

    monkeypatch.setattr(os, "set_blocking", blocks)
    writer = threading.Thread(target=write)
    writer.start()
    assert read_file_or_pipe(pipe) == SRT
    writer.join()


def test_read_is_limited_to_max_bytes(pipe: Path, tmp_path: Path) -> None:
    file = tmp_path / "file.srt"
    file.write_bytes(SRT)
    held = os.open(pipe, os.O_RDWR)
    os.write(held, SRT)
    assert [read_file_or_pipe(path, 10) for path in (file, pipe)] == [SRT[:10], SRT[:10]]
    os.close(held)


def test_process_substitution_is_read(tmp_path: Path) -> None:
    (tmp_path / "film.srt").write_bytes(SRT)
    code = (
        "import sys; from pathlib import Path; from smolvideo.subtitles import read_subtitles; "
        "print(read_subtitles(Path(sys.argv[1]))[0].text)"
    )
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" <(cat film.srt)', sys.executable, code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (done.stdout, done.stderr) == ("A ball rolls.\n", "")
