"""Claims: which process indexes a video, so that two processes do not do the same work.

A claim of this machine counts while its process runs; one of another machine, whose processes are
unknown here, for ``LEASE_SECONDS`` after it was renewed.
"""

import time
from platform import node

LEASE_SECONDS = 1800.0
"""A window takes minutes at most, and the claim is renewed with each."""


def this_process() -> str:
    """Return what a claim says of its owner: machine, process id, when the process began, and the
    time now, all of times in seconds since 1970."""
    import psutil

    own = psutil.Process()
    return f"{_machine()} {own.pid} {own.create_time():.2f} {time.time():.0f}"


def is_same_owner(one: str, other: str) -> bool:
    """Whether two claims are of one process, whenever they were renewed."""
    return one.split()[:3] == other.split()[:3]


def is_alive(owner: str) -> bool:
    """Whether the process of a claim may still work: process ids are used again, and a process
    that was killed keeps its id until its parent asks for its exit code."""
    import psutil

    try:
        machine, number, began, renewed = owner.split()
        if machine != _machine():
            return abs(time.time() - float(renewed)) < LEASE_SECONDS
        process = psutil.Process(int(number))
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return bool(abs(process.create_time() - float(began)) < 1.0)
    except (psutil.Error, ValueError, OverflowError):
        return False


def _machine() -> str:
    return "".join(node().split()) or "?"
