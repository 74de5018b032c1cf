"""Disk cache of frame features: hits, corruption, size limit, eviction, concurrent processes.

Keys are arbitrary here; ``test_frame_encoder`` tests how they are computed.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvideo.engines.feature_cache import DEFAULT_LIMIT_BYTES, FeatureCache
from smolvideo.errors import SourceError

COUNTED = 1000 + len(b"smolvideo.frame/1\n") + 2 * 32
"""Bytes of an entry of the usual payload, on disk."""


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def payload(number: int, size: int = 1000) -> bytes:
    return random.Random(number).randbytes(size)


def write(cache: FeatureCache, number: int, size: int = 1000) -> None:
    cache.write(key(number), memoryview(payload(number, size)))


def read(cache: FeatureCache, number: int, size: int = 1000) -> bytes | None:
    into = bytearray(size)
    return bytes(into) if cache.read(key(number), memoryview(into)) else None


def entry(cache: FeatureCache, number: int) -> Path:
    name = key(number).hex()
    return cache.folder / name[:2] / name


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features")


def test_written_entry_is_read_back(cache: FeatureCache) -> None:
    assert read(cache, 1) is None
    write(cache, 1)
    write(cache, 2, 50_000)
    other = FeatureCache(cache.folder)
    assert read(other, 1) == payload(1)
    assert read(other, 2, 50_000) == payload(2, 50_000)
    assert read(other, 3) is None
    assert cache.warning is None


def test_default_folder_follows_the_cache_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SMOLVIDEO_CACHE_DIR", str(tmp_path / "mine"))
    assert FeatureCache().folder == tmp_path / "mine" / "features"
    assert FeatureCache().limit_bytes == DEFAULT_LIMIT_BYTES
    assert not (tmp_path / "mine").exists(), "nothing is made before it is needed"


@settings(max_examples=60)
@given(st.data())
def test_damaged_entry_is_a_miss_and_is_deleted(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cache = FeatureCache(tmp_path_factory.mktemp("damage"))
    write(cache, 1, 300)
    whole = entry(cache, 1).read_bytes()
    kind = data.draw(st.sampled_from(["flip", "cut", "longer", "empty", "zeros"]))
    if kind == "flip":
        damaged = bytearray(whole)
        place = data.draw(st.integers(0, len(whole) - 1))
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        damaged = bytearray(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        damaged = bytearray({"longer": whole + b"\0", "empty": b"", "zeros": b"\0" * 400}[kind])
    entry(cache, 1).write_bytes(damaged)
    assert read(cache, 1, 300) is None
    assert not entry(cache, 1).exists()
    write(cache, 1, 300)
    assert read(cache, 1, 300) == payload(1, 300)


def test_an_entry_under_another_name_is_a_miss(cache: FeatureCache) -> None:
    write(cache, 1)
    write(cache, 2)
    entry(cache, 1).replace(entry(cache, 2))
    assert read(cache, 2) is None
    assert not entry(cache, 2).exists()


def test_an_entry_of_another_length_is_a_miss(cache: FeatureCache) -> None:
    for asked in (999, 1001):
        write(cache, 1)
        assert read(cache, 1, asked) is None


def test_least_recently_used_entry_is_evicted_first(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=10 * COUNTED)
    for number in range(10):
        write(cache, number)
        os.utime(entry(cache, number), (1000 + number, 1000 + number))
    assert read(cache, 0) == payload(0), "used again, so no longer the oldest"
    write(cache, 10)
    kept = [number for number in range(11) if entry(cache, number).exists()]
    assert kept == [0, *range(3, 11)], "nine tenths of the limit"


def test_sweep_spares_files_being_written(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=4 * COUNTED)
    write(cache, 0)
    name = entry(cache, 0)
    fresh, old = (name.with_name(f".{letter * 16}.part") for letter in "ab")
    for part in (fresh, old):
        part.write_bytes(b"half")
    long_ago = time.time() - 10 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    cache._evict()
    assert fresh.exists()
    assert not old.exists()
    assert read(cache, 0) == payload(0)


def test_size_never_exceeds_the_limit(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=1_000_000)
    for number in range(60):
        write(FeatureCache(tmp_path, limit_bytes=1_000_000), number, 70_000)
        assert cache.stats().size_bytes <= 1_000_000
    assert cache.stats().entries >= 11
    assert read(cache, 59, 70_000) == payload(59, 70_000)


def test_small_entries_count_their_disk_blocks(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=10 * COUNTED)
    for number in range(200):
        write(cache, number, 10)
        size = cache.stats().size_bytes
        assert size <= cache.limit_bytes
        assert cache.stats().entries == number + 1 or size >= 0.85 * cache.limit_bytes
    assert cache.stats().entries > 95, "ten larger ones take as much"


def test_entry_larger_than_the_limit_is_not_stored(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=3 * COUNTED)
    write(cache, 1)
    write(cache, 2, 4 * COUNTED)
    assert (read(cache, 1), cache.warning) == (payload(1), None)
    assert not entry(cache, 2).exists()


def test_lower_limit_evicts_entries(tmp_path: Path) -> None:
    for number in range(30):
        write(FeatureCache(tmp_path), number)
    small = FeatureCache(tmp_path, limit_bytes=10 * COUNTED)
    write(small, 30)
    assert small.stats().entries == 9


@pytest.mark.parametrize("ledger", ["gone", "empty", "huge"])
def test_wrong_size_count_is_corrected_by_a_sweep(tmp_path: Path, ledger: str) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=10 * COUNTED)
    for number in range(9):
        write(cache, number)
    written = tmp_path / "written"
    if ledger == "gone":
        written.unlink()
    else:
        with written.open("r+b") as file:
            file.truncate(0 if ledger == "empty" else 10**7)
    for number in range(9, 30):
        write(cache, number)
    # With the count reset to zero, the next sweep counts the nine earlier entries.
    assert cache.stats().entries <= 10
    assert read(cache, 29) == payload(29)


def test_stats_and_clear(cache: FeatureCache) -> None:
    assert (cache.stats().entries, cache.stats().oldest) == (0, None)
    cache.clear()
    for number in range(3):
        write(cache, number)
        os.utime(entry(cache, number), (5000 + number, 5000 + number))
    stranger = cache.folder / "ab" / "letter.txt"
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("mine")
    assert cache.stats().entries == 3
    assert 3000 < cache.stats().size_bytes < 3500
    assert cache.stats().oldest == 5000
    assert cache.clear().entries == 3
    assert [path for path in cache.folder.rglob("*") if path.is_file()] == [stranger]
    write(cache, 1)
    assert read(cache, 1) == payload(1)


# ---------------------------------------------------------------- other processes

SCRIPT = """
import hashlib, random, sys
from pathlib import Path
from smolvideo.engines.feature_cache import FeatureCache

