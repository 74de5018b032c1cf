"""Samples: token ids, targets and frame features of every item, prepared once and kept on disk.

    <run>/samples/features   features [N, tokens_per_image, hidden] of all frames, or their pixels
    <run>/samples/index.pt   ids, targets and places of the features, written last

Frames are encoded by the engine ``native`` with its feature cache, so that a clip that was asked
about before is not encoded again, and by nothing else afterwards: the features are mapped from the
file in every step. A sample's prompt is packed exactly as ``ask`` packs it; only tokens of answers
and the end of the turn have targets.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from smolvideo.engines import GenerationOptions, NativeEngine
from smolvideo.errors import PromptError, RecordError, SmolVideoError
from smolvideo.files import make_folders, sync_file
from smolvideo.frames import Images, blank_images
from smolvideo.models import Checkpoint
from smolvideo.pipeline import load_frames, prepare
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import (
    Message,
    Prompt,
    PromptOptions,
    answer_ids,
    frame_transform,
    pack_prompt,
)
from smolvideo.prompt.messages import Media
from smolvideo.sampling import FrameSampling
from smolvideo.sanitize import display_path
from smolvideo.train.data_parallel import load_state, save_state
from smolvideo.tune.items import TuneItem
from smolvideo.tune.lines import Fault

IGNORED = -100
"""Target of tokens without a loss, as in torch's ``cross_entropy``."""

