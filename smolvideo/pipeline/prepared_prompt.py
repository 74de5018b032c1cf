"""A packed question with its frames: what an engine answers."""

from collections.abc import Mapping
from dataclasses import dataclass

from smolvideo.engines import GenerationOptions
from smolvideo.frames import FrameBatch
from smolvideo.prompt import Message, Prompt, PromptOptions
from smolvideo.sampling import FrameSampling
from smolvideo.source import VideoSource


@dataclass(frozen=True)
class PreparedPrompt:
    """A packed question with its frames: the engine's input, and the settings in effect.

    ``batches[i]`` are the frames of ``sources[i]``; ``messages`` is the whole conversation, for
    later turns. ``sampling``, ``prompt_options`` and ``generation`` are the effective ones: with
    the number of frames that fit, and the sampled seed. ``notices`` are messages for the user on
    frames, model and question; ``frame_notices`` the subset on frames. ``subtitles`` is the text
    that precedes the question, if there is one; ``interleaved``: see ``pipeline.compare``.
    """

    question: str
    sources: tuple[VideoSource, ...]
    messages: tuple[Message, ...]
    prompt: Prompt
    batches: tuple[FrameBatch, ...]
    sampling: FrameSampling
    prompt_options: PromptOptions
    generation: GenerationOptions
    reader: str
    notices: tuple[str, ...]
    frame_notices: tuple[str, ...]
    seconds: Mapping[str, float]
    subtitles: str | None = None
    interleaved: bool = False
