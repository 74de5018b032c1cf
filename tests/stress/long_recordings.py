"""Measure CPU seconds and peak memory of `frames` and `ask` over the length of a recording.

    python tests/stress/long_recordings.py --minutes 10 60 180 --output runs.json

Four kinds of recordings: MP4 with a key frame every two seconds, transport streams with key frames
every half second and every ten seconds, and MP4 with a single key frame. Exits with 1 if the CPU
seconds of one kind grow faster than the allowed power of the duration, or if a process takes more
memory than allowed. With a single key frame everything before a shown frame must be decoded: only
its memory is limited.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import clipmaker

ALLOWED_EXPONENT = 0.2
ALLOWED_MEGABYTES = 500
WIDTH, HEIGHT = 640, 360
TICK = Fraction(1, 90_000)
COMMANDS = {
    "frames": ("frames", "{}", "--model", "nano", "--filmstrip", "none", "--json"),
    "ask": ("ask", "{}", "What is shown?", "--model", "nano", "--quiet"),
}


@dataclass(frozen=True)
class Kind:
    """Encoding of a recording; ``key_seconds`` None is a single key frame."""

    name: str
    suffix: str
    fps: int
    key_seconds: float | None


KINDS = (
    Kind("mp4", ".mp4", 25, 2.0),
    Kind("ts-dense", ".ts", 25, 0.5),
    Kind("ts-sparse", ".ts", 25, 10.0),
    Kind("mp4-one-key", ".mp4", 5, None),
)


@dataclass(frozen=True)
class Run:
    """One command on one recording: CPU seconds of all processes, megabytes of the largest one."""

    minutes: int
    cpu_seconds: float
    peak_megabytes: float


@dataclass(frozen=True)
class Growth:
    """Runs of one command on recordings of one kind, in ascending length."""

    kind: str
    command: str
    runs: tuple[Run, ...]
    exponent: float
    is_within_limits: bool


def write_recording(kind: Kind, minutes: int, folder: Path) -> Path:
    """Encode one minute and repeat it; a single GOP is encoded as a whole."""
    path = folder / f"{kind.name}-{minutes}{kind.suffix}"
    if kind.key_seconds is None:
        _encode(kind, path, 60 * minutes)
        return path
    minute = folder / f"{kind.name}-minute{kind.suffix}"
    if not minute.exists():
        _encode(kind, minute, 60)
    with av.open(str(minute)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        times = [(packet.pts, packet.dts) for packet in packets]
        copied = target.add_stream_from_template(stream)
        length = round(60 / packets[0].time_base)
        contents = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(minutes):
            for (content, is_key), (pts, dts) in zip(contents, times, strict=True):
                packet = av.Packet(content)
                packet.pts, packet.dts = pts + number * length, dts + number * length
                packet.time_base, packet.stream = stream.time_base, copied
                packet.is_keyframe = is_key
                target.mux(packet)
    return path


def _encode(kind: Kind, path: Path, seconds: int) -> None:
    gop = 2**20 if kind.key_seconds is None else round(kind.key_seconds * kind.fps)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=kind.fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.options = {"preset": "ultrafast", "crf": "28", "sc_threshold": "0"}
        for number in range(seconds * kind.fps):
            # The number changes every two seconds: most frames repeat the one before.
            image = clipmaker.numbered_image(number // (2 * kind.fps), WIDTH, HEIGHT)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, kind.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def run(command: Sequence[str], path: Path, minutes: int) -> Run:
    """Run ``command`` on the recording; SystemExit with what it wrote to stderr if it fails."""
    words = [word.replace("{}", str(path)) for word in command]
    process = subprocess.Popen(
        [sys.executable, "-m", "smolvideo", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    told = process.stderr.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}: {told}")
    return Run(minutes, round(usage.ru_utime + usage.ru_stime, 2), round(usage.ru_maxrss / 1024))


def measure(kinds: Sequence[Kind], lengths: Sequence[int], work: Path) -> Iterator[Growth]:
    """Print a line per kind and command, and yield its figures."""
    for kind in kinds:
        found: dict[str, list[Run]] = {name: [] for name in COMMANDS}
        for minutes in lengths:
            path = write_recording(kind, minutes, work)
            for name, command in COMMANDS.items():
                found[name].append(run(command, path, minutes))
            path.unlink()
        for name, runs in found.items():
            growth = runs[-1].cpu_seconds / runs[0].cpu_seconds
            exponent = math.log(growth) / math.log(lengths[-1] / lengths[0])
            cells = "  ".join(
                f"{one.minutes} min {one.cpu_seconds:5.2f} s {one.peak_megabytes:4.0f} MB"
                for one in runs
            )
            print(f"{kind.name:12} {name:7} {cells}  exponent {exponent:.2f}", flush=True)  # noqa: T201
            grows = exponent > ALLOWED_EXPONENT and kind.key_seconds is not None
            peak = max(one.peak_megabytes for one in runs)
            is_within = not grows and peak <= ALLOWED_MEGABYTES
            yield Growth(kind.name, name, tuple(runs), round(exponent, 3), is_within)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=int, nargs="+", default=[10, 60, 180])
    parser.add_argument("--kinds", nargs="+", choices=[kind.name for kind in KINDS])
    parser.add_argument("--output", type=Path, help="file for the figures as JSON")
    given = parser.parse_args()
    kinds = [kind for kind in KINDS if given.kinds is None or kind.name in given.kinds]
    with tempfile.TemporaryDirectory(prefix="smolvideo-trial-") as work:
        found = [*measure(kinds, sorted(given.minutes), Path(work))]
    if given.output is not None:
        lines = json.dumps([asdict(one) for one in found], indent=1)
        given.output.write_text(f"{lines}\n", encoding="utf-8")
    return int(not all(one.is_within_limits for one in found))


if __name__ == "__main__":
    sys.exit(main())
