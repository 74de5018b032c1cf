"""Measure one engine or baseline once, in a process of its own: its peak memory is its own.

A baseline reads model files of its own, which its ``export_module`` writes:
``python -m smolvideo.bench.… CHECKPOINT FOLDER DTYPE``, in a separate process, so that the
conversion does not affect the measurement.

``python -m smolvideo.bench.measure`` reads a ``BenchTask`` as JSON and ends with one line of JSON.
Quantized weights are compared with unquantized ones by their log-probabilities.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from smolvideo.bench.input_videos import read_bench_frames
from smolvideo.bench.instruction_sets import openvino_instruction_set, torch_instruction_set
from smolvideo.bench.llama_cpp_engine import LlamaCppEngine
from smolvideo.bench.llama_cpp_export import import_gguf, import_llama_cpp
from smolvideo.bench.openvino_engine import OpenVinoEngine, import_openvino
from smolvideo.engines import (
    GenerationOptions,
    NativeEngine,
    Session,
    SessionEngine,
    StreamingEngine,
    load_engine,
)
from smolvideo.errors import UsageError
from smolvideo.frames import FrameBatch
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.prompt import Message, Prompt, pack_prompt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Baseline:
    """``package`` is what is measured; each of ``import_checks`` raises UsageError where a package
    is missing."""

    package: str
    import_checks: tuple[Callable[[], object], ...]
    export_module: str
    load: Callable[[Checkpoint, Path, str], StreamingEngine]


BASELINES = {
    "openvino": Baseline(
        "openvino", (import_openvino,), "smolvideo.bench.openvino_engine", OpenVinoEngine
    ),
    "llama.cpp": Baseline(
        "llama-cpp-python",
        (import_llama_cpp, import_gguf),
        "smolvideo.bench.llama_cpp_export",
        LlamaCppEngine,
    ),
}


def check_baseline(name: str, device: str) -> None:
    """Raise UsageError where the baseline is not installed, or ``device`` is not the CPU."""
    for find in BASELINES[name].import_checks:
        find()
    if device not in ("auto", "cpu"):
        raise UsageError(f"`--against {name}` measures on the CPU", hint="add `--device cpu`")


def save_logprobs(scores: "torch.Tensor", file: Path) -> None:
    """Write the log-probabilities of the logits ``scores`` [vocabulary] to ``file`` (.npy)."""
    import numpy as np

    np.save(file, scores.double().log_softmax(-1).cpu().numpy())


def logprob_error(got: Path, expected: Path) -> dict[str, float]:
    """Compare ``got`` with ``expected``, two files of ``save_logprobs``, in nats.

    ``largest`` and ``mean`` are absolute differences over the whole vocabulary; ``kl_divergence``
    is the Kullback–Leibler divergence D(expected ‖ got): it weighs each token by its probability,
    as sampling would.
    """
    import numpy as np

    theirs, ours = np.load(expected), np.load(got)
    off = np.abs(ours - theirs)
    return {
        "largest": float(off.max()),
        "mean": float(off.mean()),
        "kl_divergence": float((np.exp(theirs) * (theirs - ours)).sum()),
    }


NUM_QUESTIONS = 20
_ASKED_ALONE = 5


@dataclass(frozen=True)
class BenchTask:
    """One measurement. ``checkpoint`` is a name or a folder whose weights are on this machine.

    ``frames`` are taken from ``video``, fewer where it has fewer. ``log_probabilities`` names a
    file for the log-probabilities after the first question, which the engine ``native`` writes.
    ``exported`` is the folder of a baseline's own files. ``isa`` is the cap of this process.
    ``first_question_only``: no others are asked, for the peak memory alone.
    """

    engine: str
    checkpoint: str
    video: str
    frames: int
    new_tokens: int
    device: str
    dtype: str
    quantize: str = "none"
    log_probabilities: str | None = None
    exported: str | None = None
    isa: str | None = None
    arithmetic: str = "auto"
    first_question_only: bool = False
    adapter: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Seconds of each stage, and the peak memory of the process.

    ``decode`` reads the frames from the video, ``preprocess`` transforms them to the model's image
    size. ``next_question`` is the time to the first token of another question on the same frames;
    an engine without a prefix cache starts over for it, so it is the first question's
    ``first_token`` there. ``twenty_questions`` is the time of the first answer and of nineteen more
    in a batch, None where it was not measured. ``weight_bytes`` is the memory of the weights alone,
    where the engine is ours. ``instruction_set`` is what ran under a cap, None without one.
    ``arithmetic`` is that of frames and prompts.
    """

    engine: str
    device: str
    dtype: str
    threads: int
    frames: int
    prompt_tokens: int
    load: float
    decode: float
    preprocess: float
    encode: float
    prefill: float
    first_token: float
    tokens_per_second: float
    one_question: float
    next_question: float
    twenty_questions: float | None
    peak_memory_bytes: int | None
    quantize: str = "none"
    weight_bytes: int | None = None
    instruction_set: str | None = None
    arithmetic: str = "float"

    @property
    def name(self) -> str:
        """``native``, ``native int8``: the name of the engine in comparisons."""
        return engine_name(self.engine, self.quantize)


