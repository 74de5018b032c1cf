"""The decoding processes of the process that runs the tests."""

from contextlib import suppress

import psutil


def decoding() -> set[int]:
    """Their ids, those of other tests that keep a video open included."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended just now
            if "smolvideo.readers.decoder_worker" in child.cmdline():
                found.add(child.pid)
    return found
