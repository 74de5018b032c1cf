"""Choice between int8 and floating-point arithmetic, verified on the checkpoint that is used.

Quantized activations lose little unless a few of them are huge, as some trained transformers have
them (arXiv 2402.17762), and no table says which checkpoints do. So the first frames that a
checkpoint encodes on a machine are computed both ways and compared: the features of the frames,
and the decoder's last hidden states over them. Where the difference exceeds a bound, the
transformer blocks that cause most of it stay in floating point; where that is not enough, all do.
The verdict is stored beside the feature cache.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from smolvideo.engines.devices import TINY_PARAMETERS, choose_dtype, cpu_features
from smolvideo.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from smolvideo.engines.base import Engine
    from smolvideo.engines.feature_cache import FeatureCache
    from smolvideo.frames import Images
    from smolvideo.models import Checkpoint
    from smolvideo.network import SmolVLM

ARITHMETICS = ("auto", "float", "int8")

MAX_FEATURE_ERROR = 0.04
"""Maximum relative error of the features. bfloat16, in which these checkpoints were trained and are
commonly run, differs from float32 by 1 to 2 % itself."""

MIN_COSINE = 0.995
"""Minimum cosine between the features of any image token: none may be wrong by itself."""

MAX_HIDDEN_ERROR = 0.08
"""Maximum relative error of the decoder's last hidden states, which the features' error enters."""

CHECKED_FRAMES = 2
"""Frames that are compared."""
_RECORD_BYTES = 16384


@dataclass(frozen=True)
class ArithmeticVerdict:
    """Result of the comparison: ``arithmetic`` is ``int8`` or ``float``. ``float_layers`` are the
    linear layers that stay in floating point all the same; errors are those of the choice."""

    arithmetic: str
    float_layers: tuple[str, ...] = ()
    feature_error: float = 0.0
    cosine: float = 1.0
    hidden_error: float = 0.0

    @property
    def is_within_bounds(self) -> bool:
        return (
            self.feature_error <= MAX_FEATURE_ERROR
            and self.cosine >= MIN_COSINE
            and self.hidden_error <= MAX_HIDDEN_ERROR
        )

    def __str__(self) -> str:
        if self.arithmetic == "float":
            return "floating-point arithmetic"
        kept = f", {len(self.float_layers)} layers in floating point" if self.float_layers else ""
        return (
            f"int8 arithmetic (features differ by {self.feature_error:.1%}, "
            f"hidden states by {self.hidden_error:.1%}{kept})"
        )


def choose_arithmetic(
    arithmetic: str,
    *,
    device: "torch.device",
    dtype: "torch.dtype",
    is_auto_dtype: bool,
    parameters: int,
) -> str:
    """Return ``float``, ``int8``, or ``auto`` where the checkpoint decides.

    ``auto`` is ``float`` for a dtype that was asked for, for tiny checkpoints, and where int8
    products are no faster. Raises UsageError for an unknown name, and for ``int8`` where it cannot
    be computed.
    """
    import torch

    if arithmetic not in ARITHMETICS:
        known = ", ".join(f"`{name}`" for name in ARITHMETICS)
        raise UsageError(f"unknown arithmetic `{arithmetic}`", hint=f"one of {known}")
    if arithmetic == "float":
        return "float"
    from smolvideo.network.compilation import has_numba
    from smolvideo.network.int8_arithmetic import int8_weight_levels

    computes = (
        device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
        and int8_weight_levels() is not None
    )
    if arithmetic == "int8":
        if not computes:
            raise UsageError(
                f"int8 arithmetic is for the CPU in float32 or bfloat16, not for `{device}` in "
                f"{str(dtype).removeprefix('torch.')}",
                hint="add `--device cpu`, or leave `--arithmetic` out",
            )
        return "int8"
    pays = computes and is_auto_dtype and parameters >= TINY_PARAMETERS and has_numba()
    return "auto" if pays and has_fast_int8() else "float"


def has_fast_int8() -> bool:
    """Whether the CPU's int8 products are faster than those of ``auto``'s dtype: with AVX2 and
    later on x86. (Not measured on Arm.)"""
    features = cpu_features() or frozenset()
    return "avx2" in features


@runtime_checkable
class DecidesArithmetic(Protocol):
    """An engine whose arithmetic its first frames decide."""

    def settle_arithmetic(self) -> None:
        """Decide the arithmetic now, on generated pictures if there were no frames yet."""
        ...


def settled_arithmetic(engine: "Engine") -> str:
    """Return the arithmetic of ``engine``, decided now if no frames have decided it."""
    if isinstance(engine, DecidesArithmetic):
        engine.settle_arithmetic()
    return engine.arithmetic


def generated_pictures(size: int) -> "Images":
    """Make two pictures ``[2, S, S, 3]`` uint8 with the spectrum of photographs, amplitudes as one
    over the frequency (Field 1987, doi 10.1364/JOSAA.4.002379); the second has flat areas."""
    import numpy as np

    random = np.random.default_rng(0)
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij"))
    frequencies[0, 0] = np.inf
    noise = np.fft.rfft2(random.standard_normal((2, 3, size, size)))
    waves = np.fft.irfft2(noise / frequencies, s=(size, size))
    waves /= waves.std(axis=(2, 3), keepdims=True)
    pictures = np.clip(128 + 64 * waves, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    pictures[1, : size // 2] = pictures[1, :1, :1]
    return np.ascontiguousarray(pictures)


class ArithmeticCheck:
    """The comparison for one network that was loaded for both arithmetics, and its stored verdict.

    ``state`` identifies the weights, ``code`` the program; without a ``cache`` nothing is stored.
    """

    def __init__(self, state: bytes, code: str, cache: "FeatureCache | None") -> None:
        self._cache = cache
        self._key = _verdict_key(state, code)

    def stored(self) -> ArithmeticVerdict | None:
        """Read the verdict of an earlier run."""
        if self._cache is None:
            return None
        content = bytearray(_RECORD_BYTES)
        if not self._cache.read(self._key, memoryview(content)):
            return None
        try:
            fields = json.loads(bytes(content).rstrip(b" "))
            return ArithmeticVerdict(**{**fields, "float_layers": tuple(fields["float_layers"])})
        except (ValueError, TypeError, KeyError):  # of another version: compare again
            return None

    def run(self, network: "SmolVLM", pixels: "Tensor") -> ArithmeticVerdict:
        """Compare on ``pixels`` ``[N, 3, S, S]``, set ``network`` to the verdict, and store it."""
        from smolvideo.network.linear import drop_unused_weights

        verdict = compare_arithmetics(network, pixels[:CHECKED_FRAMES])
        drop_unused_weights(network)
        content = json.dumps(asdict(verdict)).encode()
        if self._cache is not None and len(content) <= _RECORD_BYTES:
            self._cache.write(self._key, memoryview(content.ljust(_RECORD_BYTES)))
        return verdict


def describe_arithmetic(checkpoint: "Checkpoint", cache: "FeatureCache | None") -> str:
    """Describe the arithmetic that ``auto`` takes for ``checkpoint`` on this CPU: by the verdict in
    ``cache``, or that its first frames will decide. The weights must be on this machine."""
    import torch

    from smolvideo.engines.feature_keys import code_digest, weight_files_stat

    assert checkpoint.weights is not None
    device, parameters = torch.device("cpu"), checkpoint.weights.parameters
    chosen = choose_arithmetic(
        "auto",
        device=device,
        dtype=choose_dtype(device, parameters, "auto"),
        is_auto_dtype=True,
        parameters=parameters,
    )
    if chosen != "auto":
        return str(ArithmeticVerdict(chosen))
    state = weight_files_stat(checkpoint.weights, checkpoint.adapter)
    verdict = ArithmeticCheck(state, code_digest(), cache).stored()
    if verdict is None:
        return "not compared yet: the first frames decide between int8 and floating point"
    return str(verdict)


def _verdict_key(state: bytes, code: str) -> bytes:
    """Key of a verdict: the weights, the code, torch, and the instructions of this CPU."""
    import torch

    from smolvideo.network.int8_arithmetic import int8_weight_levels

    facts = [
        "arithmetic",
        state.hex(),
        code,
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        int8_weight_levels(),
        [MAX_FEATURE_ERROR, MIN_COSINE, MAX_HIDDEN_ERROR],
    ]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=32).digest()


def compare_arithmetics(network: "SmolVLM", pixels: "Tensor") -> ArithmeticVerdict:
    """Compare int8 with floating-point arithmetic on ``pixels`` ``[N, 3, S, S]``, and set
    ``network`` to the first of these that is within the bounds: int8 in all layers, in the blocks
    that differ least, in none."""
    from smolvideo.network.linear import int8_linears, set_int8_arithmetic

    names = set(int8_linears(network))
    set_int8_arithmetic(network, ())
    exact = _outputs(network, pixels)
    whole = _verdict(network, names, pixels, exact)
    if whole.is_within_bounds:
        return whole
    in_tower, in_decoder = block_errors(network, pixels[:1])
    for share in (0.9, 0.5):
        blocks = _within(in_tower, share * MAX_FEATURE_ERROR)
        blocks += _within(in_decoder, share * MAX_HIDDEN_ERROR)
        chosen = {name for name in names if name.startswith(tuple(blocks))}
        if chosen and chosen != names:
            verdict = _verdict(network, chosen, pixels, exact)
            if verdict.is_within_bounds:
                return verdict
    set_int8_arithmetic(network, ())
    return ArithmeticVerdict("float", (), whole.feature_error, whole.cosine, whole.hidden_error)


def block_errors(network: "SmolVLM", pixels: "Tensor") -> tuple[dict[str, float], dict[str, float]]:
    """Relative error of the features, block by block of the vision tower, if only this block
    computes in int8; and that of the last hidden states, block by block of the decoder.

    (The error of a layer's own output says little: an outlier that ruins the small activations
    beside it dominates the output, too.)
    """
    from smolvideo.network.linear import int8_linears, set_int8_arithmetic

    names = set(int8_linears(network))
    set_int8_arithmetic(network, ())
    features = network.encode_images(pixels)
    hidden = _hidden(network, features)
    in_tower, in_decoder = {}, {}
    for block in sorted({_block(name) for name in names}):
        set_int8_arithmetic(network, {name for name in names if _block(name) == block})
        if ".vision_model." in block:
            in_tower[block] = relative_error(network.encode_images(pixels), features)
        else:
            in_decoder[block] = relative_error(_hidden(network, features), hidden)
    return in_tower, in_decoder


def _block(name: str) -> str:
    """Name of the transformer block of a linear layer: ``model.text_model.layers.3.``."""
    before, _, after = name.rpartition(".layers.")
    return f"{before}.layers.{after.partition('.')[0]}."


def _within(errors: Mapping[str, float], bound: float) -> list[str]:
    """Return the blocks with the smallest errors whose sum stays within ``bound``; independent
    errors add as their squares."""
    chosen, squares = [], 0.0
    for block in sorted(errors, key=lambda block: errors[block]):
        squares += errors[block] ** 2
        if squares > bound**2:
            break
        chosen.append(block)
    return chosen


def _verdict(
    network: "SmolVLM",
    layers: Collection[str],
    pixels: "Tensor",
    exact: tuple["Tensor", "Tensor"],
) -> ArithmeticVerdict:
    """Set ``network`` to int8 in ``layers``, and compare its outputs with ``exact``."""
    import torch

    from smolvideo.network.linear import int8_linears, set_int8_arithmetic

    set_int8_arithmetic(network, layers)
    features, hidden = _outputs(network, pixels)
    cosines = torch.cosine_similarity(features, exact[0], dim=-1)
    return ArithmeticVerdict(
        "int8",
        tuple(sorted(set(int8_linears(network)) - set(layers))),
        relative_error(features, exact[0]),
        float(cosines.min()),
        relative_error(hidden, exact[1]),
    )


def _outputs(network: "SmolVLM", pixels: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Features ``[N, T, D]`` of ``pixels``, and the last hidden states over them ``[N · T, D]``."""
    features = network.encode_images(pixels)
    return features.float(), _hidden(network, features)


def _hidden(network: "SmolVLM", features: "Tensor") -> "Tensor":
    """Last hidden states ``[N · T, D]`` of a decoder that reads ``features`` and nothing else."""
    flat = features.flatten(0, 1)[None]
    cache = network.new_cache(flat.shape[1])
    return network.model.text_model.prefill(flat, cache, num_logits=flat.shape[1])[0].float()


def relative_error(got: "Tensor", exact: "Tensor") -> float:
    """Norm of the difference, relative to the norm of ``exact``; infinite where not finite."""
    error = float((got.float() - exact.float()).norm() / exact.float().norm().clamp_min(1e-20))
    return error if error == error else float("inf")
