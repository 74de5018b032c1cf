"""A tuning run from data to adapter, resumed where it stopped."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from smolvideo.engines import FeatureCache, NativeEngine, load_engine
from smolvideo.errors import RecordError, UsageError
from smolvideo.files import file_lock, make_folders
from smolvideo.formatting import format_count
from smolvideo.models import Checkpoint
from smolvideo.models.adapter import Adapter
from smolvideo.models.json_files import read_json
from smolvideo.network.adapter_weights import norms_fingerprint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.records import write_text_atomic
from smolvideo.sanitize import display_path
from smolvideo.tune.items import Items, check_faults, split_items
from smolvideo.tune.network import TuningNetwork, require_peft, untrained_rows
from smolvideo.tune.options import TuneOptions, fingerprint
from smolvideo.tune.output import adapter_writer, put_back, words_of, write_merged
from smolvideo.tune.preferences import PreferenceOptions, PreferenceTraining
from smolvideo.tune.rehearsal import Rehearsal, add_rehearsal
from smolvideo.tune.samples import ROLES, SampleSet, SampleWriter, read_samples
from smolvideo.tune.training import STATE_FILE, Course, OnTuneProgress, Training, WriteOutput

RUN_FILE = "run.json"
OUTPUTS = ("best", "last", "merged")


@dataclass(frozen=True)
class Machine:
    """How the networks are loaded, by the names of the options."""

    device: str = "auto"
    dtype: str = "auto"
    arithmetic: str = "auto"
    cache: FeatureCache | None = None


@dataclass(frozen=True)
class TuneRequest:
    """What is tuned, on what, into which folder; with ``preferences`` on pairs of answers."""

    items: Items
    checkpoint: Checkpoint
    options: TuneOptions
    out: Path
    rehearsal: Rehearsal | None = None
    machine: Machine = field(default_factory=Machine)
    skip_faulty: bool = False
    preferences: PreferenceOptions | None = None

    def facts(self) -> dict[str, Any]:
        """All that the result depends on, for run.json."""
        checkpoint = self.checkpoint
        assert checkpoint.weights is not None
        return {
            "data": self.items.sha256,
            "lines": [item.line.number for item in self.items.items],
            "files": fingerprint([[media.sha256 for media in i.media] for i in self.items.items]),
            "rehearse": None if self.rehearsal is None else self.rehearsal.facts,
            "model": checkpoint.name,
            "revision": checkpoint.revision,
            "weights": norms_fingerprint(checkpoint.weights.files),
            "device": self.machine.device,
            "dtype": self.machine.dtype,
            "arithmetic": self.machine.arithmetic,
            **self.options.to_json(),
            **({} if self.preferences is None else asdict(self.preferences)),
        }


@dataclass(frozen=True)
class TuneResult:
    """A finished run: its folder, course, and the numbers of samples and frames."""

    request: TuneRequest
    course: Course
    steps: int
    rate: float
    counts: Mapping[str, int]
    frames_encoded: int
    frames_from_cache: int
    trained_parameters: int
    notices: tuple[str, ...] = ()


def tune(
    request: TuneRequest,
    *,
    on_progress: OnProgress = no_progress,
    on_step: OnTuneProgress = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> TuneResult:
    """Tune, or resume the run in ``request.out``.

    Leaves ``best`` and ``last`` there: adapters, or whole checkpoints after ``full``. Raises
    RecordError for lines that cannot be used and where the folder cannot be written, UsageError
    where it holds another run, ModelError where the network cannot be trained.
    """
    if request.options.method != "full":
        require_peft()  # before a minute of encoding
    with open_folder(request) as facts:
        samples = prepare_samples(request, facts, on_progress)
        for notice in samples.notices:
            on_note(notice)
        return _train(request, samples, facts, on_step, on_note)


@contextmanager
def open_folder(request: TuneRequest) -> Iterator[str]:
    """Lock the run's folder, and yield the fingerprint of the run. Raises UsageError for a folder
    of another run."""
    out = request.out
    try:
        make_folders(out)
        with file_lock(out / ".lock", on_contention=None):
            for name in OUTPUTS:
                put_back(out / name)
            for left in out.glob(".*.part"):  # of a state that a killed process was writing
                if left.is_file():
                    left.unlink()
            facts = request.facts()
            _check_same_run(out, facts)
            yield fingerprint(facts)
    except BlockingIOError as error:
        raise UsageError(f"another process tunes in {display_path(out)}") from error
    except OSError as error:
        raise RecordError(f"cannot write {display_path(out)}: {error.strerror or error}") from error


def _check_same_run(out: Path, facts: dict[str, Any]) -> None:
    file = out / RUN_FILE
    plain = json.loads(json.dumps(facts))
    # What stopped before its first step, at a faulty line, left nothing to resume.
    begun = any((out / name).exists() for name in (STATE_FILE, *OUTPUTS))
    if not (file.exists() and begun):
        if any(out.glob("*.safetensors")) or (out / "config.json").exists():
            raise UsageError(f"{display_path(out)} holds a checkpoint: name a new folder")
        write_text_atomic(file, json.dumps(plain, indent=2) + "\n", overwrite=True)
        return
    before = read_json(file)
    if changed := [name for name in plain if before.get(name) != plain[name]]:
        name = changed[0]
        long = isinstance(plain[name], list) or len(str(plain[name])) > 40
        what = name if long else f"{name} {before.get(name)}, now {plain[name]}"
        raise UsageError(
            f"{display_path(out)} holds another run ({what})",
            hint="run the same command to resume it, or name another `--out`",
        )


def prepare_samples(request: TuneRequest, facts: str, on_progress: OnProgress) -> SampleSet:
    """Return the samples of the run, prepared now or before.

    Raises RecordError where lines cannot be used, before anything is trained.
    """
    known = read_samples(request.out, facts)
    if known is not None:
        return known
    items, options = request.items, request.options
    train, held = split_items(items.items, options.held_out, options.seed)
    machine = request.machine
    engine = load_engine(
        request.checkpoint,
        engine="native",
        device=machine.device,
        dtype=machine.dtype,
        arithmetic=machine.arithmetic,
        cache=None if options.trains_eyes else machine.cache,
        on_progress=on_progress,
    )
    assert isinstance(engine, NativeEngine)
    with (
        engine,
        SampleWriter(
            request.out, engine, max_frames=options.max_frames, keeps_pixels=options.trains_eyes
        ) as writer,
    ):
        faults = writer.add_items(train, "train", on_progress=on_progress)
        faults += writer.add_items(held, "held_out", on_progress=on_progress)
        check_faults(items, faults, skip_faulty=request.skip_faulty)
        if request.rehearsal is not None:
            more = add_rehearsal(
                request.rehearsal,
                writer,
                engine,
                train,
                options.seed,
                max_frames=options.max_frames,
                on_progress=on_progress,
            )
            if request.rehearsal.items is not None:
                check_faults(request.rehearsal.items, more, skip_faulty=request.skip_faulty)
        writer.finish(facts)
    samples = read_samples(request.out, facts)
    assert samples is not None
    if not samples.of("train"):
        raise RecordError(f"{display_path(items.path)} has no line to train on")
    return samples


def _train(
    request: TuneRequest,
    samples: SampleSet,
    facts: str,
    on_step: OnTuneProgress,
    on_note: Callable[[str], None],
) -> TuneResult:
    options, checkpoint = request.options, request.checkpoint
    new_rows: list[int] = []
    if options.method != "full":
        new_rows = untrained_rows(checkpoint, samples.of("train"))
    if new_rows and "rows" not in options.parts:
        options = replace(options, parts=(*options.parts, "rows"))
        on_note(
            f"also trained: the embedding of {format_count(len(new_rows), 'token')} of the "
            f"answers, new to `{checkpoint.name}`"
        )
    network = TuningNetwork(
        checkpoint,
        options,
        samples.features,
        device=request.machine.device,
        dtype=request.machine.dtype,
        new_rows=new_rows,
    )
    words = words_of(
        text for item in request.items.items for text in (item.line.question, item.line.answer)
    )
    common = (request.out, network, samples, options)
    write = writer_for(network, words)
    training: Training
    if request.preferences is None:
        training = Training(*common, facts=facts, write=write, on_progress=on_step)
    else:
        training = PreferenceTraining(
            *common,
            preferences=request.preferences,
            facts=facts,
            write=write,
            on_progress=on_step,
        )
    course = training.run()
    write_curve(request.out, course)
    return TuneResult(
        replace(request, options=options),
        course,
        training.steps,
        training.rate,
        {role: len(samples.of(role)) for role in ROLES},
        samples.encoded,
        samples.from_cache,
        sum(parameter.numel() for parameter in network.trainable.values()),
        samples.notices,
    )


def writer_for(network: TuningNetwork, words: list[str]) -> WriteOutput:
    """Return the function that writes what ``network`` holds: an adapter or a checkpoint."""
    checkpoint = network.checkpoint
    if network.lora_config is None:
        return lambda folder: write_merged(
            folder, checkpoint, trained=network.full_tensors(), words=words
        )
    write = adapter_writer(checkpoint, network.lora_config, words)
    return lambda folder: write(folder, network.adapter_tensors())


def write_curve(out: Path, course: Course) -> None:
    """Write the loss of every step and the scores, without times: the same run, the same bytes."""
    scores = {point["step"]: point["scores"] for point in course.evaluations}
    points = [{"step": 0, "scores": scores[0]}] if 0 in scores else []
    points += [
        {**point, **({"scores": scores[point["step"]]} if point["step"] in scores else {})}
        for point in course.curve
    ]
    text = "".join(json.dumps(point) + "\n" for point in points)
    write_text_atomic(out / "curve.jsonl", text, overwrite=True)


def merge(request: TuneRequest) -> Path:
    """Write ``merged``: the checkpoint with the best adapter in its weights; return its folder."""
    target = request.out / "merged"
    adapted = request.checkpoint.with_adapter(request.out / "best")
    adapter: Adapter | None = adapted.adapter
    write_merged(target, adapted, words=sorted(adapter.words) if adapter is not None else None)
    return target


def discard_work(out: Path) -> None:
    """Delete what only resuming needs: the features and the state."""
    shutil.rmtree(out / "samples", ignore_errors=True)
    (out / "state.pt").unlink(missing_ok=True)


def result_facts(result: TuneResult) -> dict[str, Any]:
    """The result as JSON values."""
    return {
        **result.request.facts(),
        "steps_done": result.course.step,
        "learning_rate_used": result.rate,
        "samples": dict(result.counts),
        "frames_encoded": result.frames_encoded,
        "frames_from_cache": result.frames_from_cache,
        "trained_parameters": result.trained_parameters,
        "best_step": result.course.best_step,
        "seconds": round(result.course.seconds, 1),
        "evaluations": result.course.evaluations,
    }
