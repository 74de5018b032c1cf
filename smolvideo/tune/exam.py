"""An exam before and after tuning: any eval of one's own, or nano's held-out world.

What a run forgot shows in an exam that has nothing to do with its data. Answers are kept in the
run's folder and resumed, as those of ``smolvideo eval``.
"""

import json
from dataclasses import replace
from pathlib import Path

from smolvideo.engines import Engine, GenerationOptions, load_engine
from smolvideo.errors import RecordError, UsageError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.item import Benchmark
from smolvideo.evals.run import open_run, run_eval
from smolvideo.evals.scores import build_report
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.video_folder import VideoFolder
from smolvideo.evals.videos import VideoFinder
from smolvideo.files import make_folders
from smolvideo.json_types import parse_json
from smolvideo.models import Checkpoint
from smolvideo.network.adapter_weights import norms_fingerprint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.records import write_text_atomic
from smolvideo.sanitize import display_path
from smolvideo.train.exam import ExamOptions
from smolvideo.train.exam.evaluate import evaluate_exam
from smolvideo.tune.options import NamedModel, fingerprint
from smolvideo.tune.run import Machine

WORLD = "world"
WORLD_VIDEOS = 48
_NANO_TOKENS = 48
"""nano repeats the question before it answers with a letter."""

ExamScores = dict[str, tuple[float, int]]
"""Group of questions → share of right answers, number of questions."""


def check_exam(choice: str, checkpoint: NamedModel) -> Benchmark | None:
    """Read what ``--exam`` names, before anything is trained; None for nano's world.

    Raises UsageError for the world of another model, and as ``load_benchmark``.
    """
    if choice == WORLD:
        if not checkpoint.is_nano:
            raise UsageError(f"the exam `world` is nano's, not that of `{checkpoint.name}`")
        return None
    return load_benchmark("jsonl", Path(choice))


def sit_exam(
    choice: str,
    checkpoint: Checkpoint,
    folder: Path,
    machine: Machine,
    *,
    on_progress: OnProgress = no_progress,
) -> ExamScores:
    """Answer the exam with ``checkpoint``; answers are kept in ``folder``.

    Raises as ``load_engine`` and ``run_eval``.
    """
    benchmark = check_exam(choice, checkpoint)
    folder = folder / _key(benchmark, checkpoint)
    done = folder.with_suffix(".json")
    if done.exists():
        kept = parse_json(done.read_bytes())
        return {name: (float(share), int(count)) for name, (share, count) in kept.items()}
    _wrap_folder(folder.parent)
    with load_engine(
        checkpoint,
        engine="native",
        device=machine.device,
        dtype=machine.dtype,
        arithmetic=machine.arithmetic,
        cache=machine.cache,
        on_progress=on_progress,
    ) as engine:
        if benchmark is None:
            scores = _world(engine)
        else:
            scores = _benchmark(benchmark, Path(choice), engine, folder)
    write_text_atomic(done, json.dumps(scores) + "\n", overwrite=True)
    return scores


def _key(benchmark: Benchmark | None, checkpoint: Checkpoint) -> str:
    """Name of the answers of one checkpoint to one exam: others are not taken for them."""
    assert checkpoint.weights is not None
    questions = WORLD if benchmark is None else benchmark.sha256
    norms = norms_fingerprint(checkpoint.weights.files)
    return fingerprint(questions, checkpoint.name, norms, checkpoint.adapter_sha256)[:12]


def _wrap_folder(folder: Path) -> None:
    try:
        make_folders(folder)
    except OSError as error:
        raise RecordError(f"cannot make {display_path(folder)}: {error.strerror}") from error


def _world(engine: Engine) -> ExamScores:
    report = evaluate_exam(engine, ExamOptions(videos=WORLD_VIDEOS), parts=("old",))
    groups: dict[str, list[bool]] = {}
    for answer in report.answers:
        for group in ("all", answer.type):
            groups.setdefault(group, []).append(answer.right)
    return {name: (sum(right) / len(right), len(right)) for name, right in sorted(groups.items())}


def _benchmark(benchmark: Benchmark, path: Path, engine: Engine, folder: Path) -> ExamScores:
    settings = EvalSettings()
    if engine.checkpoint.is_nano:
        settings = replace(settings, generation=GenerationOptions(max_new_tokens=_NANO_TOKENS))
    run = open_run(folder, benchmark, settings, engine)
    run_eval(run, settings, engine, VideoFinder(VideoFolder(path.parent)))
    main = build_report(run).main
    groups = {"all": main.overall}
    groups |= {name: one for kind in main.groups.values() for name, one in kind.items()}
    return {name: (score.share.value or 0.0, score.total) for name, score in groups.items()}
