"""Media of a request as files in a folder of their own, until their frames are decoded.

Files are named by us, and are what their bytes say. Each has the SHA-256 of its bytes, the key of
its decoded frames. Images in a row are one list of frames, as in a folder of frames.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smolvideo.pipeline import MediaTurn, Medium
from smolvideo.sampling import FrameSampling
from smolvideo.serve.api_errors import ApiError, invalid
from smolvideo.serve.chat_request import ChatMessage, ChatRequest
from smolvideo.serve.media_parts import MediaPart
from smolvideo.serve.options import ServerOptions
from smolvideo.serve.remote_media import MediaFetcher, open_allowed_file, too_large
from smolvideo.serve.video_options import VideoOptions, apply_video_options, parse_video_object
from smolvideo.source import VideoSource, describe_non_media, kind_of_file

_HEAD_BYTES = 4096
_CHUNK = 1 << 20
Check = Callable[[], None]


@dataclass(frozen=True)
class StoredMedium:
    """A medium on disk, and the digest of its bytes."""

    medium: Medium
    digest: str


@dataclass(frozen=True)
class StoredTurns:
    """A request's turns with their media on disk; ``digests`` are those of the media in order."""

    turns: tuple[MediaTurn, ...]
    digests: tuple[str, ...]
    notices: tuple[str, ...]


