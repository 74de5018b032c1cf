"""Plan a prompt without a model: frame times, tokens, and the measured time of a few frames.

The frames are those that ``prepare`` would take. A few of them are decoded and transformed, because
what a video costs depends on its codec and on the distance of its key frames; the others are
extrapolated. No weight is read, and nothing is downloaded.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from smolvideo.cost import ModelCost, Prediction, PromptSize, Rates, fitting_prompt, predict
from smolvideo.cost.predict import TEXT_TOKENS
from smolvideo.engines import EngineSpec, GenerationOptions
from smolvideo.errors import PromptError, ReaderError
from smolvideo.frames import Images, VideoMetadata
from smolvideo.models import MODELS, Checkpoint, ModelSpec, lookup_model, open_checkpoint
from smolvideo.models.local_cache import is_described
from smolvideo.pipeline.prepare_prompt import (
    PromptPlan,
    choose_frame_count,
    still_image_notices,
    too_few_frames,
)
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import PromptOptions, check_question, frame_transform, image_transform
from smolvideo.prompt.templates import (
    IMAGE,
    SpecialToken,
    count_tokens_of_parts,
    render_messages,
)
from smolvideo.readers import VideoReader, open_video
from smolvideo.sampling import FrameSampling, sample_frames
from smolvideo.source import VideoSource

_TIMED_FRAMES = 3
"""Frames after the first that are decoded for their time."""
_EDGE_TIMES = 4
"""Long side to which the published processors scale first, in image sizes."""


@dataclass(frozen=True)
class PlannedModel:
    """A model to plan for. ``checkpoint`` is None where its configuration is not on this machine:
    then ``spec`` has its registered figures, and token counts are estimates."""

    cost: ModelCost
    spec: ModelSpec | None
    checkpoint: Checkpoint | None

    @property
    def image_size(self) -> int:
        """Side of the vision tower's square input in pixels."""
        return self.cost.network.vision.image_size

    @property
    def context_tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.cost.network.text.max_position_embeddings

    @property
    def checkpoint_or_nano(self) -> Checkpoint:
        """The checkpoint, or the bundled one with this model's sizes: it has the same transforms
        and tiles of images, and another tokenizer."""
        if self.checkpoint is not None:
            return self.checkpoint
        assert self.spec is not None
        vision = self.cost.network.vision
        return replace(
            open_checkpoint("nano", weights=False),
            name=self.spec.name,
            layout=self.spec.layout,
            context_tokens=self.context_tokens,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            scale_factor=self.cost.network.scale_factor,
            resize_edge=_EDGE_TIMES * vision.image_size,
            splits_images=True,
        )


@dataclass(frozen=True)
class PlannedPrompt:
    """What ``prepare`` would make of ``sources``: ``times[i]`` of the frames of ``sources[i]`` in
    seconds, ``size`` in images and tokens, ``smaller`` the sizes for smaller budgets of frames,
    ``others`` those of other published models, with as many frames as fit them.

    ``seconds`` are those of ``decode`` and ``preprocess`` of all frames, by a few of them.
    ``exact`` is False where tokens are estimated.
    """

    sources: tuple[VideoSource, ...]
    metadata: tuple[VideoMetadata, ...]
    times: tuple[tuple[float, ...], ...]
    size: PromptSize
    smaller: tuple[PromptSize, ...]
    others: tuple[tuple[ModelCost, PromptSize], ...]
    exact: bool
    seconds: dict[str, float]
    notices: tuple[str, ...]

    @property
    def frames(self) -> int:
        """Number of frames of all sources; an image is one."""
        return sum(map(len, self.times))

    def seconds_for(self, frames: int) -> dict[str, float]:
        """Seconds to decode and to preprocess ``frames`` of them."""
        share = frames / max(1, self.frames)
        return {stage: seconds * share for stage, seconds in self.seconds.items()}


@dataclass(frozen=True)
class CostPlan:
    """Predicted cost of one question: of the chosen model, of the same with fewer frames, and of
    the published ones with as many frames as fit them."""

    question: str
    prompt: PlannedPrompt
    chosen: Prediction
    smaller: tuple[Prediction, ...]
    others: tuple[Prediction, ...]
    rates: Rates


