"""Reference values from PyAV that the OpenCV and decord readers are checked against.

Their decoders expose no container clock, field order, transfer curve or mirroring, and their frame
lists are wrong for some files. One demuxing pass with PyAV detects all of this. Files that PyAV
cannot open are not checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from smolvideo.errors import ReaderError

_NEAR = 0.002
"""Tolerance in seconds for times of the same frame: OpenCV counts in milliseconds."""
_HINT = "the reader `pyav` reads it"


@dataclass(frozen=True)
class Probe:
    """Reference values of a file.

    ``unsupported_features`` names what decoders without side data would show wrongly, empty if
    nothing; ``times`` are the presentation times of all frames, on the player's clock.
    """

    unsupported_features: str
    width: int
    height: int
    times: Sequence[float]


def refuse_unseen(witness: Probe | None, reader: str, name: str) -> None:
    """Raise ReaderError if the file ``name`` has features that ``reader`` does not support."""
    if witness is not None and witness.unsupported_features:
        raise _refusal(name, reader, f"it knows nothing of {witness.unsupported_features}")


def check_against_probe(
    witness: Probe | None, reader: str, name: str, times: Sequence[float], size: tuple[int, int]
) -> list[float]:
    """Return the ``times`` that ``reader`` found in the file ``name``, on the player's clock.

    Raises ReaderError if its frame times or its frame size (width, height) differ from the
    reference.
    """
    if witness is None:
        return list(times)
    refuse_unseen(witness, reader, name)
    if (witness.width, witness.height) != size:
        given, shown = f"{size[0]} x {size[1]}", f"{witness.width} x {witness.height}"
        raise _refusal(name, reader, f"{given} pixels instead of {shown}")
    known = list(witness.times)
    shift = known[0] - times[0]
    if len(known) != len(times) or any(
        abs(mine + shift - true) > _NEAR for mine, true in zip(times, known, strict=True)
    ):
        raise _refusal(name, reader, f"it finds {len(times)} frames, not these {len(known)}")
    return known


def _refusal(name: str, reader: str, why: str) -> ReaderError:
    return ReaderError(f"the reader `{reader}` would show `{name}` wrongly: {why}", hint=_HINT)
