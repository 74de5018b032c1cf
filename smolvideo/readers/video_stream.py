"""A file opened for decoding: the one stream that a player would show, set up within limits."""

import os
from pathlib import Path
from typing import Any

from smolvideo.errors import ReaderError
from smolvideo.readers.base import MAX_PIXELS, NotAVideoError, check_file, check_frame_size
from smolvideo.readers.byte_range import Stretch
from smolvideo.readers.encryption import encryption_in, encryption_of, locks_pictures
from smolvideo.readers.external_references import refuse_list
from smolvideo.readers.packet_times import is_still_attachment, open_container

_MAX_DECODING_THREADS = 8
_LARGE = 4096 * 2304
"""Pixels of a frame beyond 4K."""
_SILENT_DECODERS = {"hevc", "vvc"}
"""Decoders that flag no frame as corrupt. Where errors are reported, they do say so, and give the
same frames."""
_SEGMENT_SUFFIXES = {".ts", ".m4s", ".cmfv"}
"""Files that are often pieces of a stream."""


class FilmStream:
    """Opens a file, or a ``stretch`` of it, as often as is asked for.

    Raises ReaderError where the file cannot be read.
    """

    def __init__(self, path: Path, stretch: Stretch | None = None) -> None:
        self._path = path
        self._stretch = stretch
        self.index: int | None = None
        """The place of the stream, once it was opened."""
        try:
            self.encrypted = encryption_in(path, stretch)
        except OSError as error:
            raise cannot_open(path) from error

    def container(self) -> Any:
        """The container alone. Raises what PyAV raises."""
        return open_container(self._path, self._stretch)

    def open(self, threads: int | None = None, *, strict: bool = False) -> tuple[Any, Any]:
        """A container and its stream, ready to decode; ``threads`` None is as many as make sense.

        ``strict`` makes damage an error, where the decoder would make something up.
        """
        import av

        # With any level PyAV listens, and its listener waits for Python's lock in the decoder's own
        # threads: closing, which holds that lock and waits for them, then never ends.
        av.logging.set_level(None)
        try:
            container = self.container()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.refuse_if_encrypted()
            refusal = cannot_open(self._path)
            if isinstance(error, av.error.ArgumentError):  # no demuxer of the white list
                refusal = NotAVideoError(str(refusal), hint=refusal.hint)
            raise refusal from error
        try:
            stream = self._choose(container)
            # 0 by 0 where the header does not say; the first frame will.
            check_frame_size(stream.width or 1, stream.height or 1, self._path.name)
            context = stream.codec_context
            context.options = {"max_pixels": str(MAX_PIXELS)} | (
                {"err_detect": "explode"} if strict or context.name in _SILENT_DECODERS else {}
            )
            context.thread_type = "AUTO"
            context.thread_count = threads or decoding_threads(stream.width * stream.height)
        except BaseException:
            container.close()
            raise
        return container, stream

    def _choose(self, container: Any) -> Any:
        if self.index is not None:
            return container.streams[self.index]
        moving = [stream for stream in container.streams.video if not is_still_attachment(stream)]
        candidates = [stream for stream in moving if stream.codec_context is not None]
        if moving and not candidates:
            self.refuse_if_encrypted()
            raise ReaderError(f"the video of `{self._path.name}` is in a codec unknown here")
        if not candidates:
            raise NotAVideoError(
                f"`{self._path.name}` has no video stream",
                hint="it holds sound only" if container.streams.audio else None,
            )
        best = container.streams.best("video")
        if best is None or all(best.index != stream.index for stream in candidates):
            best = max(candidates, key=lambda stream: stream.width * stream.height)
        if (found := encryption_of(self.encrypted, container, best)) is not None:
            raise found.error(self._path.name)
        self.index = best.index
        return best

    def refuse_if_encrypted(self) -> None:
        """Raise NotAVideoError where that is why the pictures cannot be read."""
        if (found := locks_pictures(self.encrypted)) is not None:
            raise found.error(self._path.name)


def usable_cores() -> int:
    """How many cores decoding may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: those that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoding_threads(pixels: int) -> int:
    """Every thread holds frames of its own; of 8K ones a few are a gigabyte."""
    return min(usable_cores(), _MAX_DECODING_THREADS if pixels < _LARGE else 2)


def cannot_open(path: Path) -> ReaderError:
    """The error of a file that FFmpeg does not open. Raises NotAVideoError where it is none."""
    check_file(path)
    refuse_list(path)
    hint = "a truncated download or recording (no moov atom) cannot be opened; fetch it again"
    if path.suffix.lower() in _SEGMENT_SUFFIXES:
        hint = "a single segment of a stream is encrypted (HLS AES-128), or needs its init segment"
    return ReaderError(
        f"`{path.name}` is not a video that can be read, or its header is lost", hint=hint
    )
