"""Time one method of frame extraction once, in a process of its own.

``python -m smolvideo.bench.frame_extraction`` reads an ``ExtractionTask`` as JSON and ends with one
line of JSON. A method (``way``) is a reader of ours, or a decoder in a reference loop as its
documentation shows it.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smolvideo.readers import READERS, open_video

LOWER_BOUND = "floor"
BASELINE_SUFFIX = " plainly"


@dataclass(frozen=True)
class ExtractionTask:
    """``times`` are seconds on the player's clock, ascending."""

    way: str
    path: str
    times: tuple[float, ...]


@dataclass(frozen=True)
class ExtractionTiming:
    """Seconds of wall and CPU time (of all processes together) from opening to the last frame.

    For the lower bound: of decoding alone; ``decoded`` is the number of packets that must be
    decoded.
    """

    way: str
    wall: float
    cpu: float
    frames: int
    decoded: int | None = None


def time_extraction(task: ExtractionTask) -> ExtractionTiming:
    """Time one extraction. Raises whatever the decoder raises, which ends the measuring process."""
    if task.way == LOWER_BOUND:
        return _lower_bound(task)
    get = _method_for(task.way)
    cpu, started = _cpu_seconds(), time.perf_counter()
    frames, cpu_end = get(task)
    wall = time.perf_counter() - started
    return ExtractionTiming(task.way, wall, cpu_end - cpu, frames)


def _method_for(way: str) -> Callable[[ExtractionTask], tuple[int, float]]:
    """Return the function of a method, which returns the number of frames and the CPU seconds."""
    if way in ("auto", *READERS):
        return _by_reader
    plain = {"pyav": _pyav_loop, "opencv": _opencv_loop, "decord": _decord_loop}
    count = plain[way.removesuffix(BASELINE_SUFFIX)]
    # Imports are no part of decoding.
    __import__(
        {"pyav": "av", "opencv": "cv2", "decord": "decord"}[way.removesuffix(BASELINE_SUFFIX)]
    )

    def get(task: ExtractionTask) -> tuple[int, float]:
        found = count(task)
        return found, _cpu_seconds()

    return get


def _by_reader(task: ExtractionTask) -> tuple[int, float]:
    """Extract by a reader of ours, the start of its decoding process included."""
    with open_video(task.path, reader=task.way) as reader:
        return sum(1 for _ in reader.frames_at(task.times)), _cpu_seconds()


def _pyav_loop(task: ExtractionTask) -> int:
    """Seek to the key frame before each time, and decode on to it."""
    import av

    found = 0
    with av.open(task.path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "AUTO"
        for seconds in task.times:
            wanted = int(seconds / stream.time_base)
            container.seek(wanted, stream=stream)
            shown = None
            for frame in container.decode(stream):
                if shown is not None and frame.pts > wanted:
                    break
                shown = frame
            if shown is not None:
                shown.to_ndarray(format="rgb24")
                found += 1
    return found


def _opencv_loop(task: ExtractionTask) -> int:
    import cv2

    found = 0
    capture = cv2.VideoCapture(task.path)
    for seconds in task.times:
        capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * seconds)
        read, image = capture.read()
        if read:
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            found += 1
    capture.release()
    return found


def _decord_loop(task: ExtractionTask) -> int:
    import decord

    video = decord.VideoReader(task.path)
    rate = video.get_avg_fps()
    places = [min(len(video) - 1, round(seconds * rate)) for seconds in task.times]
    return len(video.get_batch(places).asnumpy())


# ---------------------------------------------------------------------- the floor


def _lower_bound(task: ExtractionTask) -> ExtractionTiming:
    """Lower bound: decode the packets from each key frame to the wanted frame, and nothing else,
    with as many threads as there are cores; only decoding is timed."""
    import av

    with av.open(task.path) as container:
        runs = _must_be_decoded(container, task.times)
    wall = cpu = 0.0
    decoded = 0
    with av.open(task.path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "AUTO"
        for key_pts, count in runs:
            container.seek(key_pts, stream=stream)
            packets = [packet for packet, _ in zip(container.demux(stream), range(count))]  # noqa: B905
            started, cpu_started = time.perf_counter(), time.process_time()
            for packet in packets:
                packet.decode()
            stream.codec_context.decode(None)
            wall += time.perf_counter() - started
            cpu += time.process_time() - cpu_started
            decoded += len(packets)
    return ExtractionTiming(LOWER_BOUND, wall, cpu, len(task.times), decoded)


def _must_be_decoded(container: Any, times: Sequence[float]) -> list[tuple[int, int]]:
    """Return (pts of a key frame, packets from it to the last wanted frame of its GOP)."""
    stream = container.streams.video[0]
    origin = (container.start_time or 0) / 1e6
    packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.size]
    place_of = {pts: place for place, (pts, _) in enumerate(packets)}
    appearances = sorted(place_of)
    runs: dict[int, int] = {}
    for seconds in times:
        ticks = (seconds + origin + 0.0005) / stream.time_base
        shown = max((pts for pts in appearances if pts <= ticks), default=appearances[0])
        last = place_of[shown]
        key = max(place for place in range(last + 1) if packets[place][1])
        runs[key] = max(runs.get(key, 0), last - key + 1)
    return [(packets[key][0], count) for key, count in sorted(runs.items())]


def _cpu_seconds() -> float:
    """CPU seconds of this process and its children."""
    import psutil

    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def main(text: str) -> None:
    given = json.loads(text)
    task = ExtractionTask(given["way"], str(Path(given["path"])), tuple(given["times"]))
    print(json.dumps(asdict(time_extraction(task))))  # noqa: T201 -- its result


if __name__ == "__main__":
    main(sys.argv[1])
