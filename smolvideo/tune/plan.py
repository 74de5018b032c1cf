"""The plan of a run from its data file and model, before anything is downloaded or loaded.

Sizes come from the registered hyperparameters or the config.json at hand, answer lengths from the
data. Seconds are operations over this machine's measured rates (``smolvideo.cost``), where they are
known: a training step multiplies each token's weights three times, four with checkpointing.
"""

from dataclasses import replace
from pathlib import Path

from smolvideo.cost import RateRequest, Rates, kept_rates
from smolvideo.cost.operations import NumberFormat, encode_work, prefill_work
from smolvideo.engines import EngineSpec
from smolvideo.engines.devices import choose_device, choose_dtype
from smolvideo.models import lookup_model
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.tune.lines import DataLine, read_lines
from smolvideo.tune.memory import TunePlan, Workload, parameters_by_part, plan_memory
from smolvideo.tune.options import TuneOptions
from smolvideo.tune.vqa import is_vqa, read_vqa

TYPICAL_SAMPLES = 1000
TYPICAL_ANSWER_TOKENS = 16
_CHARACTERS_PER_TOKEN = 3.5
_TEMPLATE_TOKENS = 24
_NANO_TOKENS_PER_FRAME = 8


def plan_run(spec: EngineSpec, options: TuneOptions, data: Path | None) -> TunePlan:
    """Plan a run on ``data``, or on a typical file. Raises ModelError for an unknown model and
    RecordError for a file that cannot be read."""
    known = lookup_model(spec.model)
    is_nano = known is not None and known.is_bundled
    if known is not None and known.network is not None:
        network, per_frame = known.network, known.tokens_per_frame or 0
    else:
        checkpoint = replace(spec, offline=True).checkpoint()
        config = read_json(checkpoint.folder / "config.json")
        network, is_nano = NetworkConfig.from_json(config), checkpoint.is_nano
        per_frame = network.tokens_per_image + _NANO_TOKENS_PER_FRAME
    lines = _lines(data)
    work = _workload(lines, options, per_frame)
    device = choose_device(spec.device)
    parameters = sum(parameters_by_part(network).values())
    dtype = str(choose_dtype(device, parameters, spec.dtype)).removeprefix("torch.")
    plan = plan_memory(spec.model, network, options, work, dtype=dtype, is_nano=is_nano)
    rates = kept_rates(RateRequest(spec.device, spec.dtype, is_nano))
    return plan if rates is None else _with_seconds(plan, network, options, work, rates)


def _lines(data: Path | None) -> tuple[DataLine, ...]:
    if data is None:
        return ()
    return (read_vqa(data) if is_vqa(data) else read_lines(data)).lines


def _workload(lines: tuple[DataLine, ...], options: TuneOptions, per_frame: int) -> Workload:
    if not lines:
        tokens = options.max_frames * per_frame + _TEMPLATE_TOKENS + 2 * TYPICAL_ANSWER_TOKENS
        return Workload(TYPICAL_SAMPLES, tokens, TYPICAL_ANSWER_TOKENS, TYPICAL_SAMPLES)
    # The longest tenth decides the peak.
    answers = sorted(len(line.answer) for line in lines)
    texts = sorted(
        len(line.question)
        + len(line.answer)
        + sum(len(t.question + t.answer) for t in line.history)
        for line in lines
    )
    place = min(len(lines) - 1, round(0.9 * len(lines)))
    answer_tokens = 1 + round(answers[place] / _CHARACTERS_PER_TOKEN)
    text_tokens = _TEMPLATE_TOKENS + round(texts[place] / _CHARACTERS_PER_TOKEN)
    windows = {media for line in lines for media in line.media}
    frames_each = options.max_frames if windows else 0
    tokens = frames_each * per_frame + text_tokens
    return Workload(len(lines), tokens, answer_tokens, frames_each * len(windows))


def _with_seconds(
    plan: TunePlan, network: NetworkConfig, options: TuneOptions, work: Workload, rates: Rates
) -> TunePlan:
    numbers = NumberFormat(rates.dtype)
    once = prefill_work(network, work.tokens, numbers)
    forward = once.product_flops / rates.prefill_products + (
        once.attention_flops / rates.prefill_attention
    )
    passes = 4 if options.checkpointing is not False else 3
    frame = encode_work(network, numbers)
    each = frame.product_flops / rates.encode_products
    each += frame.attention_flops / rates.encode_attention
    return replace(
        plan,
        seconds_per_step=forward * passes * options.batch_size,
        encode_seconds=each * work.frames,
    )
