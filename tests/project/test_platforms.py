"""Portability checks that run on Linux: the package without POSIX modules and functions.

Nothing ran on Windows: these tests import the package and run code without a window on a Python
whose POSIX modules and functions are removed.
"""

import ast
import subprocess
import sys
from pathlib import Path

from support.project import ROOT

PACKAGE = ROOT / "smolvideo"
POSIX_MODULES = frozenset(
    (
        "crypt",
        "fcntl",
        "grp",
        "posix",
        "pty",
        "pwd",
        "readline",
        "resource",
        "syslog",
        "termios",
        "tty",
    )
)

WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys, types

import smolvideo
names = [one.name for one in pkgutil.walk_packages(smolvideo.__path__, "smolvideo.")]
names = [name for name in names if name != "smolvideo.__main__"]
import psutil
for name in names:  # first as they are: what other libraries do on Windows is their own affair
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] == "smolvideo"]:
    del sys.modules[name]

class Gone:
    def find_spec(self, name, *_):
        if name in {modules}:
            raise ModuleNotFoundError(name)

for name in {modules}:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Gone())
kept = sys.modules["msvcrt"] = types.ModuleType("msvcrt")
kept.LK_NBLCK, kept.locking = 2, lambda *_: None
for name in ("fork", "getpgrp", "tcgetpgrp", "getuid", "geteuid", "wait4", "mkfifo", "O_NONBLOCK",
             "O_NOFOLLOW", "O_CLOEXEC", "O_NOCTTY", "sched_getaffinity", "set_blocking", "killpg",
             "statvfs", "uname", "getloadavg", "WNOHANG"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGALRM", "SIGHUP", "SIGCHLD", "SIGPIPE", "SIGWINCH", "SIGUSR1"):
    delattr(signal, name)
sys.platform = "win32"
for name in names:
    importlib.import_module(name)

from pathlib import Path
from smolvideo.engines.devices import available_cores
from smolvideo.files import file_lock
from smolvideo.text_input import read_file_or_pipe
from smolvideo.readers.decoder_worker import _limit_memory
from smolvideo.show.console import TerminalCapabilities, query_capabilities
from smolvideo.summaries.record_log import RecordLog
here = Path(sys.argv[1])
(here / "a.txt").write_bytes(b"text")
assert read_file_or_pipe(here / "a.txt") == b"text"
assert query_capabilities() == TerminalCapabilities()
_limit_memory(2**40)
assert available_cores() >= 1
with file_lock(here / "lock", on_contention=None):
    pass
with RecordLog(here / "summaries.jsonl"):
    pass
print(len(names))
"""


def test_every_module_imports_and_works_without_posix(tmp_path: Path) -> None:
    code = WITHOUT_POSIX.replace("{modules}", repr(sorted(POSIX_MODULES)))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 200


TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def test_posix_modules_are_not_imported_at_module_level() -> None:
    for name, tree in TREES.items():
        for node in tree.body:  # platform branches and functions may import them
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported = {one.name for one in node.names} | {getattr(node, "module", None)}
                assert not POSIX_MODULES & imported, f"{name}, line {node.lineno}"


def test_text_files_are_opened_with_an_encoding() -> None:
    """Without one Windows uses its own code page."""
    for name, tree in TREES.items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [f"{name}, line {call.lineno}" for call in calls if not _has_encoding(call)]


def _has_encoding(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    words = {word.arg: word.value for word in call.keywords}
    if "encoding" in words:
        return True
    if isinstance(call.func, ast.Attribute):
        if name in ("run", "Popen", "check_output"):
            return "text" not in words
        # The encoding is the last of their arguments before the keywords.
        return name not in ("read_text", "write_text") or len(call.args) > (name == "write_text")
    if name != "open":
        return True
    mode = words.get("mode", call.args[1] if len(call.args) > 1 else None)
    return isinstance(mode, ast.Constant) and "b" in str(mode.value)


def test_ci_runs_the_fast_tests_on_other_systems() -> None:
    root = PACKAGE.parent
    files = (root / "tests" / "fast.txt").read_text(encoding="utf-8").split()
    assert len(files) == len(set(files)) > 30
    assert all((root / file).is_file() for file in files)
    workflow = (root / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    for word in ("windows-latest", "macos-latest", "@tests/fast.txt"):
        assert word in workflow
