"""What the conftest does for all tests: the CI rule for skips, and garbage collection."""

import gc
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT
from support.terminals import environment

_TESTS = """
import pytest

@pytest.mark.skipif(True, reason="hardware: no such processor")
def test_hardware():
    raise AssertionError

@pytest.mark.skipif(True, reason="somebody did not install it")
def test_not_installed():
    raise AssertionError

def test_later():
    pytest.skip("hardware: found out later")

@pytest.mark.xfail
def test_known():
    raise AssertionError

def test_of_clips(clips):
    raise AssertionError
"""


@pytest.mark.parametrize(
    ("strict", "counts"),
    [("1", "2 skipped, 1 deselected, 1 xfailed, 2 errors"), ("0", "4 skipped, 1 desel")],
)
def test_skips_without_the_hardware_reason_fail_in_ci(
    strict: str, counts: str, tmp_path: Path
) -> None:
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    (tmp_path / "tests" / "support").mkdir()
    shutil.copy(ROOT / "tests" / "support" / "project.py", tmp_path / "tests" / "support")
    marks = "[pytest]\npythonpath = tests\n"
    marks += "markers =\n  clips\n  checkpoints\n  llama_cpp\n  needs\n"
    (tmp_path / "pytest.ini").write_text(marks)
    (tmp_path / "tests" / "test_made.py").write_text(_TESTS)
    (tmp_path / "tests" / "test_whole.py").write_text(
        'import pytest\npytest.importorskip("nope")\n'
    )
    command = [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors", "tests"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment(
            SMOLVIDEO_FAIL_ON_SKIP=strict, SMOLVIDEO_SHARED=str(tmp_path / "none"), COLUMNS="200"
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert counts in done.stdout, done.stdout
    assert (done.returncode == 0) is (strict == "0")
    assert ("not for the hardware: Skipped: somebody did not" in done.stdout) is (strict == "1")


def test_collected_modules_are_no_garbage() -> None:
    """Otherwise each garbage collection takes most of a second in a run of all tests."""
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
