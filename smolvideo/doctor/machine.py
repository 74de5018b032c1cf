"""Processor, folders, disks, checkpoints of the hub's cache, downloads of videos, and the hub."""

import os
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

from smolvideo.credentials import without_credentials
from smolvideo.doctor.isolated import Finding, Surroundings, fault, note, ok
from smolvideo.errors import ModelError, plain_reason
from smolvideo.files import make_folders
from smolvideo.models import MODELS, LocalCheckpoint, list_local, read_checkpoint
from smolvideo.models.downloading import free_bytes
from smolvideo.models.hub import is_offline
from smolvideo.models.json_files import read_json
from smolvideo.models.local_cache import hub_cache

HUB_TIMEOUT_SECONDS = 3.0

AGED_DAYS, STALE_DAYS = 90, 180
"""Age of yt-dlp from which it warns by itself, and from which large sites rarely work."""

_FEATURES = {
    **{"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX-512", "avx2": "AVX2"},
    **{"svebf16": "SVE-BF16", "bf16": "BF16", "asimd": "NEON"},
}
"""Name in /proc/cpuinfo → instruction set that torch or the kernels use."""

_MODEL_TYPES = ("idefics3", "smolvlm")
"""``model_type`` of checkpoints of this family."""

_MIN_CACHE_BYTES = 500_000_000
"""Below it downloaded videos and frame features have no room."""
_PROBE = bytes(range(256)) * 16


def check_processor(_: Surroundings) -> Finding:
    """Name, cores, and instruction sets."""
    from smolvideo.engines.devices import available_cores, cpu_features, processor_name

    features = cpu_features()
    known = [name for flag, name in _FEATURES.items() if features is not None and flag in features]
    cores = available_cores()
    parts = [processor_name(), f"{cores} {'core' if cores == 1 else 'cores'}", *known]
    found = ", ".join(parts)
    if features and not known:
        return note(found, "torch is slow on it; a model of 256M is the most that it carries")
    return ok(found)


def check_folders(surroundings: Surroundings) -> Finding:
    """What is kept can be written and read again."""
    problems = {}
    for name, folder in surroundings.folders.items():
        if not folder:
            problems[name] = f"no folder for {name}: the user has no home folder"
            continue
        try:
            _write_and_read(Path(folder))
        except OSError as error:
            problems[name] = f"`{folder}` ({name}): {plain_reason(error.strerror or error)}"
    if problems:
        hint = f"let {' and '.join(map(_variable, problems))} name a folder that can be written"
        return fault(f"not writable: {'; '.join(problems.values())}", hint)
    return ok(f"can be written: {', '.join(surroundings.folders)}")


def _variable(name: str) -> str:
    variables = {"models": "HF_HOME", "conversations": "SMOLVIDEO_DATA_DIR"}
    variables["settings"] = "SMOLVIDEO_CONFIG"
    return variables.get(name, "SMOLVIDEO_CACHE_DIR")


def _write_and_read(folder: Path) -> None:
    """Write a file in ``folder`` and read it; what was not there is deleted again."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        make_folders(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            if file.read() != _PROBE:
                raise OSError("what was written is not what is read")
    finally:
        for one in missing:
            with suppress(OSError):
                one.rmdir()


def check_disk(surroundings: Surroundings) -> Finding:
    """Free space for models and caches."""
    sizes = {spec.name: spec.download_bytes for spec in MODELS.values() if spec.download_bytes}
    smallest = min(sizes, key=lambda name: sizes[name])
    needed = {"models": sizes[smallest], "cache": _MIN_CACHE_BYTES}
    free = {
        name: free_bytes(Path(folder))
        for name, folder in surroundings.folders.items()
        if folder and name in needed
    }
    found = ", ".join(f"{size / 1e9:.1f} GB are free for {name}" for name, size in free.items())
    short = [name for name, size in free.items() if size < needed[name]]
    if short:
        variables = " and ".join(map(_variable, short))
        least = ", ".join(f"{needed[name] / 1e9:.1f} GB for {name}" for name in short)
        hint = (
            "make room (`smolvideo cache clear`, `smolvideo models rm NAME`), or let "
            f"{variables} name another disk"
        )
        return fault(f"{found}: at least {least} are needed", hint)
    fitting = [name for name, size in sizes.items() if size <= free.get("models", 0)]
    largest = max(fitting, key=lambda name: sizes[name], default=None)
    return ok(f"{found}; room for {largest}" if largest else found)


def check_models(_: Surroundings) -> Finding:
    """Checkpoints in the hub's cache are complete by their headers."""
    local = [*list_local(), *_broken_fine_tunes()]
    without = [one for one in local if one.problem is not None and not one.has_weights]
    broken = [one for one in local if one.problem is not None and one not in without]
    if broken:
        problems = "; ".join(f"{one.name}: {one.problem}" for one in broken)
        return fault(problems, "; ".join(one.repair for one in broken))
    here = [
        f"{one.name} ({one.size_bytes / 1e9:.1f} GB)" for one in local if one.problem is None
    ] or ["none is here but nano"]
    if without:
        names = ", ".join(one.name for one in without)
        pulls = " ".join(one.name for one in without)
        hint = f"`smolvideo models pull {pulls}` fetches them"
        return note(f"{', '.join(here)}; without weights: {names}", hint)
    return ok(", ".join(here))