class MediaStore:
    """Writes the media of one request into ``folder``, which the caller deletes.

    ``check`` is called between blocks, and raises to cancel.
    """

    def __init__(
        self, folder: Path, request: ChatRequest, options: ServerOptions, *, check: Check
    ) -> None:
        self._folder = folder
        self._request = request
        self._options = options
        self._check = check
        self._fetcher = MediaFetcher(options.allowed_domains, options.max_media_bytes)
        self._digests: list[str] = []
        self._notices: list[str] = []
        self._count = {"Video": 0, "Image": 0}
        self._num_lists = 0

    def store(self) -> StoredTurns:
        """Write all media; return the turns of the model. Raises ApiError for the first that
        cannot be used."""
        turns = tuple(
            MediaTurn(message.role, tuple(self._content(message)))
            for message in self._request.messages
        )
        if self._request.video.frame_times is not None and self._num_lists != 1:
            raise invalid(
                "`frame_times` are of one list of images in a row", param="video.frame_times"
            )
        return StoredTurns(turns, tuple(self._digests), tuple(self._notices))

    def _content(self, message: ChatMessage) -> Iterator[str | Medium]:
        """Yield the texts and media of a message, media first where all texts precede them.

        The models were trained with media before the question, and the prefix cache of a video
        serves every question after it.
        """
        runs = list(_runs(message.parts))
        is_text = [isinstance(run, str) for run in runs]
        if True in is_text and False in is_text and all(is_text[: is_text.index(False)]):
            after = is_text[is_text.index(False) :]
            if True not in after:
                runs.sort(key=lambda run: isinstance(run, str))
        for run in runs:
            if isinstance(run, str):
                yield run
            else:
                stored = self._stored(run)
                self._digests.append(stored.digest)
                yield stored.medium

    def _stored(self, parts: Sequence[MediaPart]) -> StoredMedium:
        (first, *others) = parts
        frames = first.frames
        if others:
            frames = tuple(self._bytes_of(part) for part in parts)
        if frames:
            return self._frame_list(frames, parts)
        path, digest, head = self._write(first, f"medium-{len(self._digests) + 1}")
        return self._single(first, path, digest, head)

    def _single(self, part: MediaPart, path: Path, digest: str, head: bytes) -> StoredMedium:
        kind = kind_of_file("", head)
        if part.declared == "image" and kind == "video" and not _may_be_image(head):
            raise ApiError(415, "this is no image", param=part.param, code="unsupported_media")
        noun = "Image" if kind == "image" else "Video"
        self._count[noun] += 1
        name = f"{noun} {self._count[noun]}"
        path = path.rename(path.with_name(name))  # readers name it in errors and notices
        sampling, notices = self._sampling(part)
        if kind == "image":
            sampling = sampling.without_window()
        self._notices += notices
        return StoredMedium(Medium(VideoSource(name, path, kind, name), sampling), digest)

    def _frame_list(self, frames: Sequence[bytes], parts: Sequence[MediaPart]) -> StoredMedium:
        self._count["Video"] += 1
        name = f"Video {self._count['Video']}"
        folder = self._folder / name
        folder.mkdir(mode=0o700)
        hashed = hashlib.sha256()
        for place, content in enumerate(frames):
            self._check()
            part = parts[place] if len(parts) == len(frames) else parts[0]
            self._require_image(content[:_HEAD_BYTES], part.param, place)
            (folder / f"{place:06d}.jpg").write_bytes(content)
            hashed.update(hashlib.sha256(content).digest())
        own = parse_video_object(parts[0].options, f"{parts[0].param}.video")
        video = self._request.video if own == VideoOptions() else own
        if own == VideoOptions():
            self._num_lists += 1
        if video.frame_times is not None and len(video.frame_times) != len(frames):
            raise invalid(
                f"{len(frames)} images have {len(video.frame_times)} times",
                param="video.frame_times",
            )
        if (
            video.fps is not None
            or video.start_seconds is not None
            or video.end_seconds is not None
        ):
            raise invalid("a list of images has no rate and no window", param="video")
        medium = Medium(
            VideoSource(name, folder, "frames", name),
            self._options.sampling,
            frame_times=video.frame_times,
            duration_seconds=video.duration_seconds,
        )
        return StoredMedium(medium, f"frames:{hashed.hexdigest()}")

    def _require_image(self, head: bytes, param: str, place: int) -> None:
        if not _may_be_image(head):
            raise ApiError(
                415, f"frame {place + 1} is no image", param=param, code="unsupported_media"
            )

    def _sampling(self, part: MediaPart) -> tuple[FrameSampling, tuple[str, ...]]:
        own = parse_video_object(part.options, f"{part.param}.video")
        if own == VideoOptions():
            return self._request.sampling, ()
        if own.frame_times is not None or own.duration_seconds is not None:
            raise invalid(
                "`frame_times` and `duration` are of lists of images", param=f"{part.param}.video"
            )
        return apply_video_options(self._request.sampling, own)

    def _bytes_of(self, part: MediaPart) -> bytes:
        if part.frames:
            raise invalid("a list of frames cannot stand among images", param=part.param)
        return part.content if part.content is not None else b"".join(self._chunks(part))

    def _chunks(self, part: MediaPart) -> Iterable[bytes]:
        """Yield the bytes of a part, wherever they are."""
        if part.content is not None:
            return (part.content,)
        assert part.url is not None
        if part.url.lower().startswith(("http:", "https:")):
            return self._fetcher.fetch(part.url, part.param, self._check)
        if part.url.lower().startswith("file:") or "://" not in part.url[:40]:
            return self._file_chunks(part.url, part.param)
        raise invalid("only data:, http(s): and file: addresses are known", param=part.param)

    def _file_chunks(self, named: str, param: str) -> Iterator[bytes]:
        with open_allowed_file(named, self._options.allowed_folders, param) as file:
            size = 0
            while chunk := file.read(_CHUNK):
                self._check()
                size += len(chunk)
                if size > self._options.max_media_bytes:
                    raise too_large(self._options.max_media_bytes, param)
                yield chunk

    def _write(self, part: MediaPart, name: str) -> tuple[Path, str, bytes]:
        """Write a part's bytes; return the file, their digest, and the first of them."""
        path = self._folder / name
        hashed, head = hashlib.sha256(), b""
        with path.open("xb") as file:
            for chunk in self._chunks(part):
                self._check()
                hashed.update(chunk)
                head = head if len(head) >= _HEAD_BYTES else (head + chunk)[:_HEAD_BYTES]
                file.write(chunk)
        if not head:
            raise invalid("the medium is empty", param=part.param, code="invalid_media")
        what = describe_non_media(head)
        if what is not None:
            raise ApiError(
                415,
                f"this is {what}, not a video or an image",
                param=part.param,
                code="unsupported_media",
            )
        return path, hashed.hexdigest(), head


def _runs(parts: Sequence[str | MediaPart]) -> Iterator[str | list[MediaPart]]:
    """Yield texts, single media, and images in a row as one list."""
    run: list[MediaPart] = []
    for part in parts:
        if isinstance(part, MediaPart) and part.declared == "image":
            run.append(part)
            continue
        if run:
            yield run
            run = []
        yield part if isinstance(part, str) else [part]
    if run:
        yield run


def _may_be_image(head: bytes) -> bool:
    """Return whether the bytes begin like an image, an animation included."""
    return kind_of_file("", head) == "image" or head.startswith(
        (b"GIF8", b"BM", b"\x00\x00\x00\x0cjP")
    )
