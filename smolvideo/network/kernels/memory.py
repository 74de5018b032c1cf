"""Raw memory by address: array views, atomic counters, prefetch."""

from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from smolvideo.network.kernels.jit import jit

_INT64 = ir.IntType(64)
_CACHE_LINE = 64


@intrinsic
def _pointer(typing_context: Any, address: Any, like: Any) -> Any:
    """Cast ``address`` to a pointer to elements of the dtype of the array ``like``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), build


@jit
def array_from_address(address: int, shape: tuple[int, ...], like: Any) -> Any:
    """View memory at ``address`` as an array of ``shape``, in the dtype of ``like``."""
    return carray(_pointer(address, like), shape)


@intrinsic
def atomic_add(typing_context: Any, address: Any, number: Any) -> Any:
    """Add to the int64 at ``address`` atomically, and return its value before."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _INT64.as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), build


@intrinsic
def atomic_load(typing_context: Any, address: Any) -> Any:
    """Load the int64 at ``address`` (acquire): whatever other threads wrote before their
    ``atomic_add`` is visible."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _INT64.as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64), build


@intrinsic
def _prefetch_line(typing_context: Any, address: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        fetch = builder.module.declare_intrinsic(
            "llvm.prefetch",
            (byte,),
            ir.FunctionType(ir.VoidType(), (byte, int32, int32, int32)),
        )
        place = builder.inttoptr(arguments[0], byte)
        # read, locality 2 (L2 cache), data
        builder.call(fetch, (place, int32(0), int32(2), int32(1)))
        return context.get_dummy_value()

    return types.void(types.int64), build


@jit
def prefetch(address: int, count: int) -> None:
    """Prefetch ``count`` bytes; invalid addresses are harmless."""
    for offset in range(0, count, _CACHE_LINE):
        _prefetch_line(address + offset)