def key(number):
    return hashlib.sha256(str(number).encode()).digest()

def payload(number, size):
    return random.Random(number).randbytes(size)

folder, limit, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cache = FeatureCache(folder, limit_bytes=limit)
"""


def start(code: str, folder: Path, limit: int, size: int, **how: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SCRIPT + code, str(folder), str(limit), str(size)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **how)  # type: ignore[call-overload]


MANY = """
numbers = random.Random(int(sys.stdin.readline()))
hits = 0
for _ in range(400):
    number = numbers.randrange(40)
    into = bytearray(size)
    if cache.read(key(number), memoryview(into)):
        assert into == payload(number, size)
        hits += 1
    else:
        cache.write(key(number), memoryview(payload(number, size)))
    assert cache.warning is None, cache.warning
print(hits)
"""


def test_concurrent_processes_never_read_a_partial_entry(tmp_path: Path) -> None:
    """All write the same entries under a limit of half of them, so they evict each other's."""
    limit, size = 20 * 101 * 1024, 100_000
    running = [start(MANY, tmp_path, limit, size, stdin=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate(f"{seed}\n")[0] for seed, process in enumerate(running)]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert all(int(output) > 20 for output in outputs)
    cache = FeatureCache(tmp_path, limit_bytes=limit)
    write(cache, 1000, size)
    assert cache.stats().size_bytes <= limit * 1.1
    assert not list(tmp_path.rglob("*.part"))


AGAIN = """
while True:
    cache.write(key(1), memoryview(payload(1, size)))
    print("written", flush=True)
"""


def test_entry_stays_readable_while_it_is_rewritten(tmp_path: Path) -> None:
    size = 2_000_000
    with start(AGAIN, tmp_path, DEFAULT_LIMIT_BYTES, size) as process:
        try:
            assert process.stdout is not None
            cache, expected = FeatureCache(tmp_path), payload(1, size)
            for _ in range(50):
                process.stdout.readline()
                assert read(cache, 1, size) == expected
        finally:
            process.kill()


WRITING = """
number = 0
while True:
    cache.write(key(number), memoryview(payload(number, size)))
    assert cache.warning is None, cache.warning
    print(number, flush=True)
    number += 1
"""


def check_after_kill(folder: Path, size: int, written: int) -> None:
    """Check that stored entries are complete and that the cache still takes new ones."""
    cache = FeatureCache(folder)
    for number in range(written + 3):
        found = read(cache, number, size)
        assert found in (
            (payload(number, size),) if number < written else (None, payload(number, size))
        )
    write(cache, 999, size)
    assert read(cache, 999, size) == payload(999, size)
    assert cache.warning is None


@pytest.mark.parametrize("entries", [1, 4, 9, 17])
def test_cache_survives_a_kill_between_and_during_writes(tmp_path: Path, entries: int) -> None:
    size = 200_000
    with start(WRITING, tmp_path, DEFAULT_LIMIT_BYTES, size) as process:
        assert process.stdout is not None
        for _ in range(entries):
            process.stdout.readline()
        process.kill()
    check_after_kill(tmp_path, size, entries)


@pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be held there")
def test_cache_survives_a_kill_within_an_entry(tmp_path: Path) -> None:
    size = 20_000_000
    with start(WRITING, tmp_path, DEFAULT_LIMIT_BYTES, size) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the write has begun
        for _ in range(20_000):
            os.kill(process.pid, signal.SIGSTOP)
            parts = list(tmp_path.rglob("*.part"))
            if parts and 0 < parts[0].stat().st_size < size:
                break
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.001)
        process.kill()
    # Fails if no kill hit within a write, or if entries are not written to a temporary file.
    (part,) = tmp_path.rglob("*.part")
    assert part.stat().st_size < size
    cache = FeatureCache(tmp_path)
    entries = cache.stats().entries
    check_after_kill(tmp_path, size, entries)
    assert part.exists(), "somebody may still be writing it"
    os.utime(part, (1000, 1000))
    (tmp_path / "written").unlink()
    write(cache, 998, size)
    assert not part.exists()


