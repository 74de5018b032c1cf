"""The decoding process: untrusted bytes are opened and decoded here, and only here.

``python -m smolvideo.readers.decoder_worker HANDLE SLOTS MEMORY SILENCE`` serves one file after
another to the program that started it (see ``process.py``), until that program ends or is long
silent. It knows nothing of models, questions or the network.
"""

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smolvideo.errors import ReaderError, SmolVideoError
from smolvideo.frames import Frame
from smolvideo.readers.base import VideoReader
from smolvideo.readers.channel import Channel, Payload
from smolvideo.readers.heartbeat import on_beat
from smolvideo.readers.probe import Probe
from smolvideo.readers.registry import open_in_process
from smolvideo.readers.shared_frames import SharedFrameBuffer

_IDLE_SECONDS = 30.0
"""Without a file for so long, the process ends; the next file gets a new one."""
_BEAT_SECONDS = 0.5
_WORTH_GIVING_BACK = 16 * 2**20
"""Bytes: the frames of a few small videos."""


class DecoderServer:
    """Answers requests about the one file that is open."""

    def __init__(self, channel: Channel, slots: SharedFrameBuffer, silent_seconds: float) -> None:
        self._channel = channel
        self._slots = slots
        self._silent_seconds = silent_seconds
        self._reader: VideoReader | None = None
        self._waiting: Payload | None = None
        self._last_beat = 0.0
        self._memory = _FreedMemory()

    def serve(self) -> None:
        """Until the program goes; OSError or EOFError then."""
        on_beat(self._beat)
        while (request := self._next_request()) is not None:
            self._watch()
            try:
                self._answer(request)
            except (EOFError, BrokenPipeError, ConnectionError):
                raise
            except SmolVideoError as error:
                self._reply_error(request, error)
            except MemoryError:
                self._reply_error(request, ReaderError("it takes more memory than is allowed"))
            except Exception as error:  # raised again in the program, where somebody reads it
                words = f"{type(error).__name__}: {error}"
                self._reply_error(request, ReaderError(f"the decoder failed ({words})"))
            faulthandler.cancel_dump_traceback_later()

    def _answer(self, request: Payload) -> None:
        match request["do"]:
            case "open":
                self._open(request)
            case "frames":
                self._send_frames(request)
            case "frame_times":
                self._reply(request, times=self._opened().frame_times())
            case "key_frame_times":
                self._reply(request, times=self._opened().key_frame_times())
            case "witness":
                found = self._opened().probe()
                self._reply(request, witness=None if found is None else asdict(found))
            case "text_track":
                self._reply(request, texts=[asdict(text) for text in self._opened().text_track()])
            case "close":
                self._close()
                self._reply(request)
                self._memory.give_back()  # nobody waits for it
            case "stop":  # what was sent before has come to its end by now
                self._reply(request)

    def _open(self, request: Payload) -> None:
        self._close()
        known = request["witness"]
        witness = None if known is None else Probe(**known)
        self._reader = open_in_process(Path(request["path"]), request["reader"], witness)
        self._reply(request, metadata=asdict(self._reader.metadata))

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _opened(self) -> VideoReader:
        if self._reader is None:
            raise ReaderError("no file is open")
        return self._reader

    # ------------------------------------------------------------------ frames

    def _send_frames(self, request: Payload) -> None:
        """One message per frame; decoding goes on while a slot is free."""
        self._slots.map(request["slots"], request["slot_bytes"])
        free = list(range(request["slots"]))
        frames = self._opened().frames_at(
            request["seconds"], max_side=request["longest"], keyframes=request["keyframes"]
        )
        last: Frame | None = None
        with contextlib.closing(_generator(frames)) as decoded:
            for frame in decoded:
                if frame is last:
                    self._reply(request, same=True)
                    continue
                last = frame
                if not self._wait_for_free_slot(free):
                    return
                slot = free.pop()
                self._slots.write(slot, frame.image)
                self._reply(
                    request,
                    slot=slot,
                    shape=frame.image.shape,
                    pts=frame.pts_seconds,
                    damage=frame.damage,
                )
        self._reply(request, done=True)

    def _wait_for_free_slot(self, free: list[int]) -> bool:
        """Wait until a slot is free; False where the program wants something else meanwhile."""
        while self._waiting is None and (not free or self._channel.poll(0)):
            if not free:
                faulthandler.cancel_dump_traceback_later()  # waiting is no hanging
            message = self._channel.receive()
            if message["do"] == "free":
                free.append(message["slot"])
            else:
                self._waiting = message
        self._watch()
        return self._waiting is None

    # ------------------------------------------------------------------ talking

    def _next_request(self) -> Payload | None:
        while True:
            if self._waiting is not None:
                request, self._waiting = self._waiting, None
            elif self._channel.poll(_IDLE_SECONDS):
                request = self._channel.receive()
            elif self._reader is None:
                return None
            else:
                continue
            if request["do"] != "free":
                return request

    def _reply(self, request: Payload, **answer: Any) -> None:
        self._channel.send({"id": request["id"], **answer})

    def _reply_error(self, request: Payload, error: SmolVideoError) -> None:
        told = {"kind": type(error).__name__, "message": str(error), "hint": error.hint}
        self._reply(request, error=told)

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat > _BEAT_SECONDS:
            self._last_beat = now
            self._channel.send({"id": 0})
            self._watch()

    def _watch(self) -> None:
        """End this process if it stands still although the program that would do so is gone.

        The clock runs in C and needs no lock of Python's, which a hanging decoder may hold.
        """
        limit = 2 * self._silent_seconds
        faulthandler.dump_traceback_later(limit, exit=True, file=_nowhere())


def _generator(frames: Iterator[Frame]) -> Any:
    """Readers give generators, which can be closed."""
    return frames if hasattr(frames, "close") else (frame for frame in frames)


_null: Any = None


def _nowhere() -> Any:
    global _null
    if _null is None:
        _null = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- for the process's life
    return _null


class _FreedMemory:
    """Gives the system back what the decoders of closed files have freed.

    glibc keeps such memory in pieces, per thread, and a folder of videos would make them ever more.
    Other C libraries have no such function, nor the need. Looking through the pieces takes as long
    as opening a small file, and is left out while there are few.
    """

    def __init__(self) -> None:
        self._left = _resident_bytes()

    def give_back(self) -> None:
        """Where the process has grown by ``_WORTH_GIVING_BACK`` since this was last done."""
        resident = _resident_bytes()
        if resident is None or self._left is None:
            self._trim()
        elif resident - self._left > _WORTH_GIVING_BACK:
            self._trim()
            self._left = _resident_bytes()

    def _trim(self) -> None:
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int | None:
    """Memory of this process; None on systems that do not keep it in a file."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _limit_memory(limit: int) -> None:
    """A bomb fails to allocate, instead of taking the machine's memory. Not on Windows, and macOS
    takes no notice; there the program watches."""
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: list[str]) -> None:
    handle, slots, memory_bytes, silent_seconds = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(int(memory_bytes))
    channel = Channel.of_handle(int(handle))
    shared = SharedFrameBuffer(int(slots) if slots.isdecimal() else slots)
    with contextlib.suppress(EOFError, OSError):  # the program has gone, and so do we
        DecoderServer(channel, shared, float(silent_seconds)).serve()
    # No orderly end: a decoder's own thread may hang.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
