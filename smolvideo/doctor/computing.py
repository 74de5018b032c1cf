"""Devices and kernels compute known products, ``nano`` answers, and this machine is measured.

Products are compared with those of float64, and what is compiled with what torch computes.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from smolvideo.doctor.isolated import Finding, Surroundings, fault, note, ok, reinstall
from smolvideo.errors import ModelError
from smolvideo.models import MODELS, ModelSpec

if TYPE_CHECKING:
    import torch

QUESTIONS = {
    "Which way does the circle move?": "right",
    "What moves?": "a purple circle",
}
"""Questions about the clip ``nano``, with the answers of the bundled model."""

MEASURED_FRAMES = 50
"""Frames of the predictions."""

_TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 3e-3}
"""Dtype → largest relative error of a product of 256 terms, inputs rounded as well."""
_QUANTIZED_TOLERANCE = 0.15
_DECODED_TOLERANCES = {"float32": 2e-5, "bfloat16": 3e-2}
_NVIDIA_DEVICE = Path("/dev/nvidia0")
_PROCESS_BYTES = 700_000_000
"""Memory beside the weights where this machine was not measured: torch, tokenizer, prompt."""


def check_devices(_: Surroundings) -> Finding:
    """Every device multiplies in every dtype and weight format that it supports."""
    import torch

    from smolvideo.engines.devices import choose_device, choose_dtype, set_num_threads

    set_num_threads()
    parts: list[str] = []
    wrong: list[str] = []
    for device in _devices():
        right: list[str] = []
        for dtype, tolerance in _TOLERANCES.items():
            problem = _product_problem(device, getattr(torch, dtype), tolerance)
            (wrong if problem else right).append(
                f"{device} {dtype}: {problem}" if problem else dtype
            )
        if device.type == "cpu":
            right += _quantized_formats()
        parts.append(f"{device}: {', '.join(right)}")
    found = "; ".join(parts)
    if wrong:
        hint = f"{reinstall('torch')}; `--device cpu` leaves a GPU out"
        return fault(f"products are wrong: {'; '.join(wrong)}", hint)
    if _NVIDIA_DEVICE.exists() and not _has_cuda():
        hint = "a torch with CUDA (https://pytorch.org), and a driver that is new enough for it"
        return note(
            f"{found}; an NVIDIA GPU is here, but torch {torch.__version__} cannot use it", hint
        )
    chosen = choose_device()
    dtype = str(choose_dtype(chosen, 1 << 30)).removeprefix("torch.")
    return ok(f"{found}; auto: {chosen} {dtype}")


def check_kernels(_: Surroundings) -> Finding:
    """Attention by the backend of this processor is that of torch."""
    import torch

    from smolvideo.network.attention import attention_backend, attention_reference

    if missing := _numba_problem():
        return missing
    backend = attention_backend(64, torch.bfloat16)
    assert backend is not None
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 3, 96, 64, generator=random).bfloat16() for _ in range(3))
    expected = attention_reference(q.float(), k.float(), v.float())
    compiled = backend.get()
    for attend in (compiled.vision_attention, compiled.prefill_attention):
        with torch.inference_mode():
            error = _relative_error(attend(q, k, v), expected)
        if not error < _TOLERANCES["bfloat16"]:
            return fault(f"attention by `{compiled.name}` is off by {error:.1e}", _recompile())
    what = "torch's, no AVX512-BF16 here" if compiled.name == "torch" else compiled.name
    return ok(f"attention is exact to {error:.0e}: {what}")


def check_token(_: Surroundings) -> Finding:
    """The compiled decode step gives the logits of torch, in the dtype of published models."""
    import torch

    from smolvideo.engines.devices import choose_dtype, package_version, set_num_threads
    from smolvideo.network import KVCache, TextConfig
    from smolvideo.network.cpu_decode import CpuDecoder
    from smolvideo.network.decoder import Decoder
    from smolvideo.network.linear import Linear
    from smolvideo.network.model import prepare_for_inference

    if missing := _numba_problem():
        return missing
    set_num_threads()
    cpu = torch.device("cpu")
    dtype = choose_dtype(cpu, 1 << 30)
    config = TextConfig(
        vocab_size=192,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        rope_theta=10_000.0,
    )
    torch.manual_seed(0)
    with torch.inference_mode():
        decoder = Decoder(config).to(dtype).requires_grad_(False)
        head = Linear(config.hidden_size, config.vocab_size, bias=False).to(dtype)
        for part in list(decoder.modules()):
            prepare_for_inference(part, compiled=True)
        caches = [KVCache.empty(config, 8, device=cpu, dtype=dtype, paged=True) for _ in range(2)]
        prompt, token = (torch.randn(1, rows, config.hidden_size).to(dtype) for rows in (5, 1))
        for cache in caches:
            decoder.prefill(prompt, cache)
        expected = head(decoder.prefill(token, caches[0]))[0].float()
        got = CpuDecoder(decoder, head.requires_grad_(False)).decode(token[0], caches[1])
    name, error = str(dtype).removeprefix("torch."), _relative_error(got, expected)
    if not error < _DECODED_TOLERANCES[name]:
        return fault(f"a token in {name} is off by {error:.1e} of torch's", _recompile())
    return ok(
        f"a token in {name} is torch's, exact to {error:.0e} (numba {package_version('numba')})"
    )


def check_nano(_: Surroundings) -> Finding:
    """The bundled model answers about a bundled clip, on the CPU."""
    from smolvideo.engines import load_engine
    from smolvideo.pipeline import prepare, stream_answer

    engine = load_engine("nano", device="cpu", offline=True)
    with as_file(files("smolvideo.doctor") / "clips" / "nano.mp4") as clip:
        for question, answer in QUESTIONS.items():
            prompt = prepare(engine.checkpoint, clip, question)
            text = stream_answer(engine, prompt).result().text
            if text != answer:
                hint = "if devices and kernels are sound, install smolvideo again"
                return fault(f"`{question}` is answered `{text}`, not `{answer}`", hint)
    return ok(f"answers {len(QUESTIONS)} of {len(QUESTIONS)} questions about a drawn clip")


def check_speed(_: Surroundings) -> Finding:
    """Measure what predictions need, unless it is kept already."""
    from smolvideo.cost import RateRequest, kept_rates, rates_for

    rates = rates_for(RateRequest())
    encode, prefill = (rate / 1e9 for rate in (rates.encode_products, rates.prefill_products))
    found = (
        f"{encode:,.0f} GFLOP/s in frames, {prefill:,.0f} in prompts, "
        f"{rates.read / 1e9:,.1f} GB/s of memory ({rates.device}, {rates.dtype}, "
        f"{rates.arithmetic} arithmetic)"
    )
    if kept_rates(RateRequest()) is None:
        hint = "the cache folder must be writable: set SMOLVIDEO_CACHE_DIR"
        return note(f"{found}; not kept, so that it is measured again", hint)
    return ok(found)


def check_memory(_: Surroundings) -> Finding:
    """Free memory, and the largest published model that an answer about 50 frames fits with."""
    from smolvideo.cost.choose import free_memory_bytes

    free = free_memory_bytes("cpu")
    needed = {spec.name: size for spec in MODELS.values() if (size := _answer_bytes(spec))}
    fitting = [name for name, size in needed.items() if size <= free]
    found = f"{free / 1e9:.1f} GB are free"
    smallest = min(needed, key=lambda name: needed[name])
    if not fitting:
        hint = f"close programs; `{smallest}` needs {needed[smallest] / 1e9:.1f} GB"
        return fault(f"{found}: no published model fits", hint)
    largest = max(fitting, key=lambda name: needed[name])
    return ok(f"{found}: {largest} fits ({needed[largest] / 1e9:.1f} GB)")


def _answer_bytes(spec: ModelSpec) -> int | None:
    """Return the peak memory of an answer, on a machine not measured yet about that."""
    from smolvideo.cost import NumberFormat, RateRequest, kept_rates, predict_first_token
    from smolvideo.cost.operations import weight_bytes

    if spec.network is None:
        return None
    rates = kept_rates(RateRequest())
    if rates is not None and rates.device == "cpu":  # else it is a GPU's memory
        predicted = predict_first_token(spec, MEASURED_FRAMES)
        if predicted is not None:
            return predicted.memory_bytes
    return weight_bytes(spec.network, NumberFormat("bfloat16")) + _PROCESS_BYTES


def _devices() -> "Iterator[torch.device]":
    """Yield the CPU, and the GPUs that torch reports."""
    import torch

    yield torch.device("cpu")
    for index in range(torch.cuda.device_count() if _has_cuda() else 0):
        yield torch.device(f"cuda:{index}")
    if torch.backends.mps.is_available():
        yield torch.device("mps")


def _has_cuda() -> bool:
    import torch

    with warnings.catch_warnings():  # torch warns of a driver too old for it
        warnings.simplefilter("ignore")
        return bool(torch.cuda.is_available())


def _product_problem(device: "torch.device", dtype: "torch.dtype", tolerance: float) -> str | None:
    """Multiply ``[64, 256]`` and ``[256, 64]``; return what is wrong with the product."""
    import torch

    from smolvideo.engines.devices import first_line

    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(s, generator=random) for s in ((64, 256), (256, 64)))
    expected = left.double() @ right.double()
    try:
        product = (left.to(device, dtype) @ right.to(device, dtype)).cpu()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        return first_line(error)
    deviation = _relative_error(product, expected)
    return None if deviation < tolerance else f"off by {deviation:.1e}"


def _quantized_formats() -> list[str]:
    """Return the weight formats whose products are right on this CPU, with those that are slow
    left out."""
    import torch

    from smolvideo.network.quantized import Int4Weight, Int8Weight, has_int4_matmul

    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(s, generator=random).bfloat16() for s in ((4, 256), (64, 256)))
    expected = x.double() @ weight.double().t()
    packed: dict[str, Int4Weight | Int8Weight] = {
        "int8": Int8Weight.from_float(weight, torch.bfloat16)
    }
    if has_int4_matmul():
        packed["int4"] = Int4Weight.from_float(weight, torch.bfloat16)
    with torch.inference_mode():
        errors = {
            name: _relative_error(one.matmul(x, None), expected) for name, one in packed.items()
        }
    for name, error in errors.items():
        if not error < _QUANTIZED_TOLERANCE:
            raise ModelError(f"products of {name} weights are off by {error:.1e}")
    return [*errors]


def _relative_error(got: "torch.Tensor", expected: "torch.Tensor") -> float:
    """Return the largest error, as a share of the largest value; NaN if any is."""
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max())


def _numba_problem() -> Finding | None:
    """Return the finding if no kernels can be compiled: tokens take longer then."""
    from smolvideo.network.compilation import has_numba

    if has_numba():
        return None
    slower = "torch computes tokens, in 2.5 times the time"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return fault(f"NUMBA_DISABLE_JIT is set: {slower}", "unset NUMBA_DISABLE_JIT")
    if sys.version_info >= (3, 15):
        return note(f"numba does not know this Python: {slower}", "take Python 3.14")
    return fault(f"numba cannot be imported: {slower}", reinstall("numba"))


def _recompile() -> str:
    return f"{reinstall('numba')}; without numba torch computes it"