# ---------------------------------------------------------------- a disk that refuses

REFUSED = """
for number in range(3):
    cache.write(key(number), memoryview(payload(number, size)))
    assert not cache.read(key(number), memoryview(bytearray(size)))
print(cache.warning)
"""


def without_privileges() -> None:
    """Drop capabilities in the child process, so that file modes bind root as well."""
    if os.geteuid() == 0:
        import ctypes

        drop_capability = 24  # PR_CAPBSET_DROP of <linux/prctl.h>
        override_mode, search_anything = 1, 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        for capability in (override_mode, search_anything):
            ctypes.CDLL(None).prctl(drop_capability, capability, 0, 0, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="modes and limits of Linux")
def test_read_only_folder_is_reported_once_and_still_read(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features")
    write(cache, 7)
    folders = [cache.folder, *(path for path in cache.folder.iterdir() if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    (cache.folder / "written").chmod(0o444)
    code = REFUSED + "assert cache.read(key(7), memoryview(bytearray(size)))"
    try:
        with start(code, cache.folder, 10**9, 1000, preexec_fn=without_privileges) as process:
            output = process.communicate()[0]
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert process.returncode == 0
    assert output == f"frame features are not kept in `{cache.folder}`: Permission denied\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="modes and limits of Linux")
def test_full_disk_is_reported_once(tmp_path: Path) -> None:
    """A limit on file size (RLIMIT_FSIZE) makes the write fail within an entry."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    with start(limit + REFUSED, tmp_path, 10**9, 20_000) as process:
        output = process.communicate()[0]
    assert process.returncode == 0
    assert output == f"frame features are not kept in `{tmp_path}`: File too large\n"
    assert not list(tmp_path.rglob("*.part"))


def test_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("not a folder")
    cache = FeatureCache(tmp_path / "features")
    write(cache, 1)
    assert read(cache, 1) is None
    assert cache.warning is not None
    assert cache.stats().entries == 0


def test_undeletable_entry_is_reported(cache: FeatureCache) -> None:
    write(cache, 1)
    entry(cache, 1).unlink()
    entry(cache, 1).mkdir()
    with pytest.raises(SourceError, match="cannot delete"):
        cache.clear()
