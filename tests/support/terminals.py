"""Run smolvideo as a subprocess, with pipes or in a pseudo terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from support.project import ROOT

_OWN_THE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
_ALL_READ = b"\x1b[?61h"
"""A marker that smolvideo never writes."""
_CONTROL = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[78]|\x1b_G.*?\x1b\\|\x1bP.*?\x1b\\", re.DOTALL
)


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a user without settings: no colour forced or forbidden."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "COLORTERM", "TERM")
    }
    quick = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
    return kept | quick | changes


def run_process(
    *words: str | Path, stdin: str = "", cwd: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m smolvideo`` with pipes to its end."""
    return subprocess.run(
        [sys.executable, "-m", "smolvideo", *map(str, words)],
        input=stdin,
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )


class Terminal:
    """A pseudo terminal with a process in it.

    ``answers`` is its reply to a query of device attributes (CSI c); empty for a terminal that does
    not reply.
    """

    def __init__(
        self,
        words: Sequence[str | Path],
        *,
        columns: int = 80,
        rows: int = 24,
        answers: bytes = b"\x1b[?62;22c",
        stdout: int | None = None,
        python: Sequence[str] = ("-m", "smolvideo"),
        **changes: str,
    ) -> None:
        self._answers = answers
        self.master, self._slave = pty.openpty()
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, size)
        self._settings = termios.tcgetattr(self._slave)
        self._output = bytearray()
        self._seen = threading.Condition()
        self._closing = threading.Event()
        command = [sys.executable, "-c", _OWN_THE_TERMINAL, *python, *map(str, words)]
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave if stdout is None else stdout,
            stderr=self._slave,
            env=environment(**changes),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._closing.set()
        self._reader.join()
        os.close(self._slave)
        os.close(self.master)

    def wait_for(self, text: str, *, after: str = "", seconds: float = 300) -> None:
        """Wait until ``text`` is on the screen after ``after``; AssertionError at the end or
        timeout.
        """
        deadline = time.monotonic() + seconds
        while not self._came(text, after):
            ended = self.process.poll() is not None or time.monotonic() > deadline
            with self._seen:
                self._seen.wait(timeout=0.1)
            came = self._came(text, after)
            assert came or not ended, f"{text!r} never came; the screen:\n{self.text}"

    def type(self, keys: bytes) -> None:
        r"""Send key presses; ``b"\\x03"`` is Ctrl-C."""
        os.write(self.master, keys)

    def finish(self, *, seconds: float = 300) -> int:
        """Return the exit code once the process has ended and its output was read."""
        code = self.process.wait(seconds)
        # The marker passes through the terminal after all output of the process.
        os.write(self._slave, _ALL_READ)
        with self._seen:
            read = self._seen.wait_for(lambda: _ALL_READ in self._output, timeout=seconds)
            del self._output[self._output.rfind(_ALL_READ) :]
        assert read, "the terminal was not read to its end"
        return code

    def _came(self, text: str, after: str) -> bool:
        earlier = self.raw.find(after.encode())
        return earlier >= 0 and text.encode() in self.raw[earlier + len(after.encode()) :]

    @property
    def raw(self) -> bytes:
        """All bytes written to the terminal."""
        with self._seen:
            return bytes(self._output)

    @property
    def text(self) -> str:
        """The output without control sequences; overwritten text is still included."""
        return _CONTROL.sub(b"", self.raw).replace(b"\r", b"").decode("utf-8", "replace")

    @property
    def is_as_it_was(self) -> bool:
        """Whether the terminal settings are restored and the cursor is visible."""
        settings = termios.tcgetattr(self._slave)
        shown, hidden = self.raw.rfind(b"\x1b[?25h"), self.raw.rfind(b"\x1b[?25l")
        return settings == self._settings and (hidden < 0 or shown > hidden)

    def _read(self) -> None:
        asked = 0
        while not self._closing.is_set():
            if not select.select([self.master], [], [], 0.05)[0]:
                continue
            piece = os.read(self.master, 65536)
            with self._seen:
                self._output += piece
                self._seen.notify_all()
                questions = self._output.count(b"\x1b[c")
            for _ in range(questions - asked):
                if self._answers:
                    os.write(self.master, self._answers)
            asked = questions