def open_for_plan(spec: EngineSpec) -> PlannedModel:
    """Open what is on this machine of a model; of a published one that is not, its registered
    figures. Raises ModelError as ``open_checkpoint`` does offline."""
    known = lookup_model(spec.model)
    if known is not None and known.repo_id is not None:
        cost = ModelCost.of_spec(known, quantize=spec.quantize)
        if cost is not None and not is_described(known.repo_id):
            return PlannedModel(cost, known, None)
    checkpoint = replace(spec, offline=True).checkpoint()
    return PlannedModel(
        ModelCost.of_checkpoint(checkpoint, quantize=spec.quantize), known, checkpoint
    )


def plan_prompt(
    model: PlannedModel,
    sources: Sequence[VideoSource],
    question: str,
    *,
    sampling: FrameSampling = FrameSampling(),  # noqa: B008 -- frozen
    prompt_options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
    generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
    reader: str = "auto",
    subtitles: str | None = None,
    budgets: Sequence[int] = (),
    clock: Callable[[], float] = time.perf_counter,
    on_progress: OnProgress = no_progress,
) -> PlannedPrompt:
    """Plan one question about ``sources``; ``budgets`` are smaller numbers of frames.

    Raises as ``prepare`` does, before any frame is decoded.
    """
    check_question(question)
    with ExitStack() as stack:
        started = clock()
        readers = tuple(
            stack.enter_context(open_video(source.path, kind=source.kind, reader=reader))
            for source in sources
        )
        plan = PromptPlan(readers, sampling, question, subtitles, ())
        stills = still_image_notices(plan)
        sizing = _Sizing(model, plan, prompt_options, generation.max_new_tokens)
        total, reduced = sizing.frame_count(generation)
        times = plan.times(total)
        chosen = clock() - started
        timed = _TimedFrames(model.checkpoint_or_nano, prompt_options, clock)
        for opened, wanted in zip(readers, times, strict=True):
            timed.add(opened, sampling, wanted, on_progress)
        taken = sum(map(len, times))
        size = sizing.size(total)
        others = (
            (cost, _Sizing(PlannedModel(cost, spec, None), plan, prompt_options, sizing.new_tokens))
            for spec, cost in _published(model)
        )
        fewer = (sizing.size(budget) for budget in budgets if len(sources) <= budget < taken)
        return PlannedPrompt(
            sources=tuple(sources),
            metadata=tuple(opened.metadata for opened in readers),
            times=tuple(map(tuple, times)),
            size=size,
            smaller=tuple(fewer),
            others=tuple((cost, other.size(sampling.max_frames)) for cost, other in others),
            exact=model.checkpoint is not None,
            seconds={"decode": chosen + timed.decode, "preprocess": timed.preprocess},
            notices=(
                *(notice for source in sources for notice in source.notices),
                *stills,
                *reduced,
                *(notice for opened in readers for notice in opened.metadata.notices),
            ),
        )


def predict_plan(
    model: PlannedModel,
    prompt: PlannedPrompt,
    question: str,
    rates: Callable[[ModelCost], Rates],
) -> CostPlan:
    """Predict the cost of ``prompt`` by the rates for each model."""

    def predicted(cost: ModelCost, size: PromptSize) -> Prediction:
        measured = prompt.seconds_for(min(size.frames, prompt.frames))
        return predict(cost, size, rates(cost), measured=measured)

    return CostPlan(
        question=question,
        prompt=prompt,
        chosen=predicted(model.cost, prompt.size),
        smaller=tuple(predicted(model.cost, size) for size in prompt.smaller),
        others=tuple(predicted(cost, size) for cost, size in prompt.others),
        rates=rates(model.cost),
    )


def _published(chosen: PlannedModel) -> Iterator[tuple[ModelSpec, ModelCost]]:
    """Published checkpoints, one of each size and layout; not the chosen one, nor its like."""
    seen = set()
    if chosen.spec is not None and chosen.spec.network is not None:
        seen.add((chosen.spec.layout, chosen.cost.network))
    for spec in MODELS.values():
        cost = ModelCost.of_spec(spec, quantize=chosen.cost.quantize)
        if cost is not None and (spec.layout, cost.network) not in seen:
            seen.add((spec.layout, cost.network))
            yield spec, cost


