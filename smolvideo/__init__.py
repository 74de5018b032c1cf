"""Ask questions about videos on your own machine, with the SmolVLM models.

The pipeline, as a sequence of packages:

    source → readers → sampling → frames → prompt → engines → answer → show / records

``pipeline`` joins them. ``import smolvideo`` loads nothing heavy: the names below are imported on
first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smolvideo.version import __version__

if TYPE_CHECKING:
    from smolvideo.answer import Answer, AnswerStream, SourceFrames, Usage
    from smolvideo.cost.choose import load_engine
    from smolvideo.engines import Engine, FeatureCache, GenerationOptions, Session, SessionEngine
    from smolvideo.errors import (
        ModelError,
        PromptError,
        ReaderError,
        RecordError,
        SmolVideoError,
        SourceError,
        UsageError,
    )
    from smolvideo.frames import Frame, FrameBatch, VideoMetadata
    from smolvideo.pipeline import AsyncAnswerStream, load_frames
    from smolvideo.progress import Cancelled, Progress
    from smolvideo.prompt import Message, PromptOptions
    from smolvideo.readers import VideoReader, open_video
    from smolvideo.records import AnswerRecord, RecordWriter, SourceRecord, read_records
    from smolvideo.sampling import FrameSampling, RelativeTime, sample_frames, sample_times
    from smolvideo.source import DownloadOptions, VideoSource, resolve_source
    from smolvideo.summaries import SummaryOptions, SummaryRecord, summarise
    from smolvideo.video import AskOptions, OpenOptions, Video, aask, aopen, ask
    from smolvideo.video import open as open

_MODULES = {
    "smolvideo.answer": "Answer AnswerStream SourceFrames Usage",
    "smolvideo.cost.choose": "load_engine",
    "smolvideo.engines": "Engine FeatureCache GenerationOptions Session SessionEngine",
    "smolvideo.errors": "ModelError PromptError ReaderError RecordError SmolVideoError SourceError "
    "UsageError",
    "smolvideo.frames": "Frame FrameBatch VideoMetadata",
    "smolvideo.pipeline": "AsyncAnswerStream load_frames",
    "smolvideo.progress": "Cancelled Progress",
    "smolvideo.prompt": "Message PromptOptions",
    "smolvideo.readers": "VideoReader open_video",
    "smolvideo.records": "AnswerRecord RecordWriter SourceRecord read_records",
    "smolvideo.sampling": "FrameSampling RelativeTime sample_frames sample_times",
    "smolvideo.source": "DownloadOptions VideoSource resolve_source",
    "smolvideo.summaries": "SummaryOptions SummaryRecord summarise",
    "smolvideo.video": "AskOptions OpenOptions Video aask aopen ask open",
}
_LAZY_IMPORTS = {name: module for module, names in _MODULES.items() for name in names.split()}
"""Public name → the module that defines it."""

# Without `open`: `from smolvideo import *` must not hide Python's own.
__all__ = [
    "Answer",
    "AnswerRecord",
    "AnswerStream",
    "AskOptions",
    "AsyncAnswerStream",
    "Cancelled",
    "DownloadOptions",
    "Engine",
    "FeatureCache",
    "Frame",
    "FrameBatch",
    "FrameSampling",
    "GenerationOptions",
    "Message",
    "ModelError",
    "OpenOptions",
    "Progress",
    "PromptError",
    "PromptOptions",
    "ReaderError",
    "RecordError",
    "RecordWriter",
    "RelativeTime",
    "Session",
    "SessionEngine",
    "SmolVideoError",
    "SourceError",
    "SourceFrames",
    "SourceRecord",
    "SummaryOptions",
    "SummaryRecord",
    "Usage",
    "UsageError",
    "Video",
    "VideoMetadata",
    "VideoReader",
    "VideoSource",
    "__version__",
    "aask",
    "aopen",
    "ask",
    "load_engine",
    "load_frames",
    "open_video",
    "read_records",
    "resolve_source",
    "sample_frames",
    "sample_times",
    "summarise",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY_IMPORTS:
        return getattr(import_module(_LAZY_IMPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "open"})
