"""Small files that a person names, which may be the pipes that shells put in place of files."""

import errno
import os
import stat
from pathlib import Path


def read_file_or_pipe(path: Path, most_bytes: int = -1) -> bytes:
    """The content of a file, or of a pipe that somebody writes into, as ``<(command)`` gives it.

    At most ``most_bytes`` are read, all with -1.

    Raises:
        OSError: as reading raises it; also for a pipe without a writer, which would never end, and
            for a device.
        ValueError: not a path.
    """
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.ENODEV, "it is a device, not a file")
    if not stat.S_ISFIFO(mode):
        with path.open("rb") as file:
            return file.read(most_bytes)
    # Opened in the ordinary way it would wait for a writer that may never come.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as pipe:
        try:
            begins = os.read(descriptor, 1)
        except BlockingIOError:  # somebody holds it, and has not written yet
            begins = None
        if begins == b"":
            raise OSError(errno.ENXIO, "it is a pipe, and nobody writes into it")
        os.set_blocking(descriptor, True)
        begins = begins or b""
        return begins + pipe.read(-1 if most_bytes < 0 else max(0, most_bytes - len(begins)))
