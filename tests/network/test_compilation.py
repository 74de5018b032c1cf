"""Kernels are compiled by a child process once, and in this process where that is impossible."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from smolvideo.errors import ModelError
from smolvideo.network import compilation
from smolvideo.network.compilation import CompiledInBackground, KernelBuild, wait_for_kernels
from smolvideo.progress import Progress

TRIPLE = KernelBuild("support.tinykernel:tripled", ("float32",))


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba's disk cache is ``tmp_path``, here and in children, which find ``support``."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


@pytest.fixture
def _no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


def use(build: KernelBuild, *, kept: bool = True) -> tuple[int, int]:
    """Compile and run; return the numbers of kernels loaded from disk and compiled here."""
    kernel = build.compile(kept=kept)
    values = np.arange(3, dtype=np.float32)
    kernel(values)
    assert values.tolist() == [0, 3, 6]
    assert len(kernel.signatures) == 1
    return sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())


def test_a_child_compiles_once_and_this_process_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert use(TRIPLE) == (1, 0)
    monkeypatch.setattr(subprocess, "Popen", None)  # no child is started for what is on disk
    assert use(TRIPLE) == (1, 0)
    assert not compilation.is_compiling()


@pytest.mark.parametrize("program", ["", os.devnull, sys.executable])
def test_this_process_compiles_where_a_child_fails(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no program, it cannot be started, or it ends early, as one that the system kills."""
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(compilation, "_PROGRAM", "import os; os.abort()")
    assert use(TRIPLE) == (0, 1)


@pytest.mark.usefixtures("_no_child")
def test_no_child_compiles_what_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    assert use(TRIPLE, kept=False) == (0, 1)
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert use(TRIPLE) == (0, 1)


def test_disk_cache_is_not_asked_while_numba_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both register what numba knows of types, and beside each other lose some of it for good."""
    from numba.core.compiler_lock import global_compiler_lock

    kernel, arguments = TRIPLE.build(kept=True)
    refresh, locked = kernel.targetctx.refresh, list[bool]()

    def record() -> None:
        locked.append(global_compiler_lock.is_locked())
        refresh()

    monkeypatch.setattr(kernel.targetctx, "refresh", record)
    assert not compilation.is_on_disk(kernel, arguments)
    assert locked == [True]


def test_reason_is_the_line_that_says_what_numba_cannot_compile() -> None:
    from numba import njit

    def make(kept: bool) -> object:
        return njit(lambda value: value.no_such_name)(1.0)

    with pytest.raises(ModelError, match="than torch: Unknown attribute 'no_such_name' of type"):
        CompiledInBackground(make).get()


def test_reason_has_no_colours() -> None:
    error = RuntimeError("Failed in nopython mode\n\x1b[1m\x1b[31mUnknown attribute 'x'\x1b[0m")
    assert compilation._reason(error) == "Unknown attribute 'x'"


def test_a_child_ends_with_its_parent() -> None:
    build = KernelBuild("support.tinykernel:endless")
    child = subprocess.Popen(
        [sys.executable, "-c", compilation._PROGRAM, json.dumps([build.function, build.arguments])],
        stdin=subprocess.PIPE,
    )
    assert child.stdin is not None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    child.stdin.close()  # as the system does when the parent is killed
    assert child.wait(300) == 1


def test_compilation_is_reported_until_its_end() -> None:
    finish, reports = threading.Event(), list[Progress]()

    def make(kept: bool) -> int:
        with compilation.counted():
            assert finish.wait(300)
        return 4

    def report(progress: Progress) -> None:
        reports.append(progress)
        finish.set()

    kernel = CompiledInBackground(make)
    wait_for_kernels([kernel], report)
    assert kernel.get() == 4
    assert reports[0] == Progress("compile")
    assert reports[-1] == Progress("compile", 1, 1)
    reports.clear()
    wait_for_kernels([kernel], report)
    assert not reports


def test_interpreter_exit_waits_for_kernels() -> None:
    """Its end in the middle of LLVM would abort the process."""
    program = (
        "import threading\n"
        "from smolvideo.network.compilation import CompiledInBackground\n"
        "def make(kept):\n"
        "    threading.Event().wait(0.3)\n"
        "    print('made', flush=True)\n"
        "kernel = CompiledInBackground(make)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr
