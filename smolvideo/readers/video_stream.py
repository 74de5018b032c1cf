"""Container opened for decoding: chooses the video stream a player would show, and sets limits."""

import os
from pathlib import Path
from typing import Any

from smolvideo.errors import ReaderError
from smolvideo.readers.base import MAX_PIXELS, NotAVideoError, check_file, check_frame_size
from smolvideo.readers.encryption import encryption_in, encryption_of, video_encryption
from smolvideo.readers.ffmpeg_input import ByteRange, open_container, refuse_list
from smolvideo.readers.packet_times import is_still_attachment

_MAX_DECODING_THREADS = 8
_LARGE = 4096 * 2304
"""Pixels of a frame beyond 4K."""
_SILENT_DECODERS = {"hevc", "vvc"}
"""Decoders that never flag a frame as corrupt. With ``err_detect=explode`` they raise errors, and
return the same frames."""
_SEGMENT_SUFFIXES = {".ts", ".m4s", ".cmfv"}
"""Suffixes of files that are often segments of a stream."""


class VideoStream:
    """Opens a file, or a ``byte_range`` of it, any number of times.

    Raises ReaderError if the file cannot be read.
    """

    def __init__(self, path: Path, byte_range: ByteRange | None = None) -> None:
        self._path = path
        self._byte_range = byte_range
        self.index: int | None = None
        """Index of the chosen stream, None until it is first opened."""
        try:
            self.encrypted = encryption_in(path, byte_range)
        except OSError as error:
            raise cannot_open(path) from error

    def container(self) -> Any:
        """Open the container alone. Raises PyAV's errors."""
        return open_container(self._path, self._byte_range)

    def open(self, threads: int | None = None, *, strict: bool = False) -> tuple[Any, Any]:
        """Open a container and set up its stream; ``threads`` None is as many as are useful.

        With ``strict``, damage raises an error where the decoder would conceal it.
        """
        import av

        # At any other level PyAV's log callback takes the GIL in decoder threads. Closing holds the
        # GIL while it joins those threads: a deadlock.
        av.logging.set_level(None)
        try:
            container = self.container()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.refuse_if_encrypted()
            refusal = cannot_open(self._path)
            if isinstance(error, av.error.ArgumentError):  # not in the demuxer whitelist
                refusal = NotAVideoError(str(refusal), hint=refusal.hint)
            raise refusal from error
        try:
            stream = self._choose(container)
            # 0 by 0 if the header does not state the size; the first decoded frame is checked too.
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
        """Raise NotAVideoError if a video stream is encrypted."""
        if (found := video_encryption(self.encrypted)) is not None:
            raise found.error(self._path.name)


def usable_cores() -> int:
    """Return the number of CPU cores that decoding may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: the cores allowed for this process
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoding_threads(pixels: int) -> int:
    """Return the number of frame threads: each holds frames, and a few of 8K are a gigabyte."""
    return min(usable_cores(), _MAX_DECODING_THREADS if pixels < _LARGE else 2)


def cannot_open(path: Path) -> ReaderError:
    """Return the error for a file that FFmpeg cannot open. Raises NotAVideoError if it is none."""
    check_file(path)
    refuse_list(path)
    hint = "a truncated download or recording (no moov atom) cannot be opened; fetch it again"
    if path.suffix.lower() in _SEGMENT_SUFFIXES:
        hint = "a single segment of a stream is encrypted (HLS AES-128), or needs its init segment"
    return ReaderError(
        f"`{path.name}` is not a video that can be read, or its header is lost", hint=hint
    )
