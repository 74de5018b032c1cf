"""decord reader, for comparison with programs that use decord (0.6.0, of 2021).

It reads from the beginning and never seeks, because decord's seeking returns wrong frames on open
GOPs and some 10-bit streams. Refused are files that go wrong even so: transport streams, on which
decord can hang, and files whose frame list does not match the decoded frames (edit lists, hidden
frames). Features it does not support are refused by a check against PyAV (``probe.py``); its RGB
conversion is BT.601 whatever the file says.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from smolvideo.errors import ReaderError
from smolvideo.frames import Frame, Images, VideoMetadata
from smolvideo.readers.base import VideoReader, check_frame_size, frames_on_screen
from smolvideo.readers.encryption import transport_packet_bytes
from smolvideo.readers.external_references import names_a_sequence, refuse_text
from smolvideo.readers.heartbeat import beat
from smolvideo.readers.probe import Probe, check_against_probe, refuse_unseen

_HINT = "the reader `pyav` reads most"


class DecordReader(VideoReader):
    """See :class:`~smolvideo.readers.base.VideoReader`.

    Raises:
        ReaderError: decord is not installed, cannot open the file, or would read it wrongly.
    """

    name = "decord"

    def __init__(self, path: Path, witness: Probe | None = None) -> None:
        self._path = path
        self._witness = witness
        # Refuse what decord would read wrongly, before it opens the file.
        refuse_text(path)
        if names_a_sequence(path):
            raise ReaderError(
                f"the reader `decord` takes `{path.name}` for a sequence of pictures", hint=_HINT
            )
        refuse_unseen(witness, self.name, path.name)
        self._decord = _import_decord()
        if _is_transport_stream(path):
            raise ReaderError(
                f"the reader `decord` can hang on transport streams like `{path.name}`", hint=_HINT
            )
        self._video: Any
        self._start_over()
        self._times = self._read_times()
        # Compare frame times and size with the probe, and shift the end to the player's clock.
        first = self._next()
        check_frame_size(first.shape[1], first.shape[0], path.name)
        size = first.shape[1], first.shape[0]
        self._end -= self._times[0]
        self._times = check_against_probe(witness, self.name, path.name, self._times, size)
        self._end += self._times[0]
        rate = float(self._video.get_avg_fps())
        self.metadata = VideoMetadata(
            width=first.shape[1],
            height=first.shape[0],
            duration_seconds=self._end,
            num_frames=len(self._times),
            average_fps=rate if rate > 0 else None,
            reader=self.name,
            name=path.name,
            first_pts_seconds=self._times[0],
            last_pts_seconds=self._times[-1],
        )

    def close(self) -> None:
        self._video = None

    def frame_times(self) -> list[float]:
        return list(self._times)

    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        if keyframes:
            raise self.key_frames_unsupported()
        return frames_on_screen(self._times, seconds, self._frame, max_side)

    def _frame(self, index: int) -> Images:
        if index < self._place:
            self._start_over()
        # decord's own skip_frames jumps to wrong frames in fragmented files.
        while self._place < index:
            self._next()
        return self._next()

    def _next(self) -> Images:
        try:
            image: Images = self._video.next().asnumpy()
        except (self._decord.DECORDError, StopIteration) as error:
            raise self._damaged() from error
        self._place += 1
        beat()
        return image

    def _damaged(self) -> ReaderError:
        return ReaderError(f"decord cannot decode `{self._path.name}` to its end", hint=_HINT)

    def _start_over(self) -> None:
        try:
            self._video = self._decord.VideoReader(str(self._path))
        except (self._decord.DECORDError, RuntimeError) as error:
            raise ReaderError(f"decord cannot open `{self._path.name}`", hint=_HINT) from error
        self._place = 0

    def _read_times(self) -> list[float]:
        """Read frame times; decord lists packets, and its indices are off if some are not shown."""
        stamps = self._video.get_frame_timestamp(list(range(len(self._video))))
        times = [float(start) for start in stamps[:, 0]]
        self._end = float(stamps[-1, 1]) if len(stamps) else 0.0
        hidden = any(time < 0 for time in times)
        if not times or hidden or any(later <= earlier for earlier, later in pairwise(times)):
            raise ReaderError(
                f"decord miscounts the frames of `{self._path.name}` (hidden or untimed ones)",
                hint=_HINT,
            )
        return times


def _is_transport_stream(path: Path) -> bool:
    """Detect a transport stream by its sync bytes, or, if they are damaged, by its suffix."""
    with path.open("rb") as file:
        head = file.read(2048)
    named = path.suffix.lower() in {".ts", ".mts", ".m2ts"}
    return named or transport_packet_bytes(head) is not None


def _import_decord() -> Any:
    try:
        import decord
    except (ImportError, OSError) as error:
        raise ReaderError(
            "the reader `decord` is not installed", hint="pip install 'smolvideo[readers]'"
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord
