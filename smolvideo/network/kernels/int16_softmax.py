"""Softmax between the two int16 products of attention, in registers of explicit width.

Three passes over a row of scores: rescale and maximum; exponential and sums; quantize. LLVM's loop
vectorizer takes registers of half the width on most CPUs with AVX-512, a maximum that handles NaN
takes it five instructions, and it may not round by the addition of a large number; explicit
registers make the passes 2 to 3 times as fast. A row is processed in blocks of two registers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from smolvideo.network.kernels.jit import JitFunction

_INT16, _INT32, _INT64, _FLOAT = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()

_ROUNDING = 12582912.0
"""1.5 · 2²³: added to a float32 below 2²² it leaves the nearest integer in the lowest bits."""

MIN_SCORE = -1e30
"""Maximum before any key, finite: its difference to any score is a number."""

_EXP2 = (9.582854e-3, 5.5906426e-2, 2.4024099e-1, 6.9312418e-1, 1.0)
"""Coefficients of 2ʳ, see ``elementwise.exp2``."""


class SoftmaxPasses(NamedTuple):
    """The passes; arrays are addresses, ``seen`` keys of a row count, and the row is padded to
    blocks.

    ``rescale(scores, key_scales, seen) -> float32``: int32 scores become float32, times
    ``key_scales``; returns their maximum.
    ``exponentiate(scores, value_scales, seen, factor, shift, sums)``: probabilities 2^(score ·
    ``factor`` − ``shift``), times ``value_scales``, replace the scores, 0 for padding; ``sums``
    gets the sum of the probabilities, of the products, and the maximum of the products.
    ``quantize(scores, seen, levels, weights)``: int16 ``weights``, the nearest to score ·
    ``levels``.
    """

    rescale: JitFunction
    exponentiate: JitFunction
    quantize: JitFunction


class _Registers:
    """Emission of operations on registers of ``lanes`` 32-bit elements.

    Floating-point operations carry a flag of their own, because numba gives those that have none
    its flags for reordering, and ``x + _ROUNDING - _ROUNDING`` would be x.
    """

    def __init__(self, builder: Any, lanes: int) -> None:
        self.builder, self.lanes = builder, lanes
        self.floats, self.ints = ir.VectorType(_FLOAT, lanes), ir.VectorType(_INT32, lanes)

    def load(self, address: Any, offset: Any, register: int, kind: Any) -> Any:
        return self.builder.load(self._place(address, offset, register, kind), align=1)

    def store(self, value: Any, address: Any, offset: Any, register: int) -> None:
        self.builder.store(value, self._place(address, offset, register, value.type), align=1)

    def _place(self, address: Any, offset: Any, register: int, kind: Any) -> Any:
        shifted = self.builder.add(self.builder.add(address, offset), _INT64(register))
        return self.builder.inttoptr(shifted, kind.as_pointer())

    def constant(self, number: float) -> Any:
        return self.floats([number] * self.lanes)

    def spread(self, number: Any) -> Any:
        """Broadcast a scalar to all lanes."""
        nothing = ir.VectorType(number.type, self.lanes)(ir.Undefined)
        first = self.builder.insert_element(nothing, number, _INT32(0))
        return self.builder.shuffle_vector(first, nothing, self.ints([0] * self.lanes))

    def add(self, one: Any, other: Any) -> Any:
        return self.builder.fadd(one, other, flags=("contract",))

    def subtract(self, one: Any, other: Any) -> Any:
        return self.builder.fsub(one, other, flags=("contract",))

    def multiply(self, one: Any, other: Any) -> Any:
        return self.builder.fmul(one, other, flags=("contract",))

    def fma(self, one: Any, other: Any, added: Any) -> Any:
        """``one`` · ``other`` + ``added``, rounded once."""
        function = self.builder.module.declare_intrinsic(
            f"llvm.fma.v{self.lanes}f32", (), ir.FunctionType(self.floats, [self.floats] * 3)
        )
        return self.builder.call(function, (one, other, added))

    def max(self, one: Any, other: Any) -> Any:
        """Maximum, in one instruction; ``other`` where one of both is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", one, other), one, other)

    def exp2(self, x: Any) -> Any:
        """2ˣ of x ≤ 1, see ``elementwise.exp2``; NaN stays NaN."""
        builder = self.builder
        x = self.max(self.constant(-126.0), x)
        # The exponent's bias is part of the number that rounds, so that bits need no addition.
        rounding = self.constant(_ROUNDING + 127)
        rounded = self.add(x, rounding)
        r = self.subtract(x, self.subtract(rounded, rounding))
        p = self.constant(_EXP2[0])
        for coefficient in _EXP2[1:]:
            p = self.fma(p, r, self.constant(coefficient))
        bits = builder.shl(builder.bitcast(rounded, self.ints), self.ints([23] * self.lanes))
        return self.multiply(p, builder.bitcast(bits, self.floats))

    def reduce(self, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Combine all lanes to a scalar, in a fixed order."""
        width = self.lanes
        nothing = self.floats(ir.Undefined)
        while width > 1:
            width //= 2
            moved = [width + lane if lane < width else lane for lane in range(self.lanes)]
            upper = self.builder.shuffle_vector(value, nothing, self.ints(moved))
            value = combine(value, upper)
        return self.builder.extract_element(value, _INT32(0))

    @contextmanager
    def blocks(self, count: Any) -> Iterator[Any]:
        """Loop over ``count`` blocks of two registers; yields the byte offset of each."""
        with cgutils.for_range(self.builder, count) as loop:
            yield self.builder.mul(loop.index, _INT64(8 * self.lanes))


def _masks(registers: _Registers, rest: Any) -> tuple[Any, Any]:
    """Lanes of the last block's two registers that hold one of its ``rest`` keys."""
    builder, lanes = registers.builder, registers.lanes
    count = registers.spread(builder.trunc(rest, _INT32))
    first, second = (
        builder.icmp_signed("<", registers.ints(list(range(start, start + lanes))), count)
        for start in (0, lanes)
    )
    return first, second


def _for_each_block(
    registers: _Registers, seen: Any, emit: Callable[[Any, tuple[Any, Any] | None], None]
) -> None:
    """Emit the loop over full blocks, then the last one with its masks."""
    builder = registers.builder
    block = _INT64(2 * registers.lanes)
    full, rest = builder.udiv(seen, block), builder.urem(seen, block)
    with registers.blocks(full) as offset:
        emit(offset, None)
    with cgutils.if_unlikely(builder, builder.icmp_unsigned("!=", rest, _INT64(0))):
        emit(builder.mul(full, _INT64(8 * registers.lanes)), _masks(registers, rest))


def _emit_rescale(registers: _Registers, arguments: Any) -> Any:
    builder = registers.builder
    scores, key_scales, seen = arguments
    least = registers.constant(MIN_SCORE)
    largest = [cgutils.alloca_once_value(builder, least) for _ in range(2)]

    def emit(offset: Any, masks: tuple[Any, Any] | None) -> None:
        for register in range(2):
            byte = register * 4 * registers.lanes
            levels = registers.load(scores, offset, byte, registers.ints)
            scales = registers.load(key_scales, offset, byte, registers.floats)
            score = registers.multiply(builder.sitofp(levels, registers.floats), scales)
            if masks is not None:
                score = builder.select(masks[register], score, least)
            registers.store(score, scores, offset, byte)
            most = registers.max(score, builder.load(largest[register]))
            builder.store(most, largest[register])

    _for_each_block(registers, seen, emit)
    both = registers.max(*(builder.load(most) for most in largest))
    return registers.reduce(both, registers.max)


def _emit_exponentiate(registers: _Registers, arguments: Any) -> None:
    builder = registers.builder
    scores, value_scales, seen, factor, shift, sums = arguments
    factors, offsets = registers.spread(factor), registers.spread(builder.fneg(shift))
    zero = registers.constant(0.0)
    totals, weighted, largest = (
        [cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in range(3)
    )

    def accumulate(into: Any, value: Any, combine: Callable[[Any, Any], Any]) -> None:
        builder.store(combine(value, builder.load(into)), into)

    def emit(offset: Any, masks: tuple[Any, Any] | None) -> None:
        for register in range(2):
            byte = register * 4 * registers.lanes
            score = registers.load(scores, offset, byte, registers.floats)
            probability = registers.exp2(registers.fma(score, factors, offsets))
            if masks is not None:
                probability = builder.select(masks[register], probability, zero)
            scales = registers.load(value_scales, offset, byte, registers.floats)
            product = registers.multiply(probability, scales)
            registers.store(product, scores, offset, byte)
            accumulate(totals[register], probability, registers.add)
            accumulate(weighted[register], product, registers.add)
            accumulate(largest[register], product, registers.max)

    _for_each_block(registers, seen, emit)
    combines = registers.add, registers.add, registers.max
    for place, (held, combine) in enumerate(
        zip((totals, weighted, largest), combines, strict=True)
    ):
        both = combine(*(builder.load(part) for part in held))
        where = builder.inttoptr(builder.add(sums, _INT64(4 * place)), _FLOAT.as_pointer())
        builder.store(registers.reduce(both, combine), where)


def _emit_quantize(registers: _Registers, arguments: Any) -> None:
    builder, lanes = registers.builder, registers.lanes
    scores, seen, levels, weights = arguments
    factors, rounding = registers.spread(levels), registers.constant(_ROUNDING)
    halves = ir.VectorType(_INT16, 2 * lanes)
    lower_halves = ir.VectorType(_INT32, 2 * lanes)([2 * lane for lane in range(2 * lanes)])
    block = _INT64(2 * lanes)
    count = builder.udiv(builder.add(seen, _INT64(2 * lanes - 1)), block)
    with registers.blocks(count) as offset:
        both = []
        for register in range(2):
            value = registers.load(scores, offset, register * 4 * lanes, registers.floats)
            both.append(builder.bitcast(registers.fma(value, factors, rounding), halves))
        packed = builder.shuffle_vector(*both, lower_halves)
        registers.store(packed, weights, builder.udiv(offset, _INT64(2)), 0)


@lru_cache
def build_softmax_passes(lanes: int) -> SoftmaxPasses:
    """Build the passes for registers of ``lanes`` 32-bit elements."""

    @intrinsic
    def rescale(typing_context: Any, scores: Any, key_scales: Any, seen: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _emit_rescale(_Registers(builder, lanes), arguments)

        return types.float32(*[types.int64] * 3), build

    @intrinsic
    def exponentiate(
        typing_context: Any,
        scores: Any,
        value_scales: Any,
        seen: Any,
        factor: Any,
        shift: Any,
        sums: Any,
    ) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _emit_exponentiate(_Registers(builder, lanes), arguments)
            return context.get_dummy_value()

        number, place = types.float32, types.int64
        return types.void(place, place, place, number, number, place), build

    @intrinsic
    def quantize(typing_context: Any, scores: Any, seen: Any, levels: Any, weights: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _emit_quantize(_Registers(builder, lanes), arguments)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.float32, types.int64), build

    return SoftmaxPasses(rescale, exponentiate, quantize)
