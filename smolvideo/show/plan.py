"""Predicted cost of an answer: frames and context, seconds of each stage, and alternatives."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from smolvideo.cost import Prediction, Rates
from smolvideo.cost.predict import ONCE
from smolvideo.formatting import format_bytes, format_clock, format_count, format_seconds
from smolvideo.pipeline import CostPlan, PlannedPrompt
from smolvideo.sanitize import display_name
from smolvideo.show.console import Output
from smolvideo.show.tables import show_key_values, show_table

_STAGES = ("start", "decode", "preprocess", "load", "compile", "encode", "prefill")
_STAGE_NOTES = {
    "start": "Python, torch and the compiled kernels",
    "compile": "kernels for this dtype, once, while the rest goes on",
    "decode": "frames from the file",
    "preprocess": "frames to the model's square",
    "load": "weights, while frames are decoded",
    "encode": "frames through the vision tower",
    "prefill": "the prompt through the decoder",
}


def show_cost_plan(
    screen: Output, plan: CostPlan, *, context_tokens: int, available_bytes: int
) -> None:
    """Print the plan of one question on stdout."""
    prompt, chosen = plan.prompt, plan.chosen
    names = [display_name(source.name) for source in prompt.sources]
    facts = {name: _frames_of(prompt, place) for place, name in enumerate(_distinct(names))}
    about = "" if prompt.exact else "about "
    facts |= {
        "model": chosen.model,
        "context": f"{about}{chosen.prompt.tokens:,} of {context_tokens:,} tokens, and "
        f"{chosen.prompt.new_tokens:,} for the answer at most",
        "peak memory": _memory(chosen, available_bytes),
        "machine": _machine(plan.rates) if screen.verbose else "",
    }
    show_key_values(screen, facts)
    screen.out.print()
    show_table(screen, ("stage", "seconds", "what"), _stage_rows(chosen), right=frozenset({1}))
    if plan.smaller:
        screen.out.print()
        show_table(
            screen,
            ("frames", "tokens", "memory", "first token", "saves"),
            [_smaller_row(chosen, smaller) for smaller in plan.smaller],
            right=frozenset({0, 1, 2, 3, 4}),
        )
    if plan.others:
        screen.out.print()
        show_table(
            screen,
            ("model", "frames", "tokens", "memory", "first token", "per token"),
            [_model_row(other, available_bytes) for other in (chosen, *plan.others)],
            right=frozenset({1, 2, 3, 4, 5}),
        )


def show_batch_costs(screen: Output, plans: Sequence[tuple[str, CostPlan | str]]) -> None:
    """Print a row per video, with its error in place of figures, and the sum of all."""
    rows = [_batch_row(name, plan) for name, plan in plans]
    known = [plan.chosen for _, plan in plans if isinstance(plan, CostPlan)]
    frames, tokens = (
        sum(getattr(one.prompt, name) for one in known) for name in ("frames", "tokens")
    )
    total = ["all", "", f"{frames:,}", f"{tokens:,}", format_seconds(batch_seconds(known)), ""]
    columns = ["video", "length", "frames", "tokens", "time", "problem"]
    used = len(columns) if any(row[-1] for row in rows) else -1
    shown = [row[:used] for row in [*rows, total]]
    show_table(screen, columns[:used], shown, right=frozenset({1, 2, 3, 4}))


def batch_seconds(predictions: Sequence[Prediction]) -> float:
    """Seconds of one answer after the other: weights are loaded once."""
    loads = [sum(one.seconds.get(stage, 0.0) for stage in ONCE) for one in predictions]
    return max(loads, default=0.0) + sum(one.without_load for one in predictions)


def cost_plan_json(plan: CostPlan) -> dict[str, Any]:
    """The plan as JSON: seconds, bytes, tokens, and the frame times of each source."""
    prompt = plan.prompt
    return {
        "question": plan.question or None,
        "sources": [
            {
                "source": source.given,
                "name": source.name,
                "kind": metadata.kind,
                "duration_seconds": metadata.duration_seconds,
                "width": metadata.width,
                "height": metadata.height,
                "frame_times": list(times),
            }
            for source, metadata, times in zip(
                prompt.sources, prompt.metadata, prompt.times, strict=True
            )
        ],
        "tokens_are_exact": prompt.exact,
        "prediction": prediction_json(plan.chosen),
        "smaller": [prediction_json(one) for one in plan.smaller],
        "others": [prediction_json(one) for one in plan.others],
        "notices": list(prompt.notices),
        "rates": asdict(plan.rates),
    }


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """One prediction as JSON."""
    return {
        "model": prediction.model,
        "frames": prediction.prompt.frames,
        "tokens": prediction.prompt.tokens,
        "max_new_tokens": prediction.prompt.new_tokens,
        "seconds": {stage: round(value, 4) for stage, value in prediction.seconds.items()},
        "first_token_seconds": round(prediction.first_token, 4),
        "seconds_per_token": round(prediction.seconds_per_token, 6),
        "answer_seconds": round(prediction.first_token + prediction.generate, 4),
        "memory_bytes": prediction.memory_bytes,
        "weight_bytes": prediction.weight_bytes,
        "past_answers": prediction.corrected_by,
    }


def _frames_of(prompt: PlannedPrompt, place: int) -> str:
    """``1:00, 1920 by 1080: 50 frames from 0:00 to 0:59``."""
    metadata, times = prompt.metadata[place], prompt.times[place]
    size = f"{metadata.width} by {metadata.height}"
    if metadata.kind == "image":
        return f"a still image, {size}"
    first, last = (format_clock(time, decimals=1) for time in (times[0], times[-1]))
    where = f"at {first}" if len(times) == 1 else f"from {first} to {last}"
    length = format_clock(metadata.duration_seconds)
    return f"{length}, {size}: {format_count(len(times), 'frame')} {where}"


def _distinct(names: Sequence[str]) -> list[str]:
    """Names as keys: the second of the same name gets its number."""
    return [
        name if name not in names[:place] else f"{name} ({place + 1})"
        for place, name in enumerate(names)
    ]


def _memory(prediction: Prediction, available_bytes: int) -> str:
    """``1.9 GB, 513 MB of them weights; 21 GB are free``."""
    needed = format_bytes(prediction.memory_bytes)
    free = f"{format_bytes(available_bytes)} are free"
    if prediction.memory_bytes > available_bytes:
        free = f"more than the {format_bytes(available_bytes)} that are free"
    return f"{needed}, {format_bytes(prediction.weight_bytes)} of them weights; {free}"


def _machine(rates: Rates) -> str:
    """``cpu, float32, 2 threads: 160 and 92 GFLOP/s in frames (products, attention), …``."""
    flops = [
        f"{rate / 1e9:.0f}"
        for rate in (
            *(rates.encode_products, rates.encode_attention),
            *(rates.prefill_products, rates.prefill_attention),
        )
    ]
    return (
        f"{rates.device}, {rates.dtype}, {format_count(rates.threads, 'thread')}: "
        f"{flops[0]} and {flops[1]} GFLOP/s in frames (products, attention), "
        f"{flops[2]} and {flops[3]} in prompts, reads {format_bytes(rates.read)} a second"
    )


def _stage_rows(prediction: Prediction) -> list[tuple[str, str, str]]:
    rows = [
        (stage, format_seconds(prediction.seconds[stage]), _STAGE_NOTES[stage])
        for stage in _STAGES
        if stage in prediction.seconds
    ]
    most = prediction.prompt.new_tokens
    by = format_count(prediction.corrected_by, "past answer")
    corrected = f"corrected by {by} of this model" if prediction.corrected_by else ""
    return [
        *rows,
        ("first token", format_seconds(prediction.first_token), corrected),
        (
            "generate",
            format_seconds(prediction.generate),
            f"{format_count(most, 'token')} at most, "
            f"{1 / prediction.seconds_per_token:.0f} a second",
        ),
    ]


def _smaller_row(chosen: Prediction, smaller: Prediction) -> tuple[str, ...]:
    return (
        str(smaller.prompt.frames),
        f"{smaller.prompt.tokens:,}",
        format_bytes(smaller.memory_bytes),
        format_seconds(smaller.first_token),
        format_seconds(max(0.0, chosen.first_token - smaller.first_token)),
    )


def _model_row(prediction: Prediction, available_bytes: int) -> tuple[str, ...]:
    too_much = ", too much" if prediction.memory_bytes > available_bytes else ""
    return (
        prediction.model,
        str(prediction.prompt.frames),
        f"{prediction.prompt.tokens:,}",
        format_bytes(prediction.memory_bytes) + too_much,
        format_seconds(prediction.first_token),
        f"{prediction.seconds_per_token * 1000:.0f} ms",
    )


def _batch_row(name: str, plan: CostPlan | str) -> list[str]:
    shown = display_name(name)
    if isinstance(plan, str):
        return [shown, "", "", "", "", display_name(plan)]
    (metadata, *_) = plan.prompt.metadata
    still = metadata.kind == "image"
    return [
        shown,
        "" if still else format_clock(metadata.duration_seconds),
        str(plan.chosen.prompt.frames),
        f"{plan.chosen.prompt.tokens:,}",
        format_seconds(plan.chosen.without_load),
        "",
    ]
