"""Frames and engine of one question, loaded side by side, and shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smolvideo.cli.cache import open_feature_cache
from smolvideo.cli.conversations import ConversationFlags, with_model
from smolvideo.cli.model_choice import BackgroundEngine, choose_engine
from smolvideo.conversation import Settings
from smolvideo.cost.choose import all_drawn
from smolvideo.engines import Engine, FeatureCache
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt
from smolvideo.progress import OnProgress
from smolvideo.readers import prestart_process
from smolvideo.show.answer import show_settings
from smolvideo.show.console import Output
from smolvideo.show.filmstrip import FilmstripChoice, show_filmstrip
from smolvideo.show.progress_bar import StageProgress
from smolvideo.source import VideoSource

PrepareQuestion = Callable[[Checkpoint, Settings, list[str], OnProgress], PreparedPrompt]
"""Prepares the prompt for a checkpoint with settings; the list takes notices."""


@dataclass(frozen=True)
class LoadedQuestion:
    """A packed question, and the engine that answers it."""

    prepared: PreparedPrompt
    engine: Engine
    settings: Settings
    cache: FeatureCache | None


def load_question(
    given: ConversationFlags,
    settings: Settings,
    sources: Sequence[VideoSource],
    prepare: PrepareQuestion,
    screen: Output,
    stages: StageProgress,
    *,
    filmstrip: FilmstripChoice,
    no_cache: bool,
) -> LoadedQuestion:
    """Choose the model, decode the frames while a background thread loads the engine, and show
    frames, notices and settings.

    Raises as ``choose_engine``, ``prepare`` and ``load_engine``.
    """
    prestart_process()
    spec = choose_engine(
        given,
        screen,
        drawn=lambda: all_drawn(sources, reader=settings.reader),
        frames=settings.sampling.max_frames,
        stages=stages,
    )
    settings = with_model(settings, spec)
    checkpoint = settings.spec.checkpoint(on_progress=stages.on_progress)
    heard: list[str] = []
    cache = open_feature_cache(settings.engine, no_cache=no_cache, on_note=heard.append)
    loading = BackgroundEngine(
        lambda: settings.spec.load(cache=cache, on_progress=stages.on_progress)
    )
    on_progress = loading.start_on_first_frame(stages.on_progress)
    prepared = prepare(checkpoint, settings, heard, on_progress)
    with stages.paused():
        show_filmstrip(screen, prepared.batches, filmstrip, layout=prepared.prompt.layout)
        screen.notes(prepared.notices)
    engine = loading.result()
    with stages.paused():
        show_settings(screen, prepared, engine)
    return LoadedQuestion(prepared, engine, settings, cache)