def _broken_fine_tunes() -> Iterator[LocalCheckpoint]:
    """Yield checkpoints of this family in the hub's cache that ``list_local`` leaves out: broken
    ones under other names than the published."""
    listed = {one.folder.parent for one in list_local()}
    for file in sorted(hub_cache().glob("models--*--*/snapshots/*/config.json")):
        folder = file.parent
        if folder.parent in listed:
            continue
        repo_id = folder.parents[1].name.removeprefix("models--").replace("--", "/", 1)
        with suppress(ModelError):  # not JSON: of whatever family
            if read_json(file).get("model_type") not in _MODEL_TYPES:
                continue
            try:
                read_checkpoint(folder, name=repo_id)
            except ModelError as error:
                yield LocalCheckpoint(repo_id, repo_id, folder.name, folder, 0, str(error))


def check_ytdlp(_: Surroundings) -> Finding:
    """yt-dlp can be imported, and is not old: sites change often."""
    from yt_dlp.version import __version__

    found, update = f"yt-dlp {__version__}", "`pip install --upgrade yt-dlp`"
    try:
        year, month, day = map(int, __version__.split(".")[:3])
        age = (_today() - date(year, month, day)).days
    except ValueError:
        return note(f"{found}: its age is unknown", update)
    if age > AGED_DAYS:
        finding = fault if age > STALE_DAYS else note
        return finding(f"{found} is {age} days old: downloads from large sites fail", update)
    return ok(f"{found}, {max(0, age)} days old")


def _today() -> date:
    return date.today()


def check_javascript(_: Surroundings) -> Finding:
    """The JavaScript runtime that yt-dlp wants, with its scripts."""
    from importlib.util import find_spec

    import yt_dlp

    try:
        from yt_dlp.globals import supported_js_runtimes
    except ImportError:  # before 2025.11.12
        return ok(f"yt-dlp {yt_dlp.version.__version__} wants no runtime")
    runtime = supported_js_runtimes.value["deno"]().info  # yt-dlp enables no other by default
    missing = []
    if runtime is None or not runtime.supported:
        old = f" (deno {runtime.version} is too old)" if runtime else ""
        missing.append((f"deno{old}", "install deno (https://deno.com)"))
    if find_spec("yt_dlp_ejs") is None:
        missing.append(("yt-dlp-ejs", "`pip install yt-dlp-ejs`"))
    if missing:
        found, hints = (" and ".join(parts) for parts in zip(*missing, strict=True))
        return note(f"YouTube hands out few formats without {found}", f"for YouTube: {hints}")
    assert runtime is not None
    return ok(f"deno {runtime.version}, yt-dlp-ejs")


def check_hub(surroundings: Surroundings) -> Finding:
    """The hub answers within ``HUB_TIMEOUT_SECONDS``."""
    if surroundings.offline or is_offline():
        return Finding("", "skipped", "offline")
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    shown = without_credentials(endpoint)
    outcome: list[str] = []
    # In a thread: looking up a name has no timeout of its own.
    asking = threading.Thread(target=lambda: outcome.append(_ask_hub(endpoint)), daemon=True)
    asking.start()
    asking.join(HUB_TIMEOUT_SECONDS)
    problem = outcome[0] if outcome else f"no answer in {HUB_TIMEOUT_SECONDS:g} seconds"
    if not problem:
        return ok(f"{shown} answers")
    hint = "check the network, HTTPS_PROXY and HF_ENDPOINT; models that are here need no hub"
    return fault(f"{shown} cannot be reached: {problem}", hint)


def _ask_hub(endpoint: str) -> str:
    """Return what is wrong with the hub; an empty string if it answers."""
    if not endpoint.startswith(("http://", "https://")):
        return "HF_ENDPOINT is no http(s) address"
    repo = next(spec.repo_id for spec in MODELS.values() if spec.repo_id)
    request = urllib.request.Request(f"{endpoint}/api/models/{repo}", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}" if error.code >= 500 else ""
    except (OSError, ValueError) as error:
        return plain_reason(str(getattr(error, "reason", error)))