def engine_name(engine: str, quantize: str) -> str:
    """Format the engine and its weight format; see ``Measurement.name``."""
    return engine if quantize == "none" else f"{engine} {quantize}"


def measure(task: BenchTask) -> Measurement:
    """Load, answer one question, then others on the same frames where the engine has sessions."""
    checkpoint = open_checkpoint(task.checkpoint, offline=True)
    engine = _load(task, checkpoint)
    import torch  # not before loading, which sets torch's threads

    # Random weights may generate an end token at any step: only the length ends an answer here.
    engine.checkpoint = replace(checkpoint, eos_token_ids=())  # type: ignore[misc]
    generation = GenerationOptions(max_new_tokens=task.new_tokens)
    # warm up with two frames
    warm = GenerationOptions(max_new_tokens=2)
    video = Path(task.video)
    few = read_bench_frames(video, checkpoint, min(task.frames, 2))
    engine.stream(next(_questions(checkpoint, few.batch)), warm).result()
    # the first question
    footage = read_bench_frames(video, checkpoint, task.frames)
    questions = _questions(checkpoint, footage.batch)
    first = next(questions)
    session = None
    if isinstance(engine, SessionEngine):
        session = engine.start_session(pack_prompt([Message("user", ("Ready?",))], checkpoint))
    started = time.perf_counter()
    answer = (session or engine).stream(first, generation).result()
    one_question = time.perf_counter() - started
    seconds = answer.usage.seconds
    first_token = seconds["encode"] + seconds["prefill"]
    # further questions: one by one, then in a batch
    next_question, twenty = first_token, None
    if session is not None and not task.first_question_only:
        others = list(questions)
        waits = sorted(_wait(session, prompt, generation) for prompt in others[:_ASKED_ALONE])
        next_question = waits[len(waits) // 2]
        started = time.perf_counter()
        session.answer_batch(others, generation)
        twenty = one_question + time.perf_counter() - started
        if task.log_probabilities is not None:
            save_logprobs(session.prefill(first), Path(task.log_probabilities))
    return Measurement(
        engine=engine.name,
        device=engine.device,
        dtype=engine.dtype,
        threads=torch.get_num_threads(),
        frames=len(footage.batch),
        prompt_tokens=len(first.token_ids),
        load=engine.load_seconds,
        decode=footage.decode,
        preprocess=footage.preprocess,
        encode=seconds["encode"],
        prefill=seconds["prefill"],
        first_token=first_token,
        tokens_per_second=answer.usage.tokens_per_second or 0.0,
        one_question=one_question,
        next_question=next_question,
        twenty_questions=twenty,
        peak_memory_bytes=answer.usage.peak_memory_bytes,
        quantize=engine.quantize,
        weight_bytes=_weight_bytes(engine),
        instruction_set=None if task.isa is None else _instruction_set(engine),
        arithmetic=engine.arithmetic,
    )


def _load(task: BenchTask, checkpoint: Checkpoint) -> StreamingEngine:
    if task.exported is not None:
        return BASELINES[task.engine].load(checkpoint, Path(task.exported), task.dtype)
    return load_engine(
        checkpoint,
        engine=task.engine,
        device=task.device,
        dtype=task.dtype,
        quantize=task.quantize,
        arithmetic=task.arithmetic,
        adapter=task.adapter,
    )


def _instruction_set(engine: StreamingEngine) -> str:
    if isinstance(engine, OpenVinoEngine):
        return openvino_instruction_set(engine.compiled_models)
    if isinstance(engine, LlamaCppEngine):
        return engine.system_features
    return torch_instruction_set()


def _weight_bytes(engine: StreamingEngine) -> int | None:
    from smolvideo.network.model import weight_bytes

    return weight_bytes(engine.network) if isinstance(engine, NativeEngine) else None


def _wait(session: Session, prompt: Prompt, generation: GenerationOptions) -> float:
    """Return the seconds to the first token of one more question."""
    seconds = session.stream(prompt, generation).result().usage.seconds
    return seconds["encode"] + seconds["prefill"]


def _questions(checkpoint: Checkpoint, frames: FrameBatch) -> Iterator[Prompt]:
    """Yield prompts on the same frames, as ``ask`` would pack them."""
    for number in range(NUM_QUESTIONS):
        question = f"What happens in part {number} of this video, and why?"
        yield pack_prompt([Message("user", (frames, question))], checkpoint)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(BenchTask(**json.loads(sys.argv[1]))))))  # noqa: T201 -- its result