Role = Literal["train", "held_out", "rehearse", "rehearse_held_out"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Sample:
    """A tokenized question with its answer.

    ``targets[i]`` is the token to predict after token i, or ``IGNORED``. ``frames`` are rows of the
    run's features, in the order of the image tokens. ``kind`` groups the scores of rehearsal.
    ``line`` is that of the data file.
    """

    token_ids: tuple[int, ...]
    targets: tuple[int, ...]
    frames: tuple[int, ...]
    role: Role
    kind: str = ""
    line: int = 0

    @property
    def num_targets(self) -> int:
        return sum(target != IGNORED for target in self.targets)


@dataclass
class SampleSet:
    """Prepared samples. ``features`` is ``[N, tokens_per_image, hidden]``, or with trained eyes
    the pixels ``[N, S, S, 3]``; its last row is a grey frame. ``encoded`` and ``from_cache`` count
    frames."""

    samples: list[Sample]
    features: Tensor
    encoded: int = 0
    from_cache: int = 0
    notices: tuple[str, ...] = ()

    def of(self, role: Role) -> list[Sample]:
        """Samples of one role, in the order of the data."""
        return [sample for sample in self.samples if sample.role == role]

    @property
    def grey_row(self) -> int:
        return len(self.features) - 1


def make_sample(
    prompt: Prompt, answer: str, checkpoint: Checkpoint, **about: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return ids and targets of ``answer`` after ``prompt``, with the end of the turn.

    Raises PromptError where both together exceed the context.
    """
    end = checkpoint.special_tokens[checkpoint.end_of_turn_token]
    said = [*answer_ids(prompt, answer, checkpoint), end]
    everything = (*prompt.token_ids, *said)
    if len(everything) > checkpoint.context_tokens:
        raise PromptError(
            f"prompt and answer take {len(everything):,} tokens, and `{checkpoint.name}` has room "
            f"for {checkpoint.context_tokens:,}"
        )
    targets = [IGNORED] * (len(prompt.token_ids) - 1) + said
    return everything[:-1], tuple(targets)


class SampleWriter:
    """Packs items and appends their features to the run's file."""

    def __init__(
        self, folder: Path, engine: NativeEngine, *, max_frames: int, keeps_pixels: bool = False
    ) -> None:
        self.folder = folder / "samples"
        self.checkpoint = engine.checkpoint
        self._engine = engine
        self._max_frames = max_frames
        self._keeps_pixels = keeps_pixels
        self._samples: list[Sample] = []
        self._rows = self.encoded = self.from_cache = 0
        self._notices: dict[str, None] = {}
        _wrapped(make_folders, self.folder)
        with suppress(OSError):
            (self.folder / "index.pt").unlink()
        self._file = _wrapped((self.folder / "features").open, "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add_items(
        self, items: Sequence[TuneItem], role: Role, *, on_progress: OnProgress = no_progress
    ) -> list[Fault]:
        """Decode, encode and pack ``items``; return the faults of those that cannot be used."""
        faults: list[Fault] = []
        groups: dict[tuple[object, ...], list[TuneItem]] = {}
        for item in items:
            groups.setdefault(item.key, []).append(item)
        done = 0
        for group in groups.values():
            on_progress(Progress("decode", done, len(items), label=role))
            faults += self._add_group(group, role)
            done += len(group)
        on_progress(Progress("decode", done, len(items), label=role))
        return faults

    def add_packed(
        self,
        packed: Iterable[tuple[tuple[int, ...], tuple[int, ...], Sequence[int], str]],
        images: Images,
        role: Role,
    ) -> None:
        """Add samples that are tokenized already: ids, targets, places in ``images``, kind."""
        rows = self._store(images)
        for token_ids, targets, places, kind in packed:
            frames = tuple(rows[place] for place in places)
            self._samples.append(Sample(token_ids, targets, frames, role, kind))

    def _add_group(self, group: Sequence[TuneItem], role: Role) -> Iterator[Fault]:
        """Add items about the same frames, which are decoded and encoded once."""
        try:
            content, notices = media_of(group[0], self.checkpoint, self._max_frames)
        except SmolVideoError as error:
            return iter([Fault(item.line.number, str(error)) for item in group])
        self._notices.update(dict.fromkeys(notices))
        rows: tuple[int, ...] | None = None
        faults = []
        for item in group:
            try:
                prompt = pack_prompt(messages_of(item, content), self.checkpoint)
                answers = [(item.line.answer, item.line.kind)]
                if item.line.rejected is not None:
                    answers = [(item.line.answer, "chosen"), (item.line.rejected, "rejected")]
                packed = [
                    (make_sample(prompt, text, self.checkpoint), kind) for text, kind in answers
                ]
            except SmolVideoError as error:
                faults.append(Fault(item.line.number, str(error)))
                continue
            if rows is None:
                rows = self._store(prompt.images)
            for (token_ids, targets), kind in packed:
                sample = Sample(token_ids, targets, rows, role, kind, item.line.number)
                self._samples.append(sample)
        return iter(faults)

    def _store(self, images: Images) -> tuple[int, ...]:
        """Append the features of ``images`` and return their rows."""
        count = len(images)
        if not count:
            return ()
        if self._keeps_pixels:
            content: Any = np.ascontiguousarray(images).data
        else:
            with self._engine.encoder.lock:
                features, cached = self._engine.encoder.encode(images)
            self.from_cache += cached
            self.encoded += count - cached
            content = features.cpu().flatten().view(torch.uint8).numpy().data
        _wrapped(self._file.write, content)
        self._rows += count
        return tuple(range(self._rows - count, self._rows))

    def finish(self, facts: str) -> None:
        """Add the grey frame, sync the features and write the index, which makes them valid."""
        side = self.checkpoint.image_size
        grey = blank_images(np.zeros((1, side, side, 3), np.uint8))
        before = self.encoded, self.from_cache
        self._store(grey)
        self.encoded, self.from_cache = before
        _wrapped(self._file.flush)
        _wrapped(sync_file, self._file.fileno())
        save_state(
            _index(self, facts, self._samples, tuple(self._notices)), self.folder / "index.pt"
        )

    @property
    def row_shape(self) -> tuple[int, ...]:
        if self._keeps_pixels:
            return (self.checkpoint.image_size, self.checkpoint.image_size, 3)
        return (self.checkpoint.tokens_per_image, self._engine.network.config.text.hidden_size)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self._keeps_pixels else self._engine.encoder.dtype


def _index(
    writer: SampleWriter, facts: str, samples: Sequence[Sample], notices: tuple[str, ...]
) -> dict[str, Any]:
    def joined(parts: Iterable[Sequence[int]]) -> tuple[Tensor, Tensor]:
        listed = list(parts)
        ends = torch.tensor([len(part) for part in listed], dtype=torch.int64).cumsum(0)
        return torch.tensor([one for part in listed for one in part], dtype=torch.int32), ends

    return {
        "facts": facts,
        "rows": writer._rows,
        "row_shape": list(writer.row_shape),
        "dtype": str(writer.dtype).removeprefix("torch."),
        "encoded": writer.encoded,
        "from_cache": writer.from_cache,
        "notices": list(notices),
        "token_ids": joined(sample.token_ids for sample in samples),
        "targets": joined(sample.targets for sample in samples),
        "frames": joined(sample.frames for sample in samples),
        "about": [(sample.role, sample.kind, sample.line) for sample in samples],
    }


def read_samples(folder: Path, facts: str) -> SampleSet | None:
    """Map the samples of a run; None where there are none of the same ``facts``.

    Raises RecordError where the files are damaged.
    """
    index = folder / "samples" / "index.pt"
    if not index.exists():
        return None
    content = load_state(index)
    if not isinstance(content, dict) or content.get("facts") != facts:
        return None
    shape = [content["rows"], *content["row_shape"]]
    dtype = getattr(torch, content["dtype"])
    file = folder / "samples" / "features"
    numel = int(np.prod(shape))
    if not file.is_file() or file.stat().st_size != numel * dtype.itemsize:
        return None  # a crash lost what was not synced: it is prepared again
    features = torch.from_file(str(file), shared=False, size=numel, dtype=dtype).view(shape)
    columns = [_split(*content[name]) for name in ("token_ids", "targets", "frames")]
    samples = [
        Sample(ids, targets, frames, role, kind, line)
        for ids, targets, frames, (role, kind, line) in zip(*columns, content["about"], strict=True)
    ]
    return SampleSet(
        samples, features, content["encoded"], content["from_cache"], tuple(content["notices"])
    )


def _split(values: Tensor, ends: Tensor) -> list[tuple[int, ...]]:
    plain, starts = values.tolist(), [0, *ends.tolist()]
    return [tuple(plain[a:b]) for a, b in pairwise(starts)]


def media_of(
    item: TuneItem, checkpoint: Checkpoint, max_frames: int
) -> tuple[tuple[str | Media, ...], tuple[str, ...]]:
    """Decode the frames of an item: what precedes the question in its turn, and the notices.

    Frames are chosen as ``ask`` chooses them. Raises SourceError, ReaderError, UsageError and
    PromptError.
    """
    if not item.media:
        return (), ()
    windows = {(media.start_seconds, media.end_seconds) for media in item.media}
    if len(windows) == 1:
        ((start, end),) = windows
        prepared = prepare(
            checkpoint,
            [media.source for media in item.media],
            item.line.question,
            sampling=FrameSampling(
                max_frames=max(max_frames, len(item.media)),
                start_seconds=start,
                end_seconds=end,
                reduce_to_fit=False,
            ),
            generation=GenerationOptions(max_new_tokens=1),
        )
        return prepared.messages[-1].content[:-1], prepared.frame_notices
    return _several_windows(item, checkpoint, max_frames)


def _several_windows(
    item: TuneItem, checkpoint: Checkpoint, max_frames: int
) -> tuple[tuple[str | Media, ...], tuple[str, ...]]:
    """Media with windows of their own share the frames evenly."""
    content: list[str | Media] = []
    each, geometry = (
        max(1, max_frames // len(item.media)),
        frame_transform(checkpoint, PromptOptions()),
    )
    for number, media in enumerate(item.media, start=1):
        sampling = FrameSampling(
            max_frames=each, start_seconds=media.start_seconds, end_seconds=media.end_seconds
        )
        batch = load_frames(media.source.path, sampling, fit=geometry[1], geometry=geometry[0])
        content += [f"Video {number}:\n", batch]
    return tuple(content), ()


def messages_of(item: TuneItem, content: tuple[str | Media, ...]) -> list[Message]:
    """The conversation of an item, with its media at the beginning of the first turn."""
    messages: list[Message] = []
    for turn in item.line.history:
        messages.append(Message("user", (*content, turn.question)))
        messages.append(Message("assistant", (turn.answer,)))
        content = ()
    return [*messages, Message("user", (*content, item.line.question))]


def _wrapped(work: Any, *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except OSError as error:
        where = display_path(error.filename) if error.filename else "the run's samples"
        raise RecordError(f"cannot write {where}: {error.strerror or error}") from error
