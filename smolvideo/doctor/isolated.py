"""Findings of checks, and the subprocesses that run them: a crash or a hang is one finding.

Checks of one module run one after the other in a subprocess, which writes a line of JSON per
finding. If it ends early or a check exceeds its time limit, that check is the finding, and another
subprocess runs the remaining ones.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, get_args

from smolvideo.errors import SmolVideoError, plain_reason

State = Literal["ok", "note", "fault", "skipped"]
"""Works; works within limits, or an optional part is missing; does not work; was not tried."""


_DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow", "yt_dlp": "yt-dlp"}
"""Import name → the name by which it is installed, where that is another."""


def reinstall(package: str) -> str:
    """Return the command that installs a package again, by its import name."""
    return f"`pip install --force-reinstall {_DISTRIBUTIONS.get(package, package)}`"


LIMIT_SECONDS = 60.0
COMPILING_LIMIT_SECONDS = 180.0
"""A slow machine compiles kernels for a minute, once."""


@dataclass(frozen=True)
class Finding:
    """Result of one check: what was found, in a line, and a hint (None if nothing is to be done).

    ``seconds`` is the wall time of the check.
    """

    check: str
    state: State
    found: str
    hint: str | None = None
    seconds: float = 0.0


def ok(found: str) -> Finding:
    """Return the finding of a check that passed; its name is set by the caller."""
    return Finding("", "ok", found)


def note(found: str, hint: str) -> Finding:
    """Return the finding of a check that passed within limits."""
    return Finding("", "note", found, hint)


def fault(found: str, hint: str | None) -> Finding:
    """Return the finding of a check that failed."""
    return Finding("", "fault", found, hint)


@dataclass(frozen=True)
class Check:
    """A check: the ``module:name`` of a function of ``Surroundings``, which returns a Finding.

    Those of one module share a process, one after the other. ``compiles``: it compiles what is not
    compiled yet. ``measures``: it runs before all others, as their work would falsify it.
    """

    function: str
    compiles: bool = False
    measures: bool = False

    @property
    def group(self) -> str:
        """Name of its process: that of the module."""
        return self.function.partition(":")[0]

    @property
    def limit_seconds(self) -> float:
        """Seconds after which it hangs."""
        return COMPILING_LIMIT_SECONDS if self.compiles else LIMIT_SECONDS

    def load(self) -> "CheckFunction":
        """Import the function."""
        module, _, name = self.function.partition(":")
        function: CheckFunction = getattr(import_module(module), name)
        return function


@dataclass(frozen=True)
class Surroundings:
    """What the caller knows: ``offline`` forbids the network; ``folders`` maps what is kept to the
    folder that it is kept in, or to an empty text where the user has none."""

    offline: bool = False
    folders: Mapping[str, str] = field(default_factory=dict)


CheckFunction = Callable[[Surroundings], Finding]


def run_check(name: str, check: Check, surroundings: Surroundings) -> Finding:
    """Run one check in this process; every exception of it is a fault."""
    started = time.monotonic()
    try:
        found = check.load()(surroundings)
    except SmolVideoError as error:
        found = fault(str(error), error.hint)
    except ImportError as error:
        package = _broken_package(error)
        hint = reinstall(package)
        found = fault(f"{package} cannot be imported: {plain_reason(error)}", hint)
    except Exception as error:
        found = fault(f"{type(error).__name__}: {plain_reason(error)}", None)
    return replace(found, check=name, seconds=round(time.monotonic() - started, 3))


def _broken_package(error: ImportError) -> str:
    """Return the package that is missing, or in whose code the import failed."""
    if error.name:
        return error.name.partition(".")[0]
    (*_, (frame, _)) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "smolvideo")).partition(".")[0]


def examine(checks: Mapping[str, Check], surroundings: Surroundings) -> Generator[Finding]:
    """Run all ``checks`` in their processes; yield findings as they come. Processes still at work
    are killed if the caller stops early."""
    groups: dict[str, dict[str, Check]] = {}
    measuring = {name for name, check in checks.items() if check.measures}
    for name in sorted(checks, key=lambda name: name not in measuring):
        groups.setdefault(checks[name].group, {})[name] = checks[name]
    findings: SimpleQueue[Finding] = SimpleQueue()
    waiting = [_Worker(group, surroundings, findings) for group in groups.values()]
    started: list[_Worker] = []
    try:
        for _ in checks:
            # Groups start together, but where one measures the others wait for that.
            for worker in [one for one in waiting if not measuring or one.names & measuring]:
                waiting.remove(worker)
                started.append(worker)
                threading.Thread(target=worker.run, daemon=True).start()
            finding = findings.get()
            measuring.discard(finding.check)
            yield finding
    finally:
        for worker in started:
            worker.stop()


class _Worker:
    """Runs a group of checks in subprocesses, and puts one finding per check in a queue."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        surroundings: Surroundings,
        findings: "SimpleQueue[Finding]",
    ) -> None:
        self.names = frozenset(checks)
        self._waiting = dict(checks)
        self._surroundings = surroundings
        self._findings = findings
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self) -> None:
        """Run all checks; a process is replaced when it ends before the last of them."""
        while self._waiting and not self._stopped:
            try:
                self._run_process()
            except OSError as error:
                self._lose(f"cannot start a process: {plain_reason(error)}")

    def stop(self) -> None:
        """Kill the process, and start no other."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _run_process(self) -> None:
        with self._lock:
            if self._stopped:
                return
            process = self._process = _start(self._waiting, self._surroundings)
        assert process.stdout is not None
        with process, process.stdout:
            while self._waiting:
                limit = next(iter(self._waiting.values())).limit_seconds
                if not self._take_line(process, limit):
                    break
            process.kill()

    def _take_line(self, process: "subprocess.Popen[bytes]", limit_seconds: float) -> bool:
        """Take the next finding; return False if the process is lost with the check at work."""
        assert process.stdout is not None
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(limit_seconds, expire)
        timer.daemon = True
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        with suppress(ValueError, TypeError, KeyError):
            finding = Finding(**json.loads(line))
            if finding.state in get_args(State) and finding.check in self._waiting:
                del self._waiting[finding.check]
                self._findings.put(finding)
                return True
        if expired.is_set():
            self._lose(f"hangs: no result after {limit_seconds:g} seconds")
        else:
            self._lose(f"crashes: {_ending(process)}")
        return False

    def _lose(self, found: str) -> None:
        """Report the first waiting check as a fault."""
        name = next(iter(self._waiting))
        del self._waiting[name]
        hint = f"`SMOLVIDEO_DEBUG=1 smolvideo doctor {name}` shows its messages"
        if not self._stopped:
            self._findings.put(Finding(name, "fault", found, hint))


def _start(checks: Mapping[str, Check], surroundings: Surroundings) -> "subprocess.Popen[bytes]":
    request = {
        "checks": {name: check.function for name, check in checks.items()},
        "surroundings": asdict(surroundings),
    }
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # -P: do not import `torch.py` from the current folder.
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM, json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("SMOLVIDEO_DEBUG") else subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


_PROGRAM = "import sys; from smolvideo.doctor.isolated import main; main(sys.argv[1:])"


def _ending(process: "subprocess.Popen[bytes]") -> str:
    code = process.wait()
    if code >= 0:
        return f"its process ended with exit code {code}"
    with suppress(ValueError):
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process was ended by signal {-code}"


def main(words: Sequence[str]) -> None:
    """Run the requested checks in this process; stdout is for findings alone."""
    request = json.loads(words[0])
    surroundings = Surroundings(**request["surroundings"])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as findings:
        os.dup2(2, 1)  # libraries print
        for name, function in request["checks"].items():
            finding = run_check(name, Check(function), surroundings)
            findings.write(json.dumps(asdict(finding)) + "\n")
            findings.flush()
