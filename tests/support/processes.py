"""Decoder processes of the test process."""

from contextlib import suppress

import psutil


def decoding() -> set[int]:
    """Return their ids, including those of other tests with an open video."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has just ended
            if "smolvideo.readers.decoder_worker" in child.cmdline():
                found.add(child.pid)
    return found
