"""Decoder processes with limits: crashes, hangs, memory, cleanup."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from support import clipmaker, processes

from smolvideo.errors import ReaderError
from smolvideo.readers import open_video
from smolvideo.readers.decoder_process import (
    DecoderCrashedError,
    DecoderLimits,
    close_idle_processes,
    prestart_process,
)
from smolvideo.readers.subprocess_reader import SubprocessReader

TIMES = clipmaker.evenly(60, 20)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clipmaker.write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", TIMES).path


@pytest.fixture(autouse=True)
def _no_process_stays() -> Iterator[None]:
    close_idle_processes()
    before = processes.decoding()
    yield
    close_idle_processes()
    gc.collect()
    assert processes.decoding() <= before, "a decoding process was left behind"


def worker_of(reader: object) -> psutil.Process:
    assert isinstance(reader, SubprocessReader)
    return psutil.Process(reader._process.pid)


def test_one_process_serves_one_file_after_another(clip: Path) -> None:
    pids = set()
    for _ in range(3):
        with open_video(clip) as video:
            pids.add(worker_of(video).pid)
            assert len(list(video.frames_at([0.0, 1.0]))) == 2
    assert len(pids) == 1


def test_prestarted_process_is_used(clip: Path) -> None:
    before = processes.decoding()
    prestart_process()
    (ready,) = processes.decoding() - before
    with open_video(clip) as video:
        assert worker_of(video).pid == ready


def test_concurrent_files_have_a_process_each(clip: Path) -> None:
    with open_video(clip) as one, open_video(clip) as other:
        assert worker_of(one).pid != worker_of(other).pid
        for left, right in zip(one.frames_at(TIMES), other.frames_at(TIMES), strict=True):
            assert (left.image == right.image).all()


def test_unfetched_frames_block_nothing(clip: Path) -> None:
    with open_video(clip) as video:
        frames = video.frames_at(TIMES)
        assert clipmaker.number_of(next(frames).image) == 0
        assert video.frame_times() == pytest.approx(TIMES, abs=1e-3)
        small = next(video.frames_at([1.0], max_side=32))
        assert small.image.shape == (24, 32, 3)
        (last,) = video.frames_at([9.0])
        assert clipmaker.number_of(last.image) == 59
        with pytest.raises(RuntimeError, match="meanwhile"):
            next(frames)


def test_closed_reader_refuses_calls(clip: Path) -> None:
    video = open_video(clip)
    video.close()
    video.close()
    with pytest.raises(ReaderError, match="closed"):
        video.frame_times()


def test_frames_stay_valid_after_their_reader(clip: Path) -> None:
    with open_video(clip) as video:
        frames = list(video.frames_at(TIMES))
    close_idle_processes()
    assert [clipmaker.number_of(frame.image) for frame in frames] == list(range(60))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_crash_fails_only_its_file(clip: Path) -> None:
    with open_video(clip) as video:
        frames = video.frames_at(TIMES)
        next(frames)
        worker_of(video).send_signal(signal.SIGSEGV)
        with pytest.raises(ReaderError, match=r"clip\.mp4.*crashed.*SIGSEGV") as caught:
            list(frames)
        assert caught.value.hint
    with open_video(clip) as video:
        assert len(list(video.frames_at(TIMES))) == 60


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_killed_decoder_hint_names_memory(clip: Path) -> None:
    with open_video(clip) as video:
        frames = video.frames_at(TIMES)
        next(frames)
        worker_of(video).send_signal(signal.SIGKILL)
        with pytest.raises(ReaderError, match="SIGKILL") as caught:
            list(frames)
    assert caught.value.hint is not None
    assert "run out of memory" in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_hanging_decoder_is_stopped(clip: Path) -> None:
    with SubprocessReader(clip, "pyav", DecoderLimits(stall_timeout_seconds=30.5)) as video:
        worker_of(video).suspend()
        video._process.limits = DecoderLimits(stall_timeout_seconds=0.3)
        with pytest.raises(DecoderCrashedError, match="stood still"):
            list(video.frames_at([1.0]))


def test_frame_timeout_is_an_error(clip: Path) -> None:
    with pytest.raises(DecoderCrashedError, match="no frame"):
        SubprocessReader(clip, "pyav", DecoderLimits(response_timeout_seconds=0.0))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_memory_limit_is_enforced(clip: Path) -> None:
    with SubprocessReader(clip, "pyav", DecoderLimits(memory_bytes=2**29)) as video:
        worker_of(video).suspend()
        video._process.limits = DecoderLimits(memory_bytes=2**20)
        with pytest.raises(DecoderCrashedError, match="memory"):
            list(video.frames_at([1.0]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process itself")
def test_decompression_bomb_fails_to_allocate(tmp_path: Path) -> None:
    clip = clipmaker.write_clip(
        tmp_path / "large.mp4",
        [0.0],
        images=[np.zeros((4000, 6000, 3), np.uint8)],
        options={"preset": "ultrafast"},
    )
    with pytest.raises(ReaderError, match=r"large\.mp4"):
        SubprocessReader(clip.path, "pyav", DecoderLimits(memory_bytes=250 * 2**20))


def test_repeated_opening_leaks_nothing(clip: Path) -> None:
    """Compare memory and handles of both processes after many openings and as many more."""

    def size() -> tuple[int, int, int]:
        with open_video(clip) as video:
            list(video.frames_at([0.5]))
            worker = worker_of(video)
            return psutil.Process().num_fds(), worker.num_fds(), worker.memory_info().rss

    if sys.platform == "win32":
        pytest.skip("handles are counted otherwise there")
    for _ in range(100):
        before = size()
    for _ in range(150):
        after = size()
    assert after[:2] == before[:2]
    assert after[2] < before[2] + 3 * 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_decoder_ends_when_the_program_is_killed(clip: Path) -> None:
    script = (
        "import sys, time\n"
        "from smolvideo.readers import open_video\n"
        f"video = open_video({str(clip)!r})\n"
        "print(video._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with program:
        assert program.stdout is not None
        worker = psutil.Process(int(program.stdout.readline()))
        program.kill()
        program.wait()
    psutil.wait_procs([worker], timeout=300)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupt_ends_the_decoder(clip: Path) -> None:
    script = (
        "import time\n"
        "from smolvideo.readers import open_video\n"
        f"with open_video({str(clip)!r}) as video:\n"
        "    print(video._process.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with program:
        assert program.stdout is not None
        worker = psutil.Process(int(program.stdout.readline()))
        os.kill(program.pid, signal.SIGINT)
        program.wait(timeout=300)
    psutil.wait_procs([worker], timeout=300)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_module_in_the_current_folder_is_not_imported(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    with open_video(clip) as video:
        assert video.metadata.reader == "pyav"


def test_decoders_write_nothing_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = clipmaker.write_clip(tmp_path / "whole.mp4", clipmaker.evenly(50, 10), b_frames=0)
    torn = clipmaker.tear(whole.path, tmp_path / "torn.mp4", 0.3, 0.7)
    for reader in ("pyav", "opencv", "decord"):
        try:
            with open_video(torn, reader=reader) as video:
                list(video.frames_at([0.0, 2.0, 4.0]))
        except ReaderError:
            continue
    assert capfd.readouterr() == ("", "")
