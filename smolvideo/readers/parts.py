"""Finding the parts of a file: which formats can hold several clocks, and who reads them.

transport_parts.py  MPEG transport streams
flv_tags.py         Flash Video
boxes.py            MP4, fragmented or joined
chained.py          Matroska, ASF and Ogg, joined
here                MPEG program streams (VOB), by FFmpeg's demuxer
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from smolvideo.readers.boxes import find_stretches
from smolvideo.readers.chained import (
    ASF,
    EBML,
    OGG,
    find_asf_stretches,
    find_matroska_stretches,
    find_ogg_stretches,
)
from smolvideo.readers.clocks import Part, Stamps, find_breaks, is_discontinuous, make_part
from smolvideo.readers.flv_tags import MAGIC, find_flv_parts
from smolvideo.readers.slices import Stretch
from smolvideo.readers.timeline import open_container, packet_ticks, sturdy_packets
from smolvideo.readers.transport_packets import layout_of
from smolvideo.readers.transport_parts import find_transport_parts

_HEAD = 4096
_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"wide", b"skip")
_PACK = b"\x00\x00\x01\xba"
_FRAMES_OF_A_PART = 3
"""Where parts have fewer frames than that, times are noise, and say nothing of clocks."""


def find_parts(path: Path) -> list[Part]:
    """The stretches of a local file that are on one clock each, in their order.

    Empty for formats that have an index or no clock, and where there is nothing to tell apart.
    Every packet's header is read where only that is certain.

    Raises OSError where the file cannot be read.
    """
    state = path.stat()
    return list(_find_parts(path, (state.st_size, state.st_mtime_ns)))


@lru_cache(maxsize=8)
def _find_parts(path: Path, _: tuple[int, int]) -> tuple[Part, ...]:
    """Of a file in the state (size and time of change) in which it was last seen."""
    import av

    with path.open("rb") as file:
        head = file.read(_HEAD)
    layout = layout_of(head)
    try:
        if layout is not None:
            parts = find_transport_parts(path, layout, lambda: _best_stream_id(path))
        elif head.startswith(MAGIC):
            parts = find_flv_parts(path)
        elif head[4:8] in _BOXES:
            parts = _find_joined_parts(path, find_stretches)
        elif head.startswith(EBML):
            parts = _find_joined_parts(path, find_matroska_stretches)
        elif head.startswith(ASF):
            parts = _find_joined_parts(path, find_asf_stretches)
        elif head.startswith(OGG):
            parts = _find_joined_parts(path, find_ogg_stretches)
        elif head.startswith(_PACK):
            parts = _find_program_parts(path)
        else:
            return ()
    except av.error.FFmpegError:
        return ()  # who opens the file says why it cannot be read
    frames = sum(part.num_frames for part in parts)
    noise = len(parts) * _FRAMES_OF_A_PART > max(frames, 2 * _FRAMES_OF_A_PART)
    return () if noise else tuple(parts)


def _best_stream_id(path: Path) -> int:
    """The id of the video stream that FFmpeg would take."""
    with open_container(path) as container:
        best = container.streams.best("video")
        return int(best.id) if best is not None else 0


def _find_joined_parts(path: Path, find: Callable[[BinaryIO, int], list[Stretch]]) -> list[Part]:
    """Files of formats with an index, one after the other."""
    end = path.stat().st_size
    with path.open("rb") as file:
        stretches = find(file, end)
    if len(stretches) < 2:
        return []
    return _measured(path, stretches)


def _find_program_parts(path: Path) -> list[Part]:
    end = path.stat().st_size
    stamps, others = _read_stamps(path)
    starts = [0]
    with path.open("rb") as file:
        # Times of presentation are made up next to a discontinuity, those of decoding are not.
        stamps = replace(stamps, shown=stamps.decoded)
        for place in find_breaks(stamps, others):
            before, first = int(stamps.positions[place - 1]), int(stamps.positions[place])
            file.seek(before)
            pack = file.read(first - before).rfind(_PACK)
            starts.append(before + pack if pack > 0 else first)
    if len(starts) < 2:
        return []
    parts = _measured_program(path, stamps, [*starts, end])
    joints = [
        part.stretch.start for before, part in pairwise(parts) if is_discontinuous(before, part)
    ]
    return (
        parts
        if len(joints) == len(parts) - 1
        else _measured_program(path, stamps, [0, *joints, end])
    )


def _measured_program(path: Path, stamps: Stamps, bounds: Sequence[int]) -> list[Part]:
    return _measured(path, [Stretch(*ends, "mpeg") for ends in pairwise(bounds)], stamps)


def _measured(path: Path, stretches: Sequence[Stretch], known: Stamps | None = None) -> list[Part]:
    """The parts as they are when read alone: next to a discontinuity, FFmpeg makes up times.

    Of those that cannot be read alone, as no key frame is in them, what is ``known``.
    """
    import av

    parts: list[Part] = []
    lost = False
    for stretch in stretches:
        try:
            stamps, _ = _read_stamps(path, stretch)
        except av.error.FFmpegError:
            stamps = _stamps([])
            lost = known is None
        if not len(stamps) and known is not None:
            ends = np.searchsorted(known.positions, (stretch.start, stretch.end))
            stamps = known.within(*map(int, ends))
        if len(stamps):
            part = make_part(stretch, stamps, wraps=known is not None)
            parts.append(replace(part, lost_before=lost))
            lost = False
    if parts and lost:
        parts[-1] = replace(parts[-1], lost_after=True)
    return parts


def _read_stamps(path: Path, stretch: Stretch | None = None) -> tuple[Stamps, Stamps]:
    """The stamps of the video that FFmpeg would take, and those of its sound, by its demuxer."""
    watched: list[tuple[float, float, int]] = []
    others: list[tuple[float, float, int]] = []
    position = 0
    with open_container(path, stretch) as container:
        best = container.streams.best("video")
        if best is None:
            return _stamps([]), _stamps([])
        for packet in sturdy_packets(container, best, *container.streams.audio):
            shown = packet_ticks(packet)
            position = max(position, packet.pos or 0)
            if shown is None or not packet.size or packet.is_discard:
                continue
            decoded = packet.dts if packet.dts is not None else shown
            tick = float(packet.time_base)
            found = watched if packet.stream_index == best.index else others
            found.append((decoded * tick, shown * tick, position))
    return _stamps(watched), _stamps(others)


def _stamps(found: Sequence[tuple[float, float, int]]) -> Stamps:
    table = np.asarray(found, dtype=np.float64).reshape(-1, 3)
    return Stamps(table[:, 0], table[:, 1], table[:, 2].astype(np.int64))
