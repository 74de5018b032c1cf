"""Proxy reader: forwards to a reader in a decoder subprocess, with time and memory limits."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from smolvideo.errors import ReaderError
from smolvideo.frames import Damage, Frame, SubtitleEvent, VideoMetadata
from smolvideo.readers.base import Probe, VideoReader, require_ascending, size_within
from smolvideo.readers.decoder_process import (
    DEFAULT_LIMITS,
    DecoderLimits,
    acquire_process,
    release_process,
)
from smolvideo.readers.ipc import Payload

_SLOT_MEMORY = 64 * 2**20
"""Bytes of shared memory for frames in flight between the processes."""
_MAX_SLOTS = 8
_LARGE_FRAME = 128 * 2**20
"""Frame size in bytes above which a single slot is used."""


class SubprocessReader(VideoReader):
    """See :class:`~smolvideo.readers.base.VideoReader`; ``reader`` names the reader to run.

    A crash, a hang or excessive memory of the decoder is a ReaderError for this file only.
    """

    def __init__(
        self,
        path: Path,
        reader: str,
        limits: DecoderLimits = DEFAULT_LIMITS,
        *,
        probe: Probe | None = None,
    ) -> None:
        self._file = path.name or str(path)
        self._process = acquire_process(limits, reader)
        self._open = True
        self._streaming = 0
        try:
            answer = self._process.request(
                "open",
                self._file,
                path=str(path.absolute()),
                reader=reader,
                probe=None if probe is None else asdict(probe),
            )
            self.metadata = VideoMetadata(**answer["metadata"])
        except TypeError as error:
            self.close()
            raise ReaderError(f"the decoder of `{self._file}` talks nonsense") from error
        except BaseException:
            self.close()
            raise
        self.name = self.metadata.reader

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._process.is_alive():
            try:
                self._process.request("close", self._file)
            except ReaderError:
                self._process.kill()
                return
        release_process(self._process)

    def frame_times(self) -> list[float]:
        return self._times("frame_times")

    def key_frame_times(self) -> list[float]:
        return self._times("key_frame_times")

    def probe(self) -> Probe | None:
        known = self._ask("probe")["probe"]
        return None if known is None else Probe(**known)

    def text_track(self) -> list[SubtitleEvent]:
        texts = self._ask("text_track")["texts"]
        return [SubtitleEvent(**text) for text in texts]

    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        times = require_ascending(seconds)
        if not times:
            return
        self._check_open()
        if self._process.is_busy:  # an earlier request has frames that were not consumed
            self._process.request("stop", self._file)
        slots, slot_bytes = self._reserve(max_side)
        number = self._streaming = self._process.send_request(
            "frames",
            self._file,
            seconds=times,
            longest=max_side,
            keyframes=keyframes,
            slots=slots,
            slot_bytes=slot_bytes,
        )
        last: Frame | None = None
        while True:
            if number != self._streaming:
                raise RuntimeError("the reader was asked for other frames meanwhile")
            answer = self._process.receive(number, self._file)
            if answer.get("done"):
                self._process.mark_idle()
                return
            if last is None or not answer.get("same"):
                last = self._received(answer)
            yield last

    def _received(self, answer: Payload) -> Frame:
        try:
            image = self._process.slots.read(answer["slot"], tuple(answer["shape"]))
            damage = answer["damage"]
            if damage not in get_args(Damage):
                raise ValueError(damage)
            frame = Frame(image, float(answer["pts"]), damage)
        except (KeyError, TypeError, ValueError) as error:
            self._process.kill()
            raise ReaderError(f"the decoder of `{self._file}` talks nonsense") from error
        self._process.release_slot(answer["slot"], self._file)
        return frame

    def _reserve(self, max_side: int | None) -> tuple[int, int]:
        """Reserve shared slots for frames of the expected size; return (slots, bytes per slot)."""
        width, height = size_within(self.metadata.width, self.metadata.height, max_side)
        slot_bytes = 3 * width * height
        slots = max(2, min(_MAX_SLOTS, _SLOT_MEMORY // slot_bytes))
        slots = 1 if slot_bytes > _LARGE_FRAME else slots
        shared = self._process.slots
        if (shared.slots, shared.slot_bytes) == (slots, slot_bytes):
            return slots, slot_bytes
        try:
            shared.reserve(slots, slot_bytes)
        except (OSError, ValueError) as error:
            raise ReaderError(f"no memory for frames of {width} x {height} pixels") from error
        return slots, slot_bytes

    def _times(self, which: str) -> list[float]:
        return [float(time) for time in self._ask(which)["times"]]

    def _ask(self, what: str) -> Payload:
        self._check_open()
        self._streaming = 0
        return self._process.request(what, self._file)

    def _check_open(self) -> None:
        if not self._open:
            raise ReaderError(f"`{self._file}` was closed")
