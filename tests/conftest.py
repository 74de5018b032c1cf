"""What every test may rely on: no network, no leftovers, and skips that can be made to fail.

``SMOLVIDEO_SHARED`` names the folder with the odd real clips and the processor files of the
published checkpoints; by default it is ``shared`` beside the project. ``SMOLVIDEO_FAIL_ON_SKIP=1``
turns every skip into a failure, for the machine that must run them all.
"""

import os
import signal
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SMOLVIDEO_SHARED", ROOT.parent / "shared"))
FAIL_ON_SKIP = os.environ.get("SMOLVIDEO_FAIL_ON_SKIP") == "1"


# A shell without job control starts what it puts in the background deaf to Ctrl-C, and every
# program that the tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if FAIL_ON_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and SMOLVIDEO_FAIL_ON_SKIP=1: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches and settings of the person who runs the tests are neither read nor written."""
    monkeypatch.setenv("SMOLVIDEO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SMOLVIDEO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.delenv("SMOLVIDEO_DEBUG", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches past this machine fails at once, and does not hang where it cannot."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address):  # type: ignore[no-untyped-def]
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise OSError(f"a test tried to connect to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of odd real clips, with its MANIFEST.tsv."""
    folder = SHARED / "clips"
    if not folder.is_dir():
        pytest.skip(f"no clips at {folder}")
    return folder


@pytest.fixture(scope="session")
def processor_files() -> Path:
    """The folder with one folder of tokenizer and configuration files per published checkpoint."""
    folder = SHARED / "processor_files"
    if not folder.is_dir():
        pytest.skip(f"no processor files at {folder}")
    return folder


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """torch's, for tests of what must not depend on how many there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)
