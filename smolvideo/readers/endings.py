"""Truncation check: compares the end stated by structure and header with the last packets.

A file is truncated if its last element extends beyond the last byte, or if its header claims a
duration that no stream reaches. Bytes after the last element are something else, such as an
appended file of another format.
"""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

from smolvideo.readers.packet_times import Open, StreamEnd, demux_tolerant, packet_pts
from smolvideo.readers.part_finder import find_end

_UNREAD = 1024
"""Bytes after the last element above which they are more than a tag or checksum."""
_UNREAD_AFTER_PACKETS = 4096
_UNREAD_SHARE = 0.05
"""Same limits after the last packet, where the format may end with an index."""
_PADDING, _PADDING_SHARE = 2**16, 0.25
"""Zero bytes, and their share of the file, above which they are not padding."""
_CLEAR_GAP = 0.5, 0.05
"""Seconds, and share of the claimed duration, by which the packets of a structurally complete file
may fall short of it: headers round, and other streams are longer."""
_GAP = 0.25, 0.01
"""Same limits if the structure does not show that the file is complete."""
_LIE = 20
"""Factor above which the duration claimed by a complete file is an error of the header."""


@dataclass(frozen=True)
class Ending:
    """The end of a file. ``truncated``: the file breaks off. ``missing_bytes``: minimum number of
    bytes missing, if known. ``unread_bytes``: bytes after its end that are something else."""

    truncated: bool = False
    missing_bytes: int = 0
    unread_bytes: int = 0

    def claimed(self, end: float, seconds: float | None) -> float | None:
        """Return the claimed duration ``seconds`` if the file is truncated and ``end``, where its
        packets end, falls short of it; None otherwise."""
        short = self.truncated and seconds is not None and seconds > end + _GAP[0]
        return seconds if short else None


def find_ending(
    path: Path, open_: Open, packets: StreamEnd | None, start: float, claimed_end: float | None
) -> Ending:
    """Compare the end of a file with its last video and audio ``packets``. ``start`` and
    ``claimed_end`` are seconds on the container's clock.

    Reads the last packets of all streams if those of video and audio end early.
    """
    size, structure = path.stat().st_size, find_end(path)
    missing = max(0, structure - size) if structure is not None else 0
    read = packets.behind if packets is not None else None
    unread = _unread(path, size, structure, read)
    if missing or packets is None or claimed_end is None:
        return Ending(bool(missing), missing, unread)
    is_whole = structure is not None and not unread
    length = claimed_end - start
    if is_whole and length > _LIE * (packets.end - start):
        return Ending()
    seconds, share = _CLEAR_GAP if is_whole else _GAP
    # Some headers state the time of the last frame on a clock that does not begin at 0.
    claimed_end = min(claimed_end, length)
    latest = claimed_end - max(seconds + share * length, packets.longest_step)
    early = packets.end < latest and _last_end(open_, claimed_end) < latest
    return Ending(early, 0, unread)


def is_cut(path: Path) -> bool:
    """Return whether the structure of a file extends beyond its last byte. Raises OSError."""
    return (find_end(path) or 0) > path.stat().st_size


def _last_end(open_: Open, claimed_end: float) -> float:
    """Return when the last packet of any stream ends, in seconds of the container's clock."""
    import av

    end = -math.inf
    with open_() as container:
        with contextlib.suppress(av.error.FFmpegError):  # then from the beginning
            container.seek(int(claimed_end * 1e6))
        for packet in demux_tolerant(container):
            ticks = packet_pts(packet)
            if packet.size and ticks is not None:
                end = max(end, (ticks + (packet.duration or 0)) * float(packet.time_base))
    return end


def _unread(path: Path, size: int, structure: int | None, read: int | None) -> int:
    end, allowed = structure, float(_UNREAD)
    if end is None or (read or 0) > end:
        end, allowed = read, max(_UNREAD_AFTER_PACKETS, _UNREAD_SHARE * size)
    if end is None or size - end <= allowed:
        return 0
    if size - end <= min(_PADDING, _PADDING_SHARE * size):
        with path.open("rb") as file:
            file.seek(end)
            if not any(file.read(size - end)):
                return 0
    return size - end
