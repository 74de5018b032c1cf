"""Faulty checks for the tests of ``smolvideo doctor``: hang, crash, exit, fail, print."""

import os
import sys
import time

from smolvideo.doctor.isolated import Finding, Surroundings, ok


def hang(_: Surroundings) -> Finding:
    time.sleep(3600)
    return ok("awake")


def crash(_: Surroundings) -> Finding:
    os.abort()


def leave(_: Surroundings) -> Finding:
    os._exit(3)


def fail(_: Surroundings) -> Finding:
    raise ZeroDivisionError("division by zero")


def shout(surroundings: Surroundings) -> Finding:
    sys.stdout.write("not JSON\n")
    os.write(1, b"\x00 nor this\n")
    return ok(f"offline: {surroundings.offline}")
