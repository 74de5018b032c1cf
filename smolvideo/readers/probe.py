"""What PyAV knows of a file and the other readers cannot tell: where they would be wrong.

Their decoders give no clock of the container, no field order, no transfer curve and no mirroring,
and their lists of frames are off in some files. Reading the packets once shows all of this. What
PyAV cannot open is taken as they give it: then nobody knows better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from smolvideo.errors import ReaderError

_NEAR = 0.002
"""Seconds that the times of the same frame may differ by: OpenCV counts in milliseconds."""
_HINT = "the reader `pyav` reads it"


@dataclass(frozen=True)
class Probe:
    """``unsupported_features`` says in words what decoders without side data would show wrongly;
    ``times`` are those of all frames, on the player's clock.
    """

    unsupported_features: str
    width: int
    height: int
    times: Sequence[float]


def refuse_unseen(witness: Probe | None, reader: str, name: str) -> None:
    """Raise ReaderError where ``reader`` cannot honour what the file ``name`` holds."""
    if witness is not None and witness.unsupported_features:
        raise _refusal(name, reader, f"it knows nothing of {witness.unsupported_features}")


def check_against_probe(
    witness: Probe | None, reader: str, name: str, times: Sequence[float], size: tuple[int, int]
) -> list[float]:
    """The ``times`` that ``reader`` found in the file ``name``, on the player's clock.

    Raises ReaderError where its pictures, of ``size`` (width, height), would not be those that a
    player shows at these times.
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
