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
    from smolvideo.answer import Answer, AnswerStream, Usage
    from smolvideo.engines import FeatureCache, GenerationOptions, load_engine
    from smolvideo.errors import SmolVideoError
    from smolvideo.frames import FrameBatch, VideoMetadata
    from smolvideo.pipeline import ask, load_frames
    from smolvideo.readers import open_video
    from smolvideo.sampling import FrameSampling, sample_frames, sample_times
    from smolvideo.source import resolve_source
    from smolvideo.summaries import SummaryOptions, SummaryRecord, summarise

_LAZY_IMPORTS = {
    "Answer": "smolvideo.answer",
    "AnswerStream": "smolvideo.answer",
    "FeatureCache": "smolvideo.engines",
    "FrameBatch": "smolvideo.frames",
    "FrameSampling": "smolvideo.sampling",
    "GenerationOptions": "smolvideo.engines",
    "SmolVideoError": "smolvideo.errors",
    "SummaryOptions": "smolvideo.summaries",
    "SummaryRecord": "smolvideo.summaries",
    "Usage": "smolvideo.answer",
    "VideoMetadata": "smolvideo.frames",
    "ask": "smolvideo.pipeline",
    "load_engine": "smolvideo.engines",
    "load_frames": "smolvideo.pipeline",
    "open_video": "smolvideo.readers",
    "resolve_source": "smolvideo.source",
    "sample_frames": "smolvideo.sampling",
    "sample_times": "smolvideo.sampling",
    "summarise": "smolvideo.summaries",
}

__all__ = [
    "Answer",
    "AnswerStream",
    "FeatureCache",
    "FrameBatch",
    "FrameSampling",
    "GenerationOptions",
    "SmolVideoError",
    "SummaryOptions",
    "SummaryRecord",
    "Usage",
    "VideoMetadata",
    "__version__",
    "ask",
    "load_engine",
    "load_frames",
    "open_video",
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
    return sorted(__all__)