@dataclass(frozen=True)
class _Sizing:
    """Images and tokens of a prompt: counted where the tokenizer is here, else estimated."""

    model: PlannedModel
    plan: PromptPlan
    options: PromptOptions
    new_tokens: int

    def frame_count(self, generation: GenerationOptions) -> tuple[int, tuple[str, ...]]:
        """Return the budget that fits, and a notice where it is smaller than the one asked for."""
        model, asked = self.model, self.plan.sampling.max_frames
        if model.checkpoint is not None:
            return choose_frame_count(self.plan, model.checkpoint, self.options, generation)
        if len(self.plan.readers) > asked:
            raise too_few_frames(len(self.plan.readers), asked)
        taken = sum(map(len, self.plan.times(asked)))
        fitting = self.size(asked).frames
        if fitting >= taken:
            return asked, ()
        if not self.plan.sampling.reduce_to_fit:
            raise PromptError(
                f"{taken} frames do not fit the {model.context_tokens:,} tokens of "
                f"`{model.cost.name}`",
                hint=f"`--max-frames {fitting}` fits, about",
            )
        return fitting, (
            f"about {fitting} of {taken} frames fit the {model.context_tokens:,} tokens of "
            f"`{model.cost.name}`",
        )

    def size(self, budget: int) -> PromptSize:
        """Size of the prompt with at most ``budget`` frames."""
        checkpoint = self.model.checkpoint_or_nano
        parts = render_messages(self.plan.planned(budget), checkpoint, self.options)
        special = [part for part in parts if isinstance(part, SpecialToken)]
        in_images = sum(part.count for part in special if part.token == IMAGE)
        images = in_images // checkpoint.tokens_per_image
        if self.model.checkpoint is not None:
            tokens = count_tokens_of_parts(parts, checkpoint)
            return PromptSize(images, tokens, self.new_tokens)
        assert self.model.spec is not None
        text = TEXT_TOKENS + _estimated_tokens(self.plan.subtitles)
        if all(reader.metadata.kind == "image" for reader in self.plan.readers):
            tokens = sum(part.count for part in special) + text
            return PromptSize(images, tokens, self.new_tokens)
        return fitting_prompt(self.model.spec, images, text_tokens=text, new_tokens=self.new_tokens)


def _estimated_tokens(text: str | None) -> int:
    """Tokens of a text by its length: about four characters each in English."""
    return len(text or "") // 4


class _TimedFrames:
    """Seconds to decode and to transform frames, by the first few of each source.

    The first frame of all is left out of the transform's mean: libraries are loaded with it.
    """

    def __init__(
        self, checkpoint: Checkpoint, options: PromptOptions, clock: Callable[[], float]
    ) -> None:
        self._checkpoint, self._options, self._clock = checkpoint, options, clock
        self.decode = self.preprocess = 0.0
        self._warm = False

    def add(
        self,
        reader: VideoReader,
        sampling: FrameSampling,
        times: Sequence[float],
        on_progress: OnProgress,
    ) -> None:
        """Decode a few frames at ``times``, and add what all of them take."""
        still = reader.metadata.kind == "image"
        transform = (image_transform if still else frame_transform)(
            self._checkpoint, self._options
        )[1]
        spent: list[float] = []
        inside = 0.0

        def timed(image: Images) -> Images:
            nonlocal inside
            begun = started = self._clock()
            done = transform(image)
            if not self._warm:
                started, self._warm = self._clock(), True
                done = transform(image)
            ended = self._clock()
            spent.append(ended - started)
            inside += ended - begun
            return done

        def decode(wanted: Sequence[float]) -> float:
            before, started = inside, self._clock()
            # Corrupt frames among these few say nothing of all of them.
            with suppress(ReaderError):
                sample_frames(
                    reader, sampling, times=wanted, transform=timed, on_progress=report_start
                )
            return self._clock() - started - (inside - before)

        def report_start(progress: Progress) -> None:
            on_progress(replace(progress, total=min(len(times), 1 + _TIMED_FRAMES)))

        first, few = decode(times[:1]), times[1 : 1 + _TIMED_FRAMES]
        rest = decode(few) / len(few) * (len(times) - 1) if few else 0.0
        self.decode += first + rest
        self.preprocess += sum(spent) / max(1, len(spent)) * len(times)
