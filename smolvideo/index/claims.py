"""Claims: which process indexes a video, so that two processes do not do the same work."""


def this_process() -> str:
    """Return what a claim says of its owner: the process id, and when the process began."""
    import psutil

    own = psutil.Process()
    return f"{own.pid} {own.create_time():.2f}"


def is_alive(owner: str) -> bool:
    """Whether the process of a claim still runs: process ids are used again."""
    import psutil

    try:
        number, began = owner.split()
        return bool(abs(psutil.Process(int(number)).create_time() - float(began)) < 1.0)
    except (psutil.Error, ValueError, OverflowError):
        return False
