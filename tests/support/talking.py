"""Conversations with nano about the sample videos, for tests."""

from functools import cache
from pathlib import Path

from support.project import ROOT

from smolvideo.conversation import Conversation, Settings
from smolvideo.engines import Engine, GenerationOptions, load_engine
from smolvideo.progress import OnProgress
from smolvideo.sampling import FrameSampling
from smolvideo.source import VideoSource, resolve_source

SAMPLES = ROOT / "samples"
TRIANGLE = SAMPLES / "triangle_down.mp4"
CIRCLE = SAMPLES / "circle_right.mp4"
SUBTITLED = SAMPLES / "triangle_then_cross_subtitled.mp4"

WHAT = "What is in this video?"
ANSWER = "An orange triangle moves down past a blue star and a purple square on a grey background."
WHERE_TO = "Which way does the triangle move?"


@cache
def nano() -> Engine:
    """Return nano, loaded once per process."""
    return load_engine("nano", device="cpu")


def load(settings: Settings, on_progress: OnProgress) -> Engine:
    """Load the engine that a conversation requests; nano is loaded already."""
    return nano() if settings.model == "nano" else load_engine(settings.model, device="cpu")


def settings(max_frames: int = 16, **changes: object) -> Settings:
    generation = GenerationOptions(max_new_tokens=64)
    given = {"sampling": FrameSampling(max_frames=max_frames), "generation": generation} | changes
    return Settings("nano", **given)  # type: ignore[arg-type]


def source(path: Path) -> VideoSource:
    (found,) = resolve_source(str(path))
    return found


def conversation(*paths: Path, max_frames: int = 16) -> Conversation:
    talk = Conversation(settings(max_frames), load)
    if paths:
        talk.attach([source(path) for path in paths])
    return talk


def ask(talk: Conversation, question: str) -> str:
    """Return the whole answer, or raise the error of a failed one."""
    asked = talk.ask(question)
    text = "".join(asked)
    if asked.error is not None:
        raise asked.error
    return text
