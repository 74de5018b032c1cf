"""Checks of this machine: each runs the real feature, isolated in a subprocess.

isolated.py    findings, and the processes with time limits in which checks run
decoding.py    readers decode bundled clips (``clips/``), whose frames are known
computing.py   devices, kernels, a token, an answer of ``nano``, rates and memory
machine.py     processor, folders, disks, checkpoints, downloads, the hub
"""

from smolvideo.doctor.isolated import Check, Finding, Surroundings, examine

__all__ = ["CHECKS", "Check", "Finding", "Surroundings", "examine"]

_DECODING, _COMPUTING, _MACHINE = (
    f"smolvideo.doctor.{name}" for name in ("decoding", "computing", "machine")
)

CHECKS: dict[str, Check] = {
    "processor": Check(f"{_MACHINE}:check_processor"),
    "devices": Check(f"{_COMPUTING}:check_devices"),
    "kernels": Check(f"{_COMPUTING}:check_kernels", compiles=True),
    "token": Check(f"{_COMPUTING}:check_token", compiles=True),
    "nano": Check(f"{_COMPUTING}:check_nano"),
    "pyav": Check(f"{_DECODING}:check_pyav"),
    "opencv": Check(f"{_DECODING}:check_opencv"),
    "decord": Check(f"{_DECODING}:check_decord"),
    "folders": Check(f"{_MACHINE}:check_folders"),
    "disk": Check(f"{_MACHINE}:check_disk"),
    "models": Check(f"{_MACHINE}:check_models"),
    "hub": Check(f"{_MACHINE}:check_hub"),
    "yt-dlp": Check(f"{_MACHINE}:check_ytdlp"),
    "javascript": Check(f"{_MACHINE}:check_javascript"),
    "speed": Check(f"{_COMPUTING}:check_speed", compiles=True, measures=True),
    "memory": Check(f"{_COMPUTING}:check_memory"),
}
"""Name → check, in the order of the table; `memory` predicts with what `speed` measures."""
