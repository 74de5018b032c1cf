"""The choice of frames in a request: our own ``video`` object, and vLLM's names for the same.

    "video": {"start": "0:10", "end": 20.5, "fps": 2, "max_frames": 32}

in the request or in a video part. A request lowers the server's number of frames, never raises it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from smolvideo.errors import UsageError
from smolvideo.sampling import FrameSampling, RelativeTime, parse_time
from smolvideo.serve.api_errors import invalid, unsupported
from smolvideo.serve.json_fields import checked_number, read_integer, read_number, read_positive


@dataclass(frozen=True)
class VideoOptions:
    """Window, rate and number of frames that a request chooses; None leaves them to the server.

    ``frame_times`` are the times of the frames of an image list, ``duration_seconds`` that of their
    video.
    """

    start_seconds: float | RelativeTime | None = None
    end_seconds: float | RelativeTime | None = None
    fps: float | None = None
    max_frames: int | None = None
    frame_times: tuple[float, ...] | None = None
    duration_seconds: float | None = None


_VIDEO_KEYS = ("start", "end", "fps", "max_frames", "frame_times", "duration")


def parse_video_object(given: Any, param: str) -> VideoOptions:
    """Check our own ``video`` object, in a part or in the request; unknown keys are an error."""
    if given is None:
        return VideoOptions()
    if not isinstance(given, Mapping):
        raise invalid("`video` must be an object", param=param)
    for name in given:
        if name not in _VIDEO_KEYS:
            raise invalid(
                f"unknown key {name!r:.60} of `video`; known are {', '.join(_VIDEO_KEYS)}",
                param=f"{param}.{str(name)[:60]}",
            )
    return VideoOptions(
        start_seconds=_time(given, "start", param),
        end_seconds=_time(given, "end", param),
        fps=read_positive(given, "fps", param),
        max_frames=read_integer(given, "max_frames", 1, 10**6, param),
        frame_times=_frame_times(given, param),
        duration_seconds=read_number(given, "duration", 0, 1e9, param),
    )


def read_video_options(body: Mapping[str, Any]) -> VideoOptions:
    """Return the options of a request: ours, or those by vLLM's names."""
    own = parse_video_object(body.get("video"), "video")
    fps, frames = read_positive(body, "fps", ""), None
    for name, inner in (("media_io_kwargs", "video"), ("mm_processor_kwargs", None)):
        given = body.get(name)
        if isinstance(given, Mapping) and inner is not None:
            name, given = f"{name}.{inner}", given.get(inner)
        if given is None:
            continue
        if not isinstance(given, Mapping):
            raise invalid(f"`{name}` must be an object", param=name)
        if given.get("do_sample_frames") is False:
            raise unsupported("frames are always sampled", param=f"{name}.do_sample_frames")
        fps = fps or read_positive(given, "fps", name)
        for key in ("num_frames", "max_frames"):
            count = read_integer(given, key, -1, 10**6, name)
            # vLLM's -1 is "all": as many as this server takes.
            frames = frames or (count if count is not None and count > 0 else None)
        if unknown := given.keys() - {"fps", "num_frames", "max_frames", "do_sample_frames"}:
            key = sorted(map(str, unknown))[0][:60]
            raise unsupported(f"`{key}` is not supported", param=f"{name}.{key}")
    return replace(own, fps=own.fps or fps, max_frames=own.max_frames or frames)


def apply_video_options(
    sampling: FrameSampling, video: VideoOptions
) -> tuple[FrameSampling, tuple[str, ...]]:
    """Return the server's sampling with a request's options, and notices.

    The number of frames is only lowered. One that the request chose is not reduced to what fits the
    context: it fits, or the error says how many do. Raises ApiError for a contradiction.
    """
    notices: tuple[str, ...] = ()
    asked, ceiling = video.max_frames, sampling.max_frames
    if asked is not None and asked > ceiling:
        notices = (f"{ceiling} frames at most: this server takes no more, {asked} were asked for",)
    changed: dict[str, Any] = {
        name: value
        for name in ("start_seconds", "end_seconds", "fps")
        if (value := getattr(video, name)) is not None
    }
    if asked is not None and asked <= ceiling:
        changed |= {"max_frames": asked, "reduce_to_fit": False}
    try:
        return replace(sampling, **changed), notices
    except UsageError as error:
        raise invalid(str(error), param="video") from error


def _frame_times(given: Mapping[str, Any], param: str) -> tuple[float, ...] | None:
    times = given.get("frame_times")
    if times is None:
        return None
    where = f"{param}.frame_times"
    if not isinstance(times, list) or not times:
        raise invalid("`frame_times` must be a list of seconds", param=where)
    seconds = tuple(checked_number(one, where, 0, 1e9) for one in times)
    if any(late <= early for early, late in pairwise(seconds)):
        raise invalid("`frame_times` must be strictly ascending", param=where)
    return seconds


def _time(given: Mapping[str, Any], name: str, param: str) -> float | RelativeTime | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError as error:
            raise invalid(str(error), param=f"{param}.{name}") from error
    return checked_number(value, f"{param}.{name}", 0, 1e9)
