"""Vectors of eight float32, as a type inside numba's compiled functions.

numba vectorises a loop only if LLVM can prove that this is safe. For the inner loop of a
rasteriser it seldom can. With a vector type there is nothing to prove: `+ - * /` between lanes,
or lanes and a number, are single instructions (two on machines with vectors of four), and values
stay in registers. Nothing is checked against the ends of an array.
"""

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import models, overload, register_model

intrinsic: Any = numba_intrinsic
"""Its declared type keeps the typing context, which callers do not pass."""

WIDTH = 8
"""Number of lanes of a vector."""

_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
_FAST_FLAGS = ("nsz", "arcp", "contract", "reassoc")
"""Operations may be fused, reordered and replaced by reciprocals; infinities and NaN are kept."""

# Lanes of two vectors, numbered consecutively, that are added: first neighbours (within each half,
# which is fast), then halves.
_NEIGHBORS = [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]
_HALVES = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]


class Lanes(types.Type):
    """The numba type of a vector of eight float32."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


LANES = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, _VECTOR)


def _widen(context, builder, value, kind):
    """Return lanes unchanged, and a number repeated in every lane."""
    if isinstance(kind, Lanes):
        return value
    number = context.cast(builder, value, kind, types.float32)
    vector = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
    )
    return builder.shuffle_vector(
        vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    )


def _pointer(context, builder, kind, array, index_kind, index):
    """Return the pointer to the vector that starts at array[index]."""
    data = context.make_array(kind)(context, builder, array).data
    element = builder.gep(data, [context.cast(builder, index, index_kind, types.intp)])
    return builder.bitcast(element, _VECTOR.as_pointer())


@intrinsic
def load(typing, array, index):
    """Load array[index : index + 8] of a flat float32 array.

    Args:
        typing: numba's typing context, which callers do not pass.
        array: Flat float32 array.
        index: First element to load, at least 0, at most the array's length less 8.
    """

    def codegen(context, builder, signature, args):
        return builder.load(_pointer(context, builder, array, args[0], index, args[1]), align=4)

    return LANES(array, index), codegen


@intrinsic
def store(typing, array, index, value):
    """Store lanes to array[index : index + 8] of a flat float32 array.

    Args:
        typing: numba's typing context, which callers do not pass.
        array: Flat float32 array.
        index: First element to write, at least 0, at most the array's length less 8.
        value: Lanes to store.
    """

    def codegen(context, builder, signature, args):
        builder.store(args[2], _pointer(context, builder, array, args[0], index, args[1]), align=4)
        return context.get_dummy_value()

    return types.void(array, index, value), codegen


@intrinsic
def prefetch(typing, array, index):
    """Start to fetch array[index] into the nearest cache; a dense array is indexed as if flat.

    Args:
        typing: numba's typing context, which callers do not pass.
        array: Dense array of any shape and type.
        index: Element to fetch, counted in the flat array.
    """

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        address = builder.bitcast(
            builder.gep(data, [context.cast(builder, args[1], index, types.intp)]),
            ir.IntType(8).as_pointer(),
        )
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, index), codegen


@intrinsic
def broadcast(typing, number):
    """Repeat a number in every lane.

    Args:
        typing: numba's typing context, which callers do not pass.
        number: Number to repeat, cast to float32.
    """

    def codegen(context, builder, signature, args):
        return _widen(context, builder, args[0], number)

    return LANES(number), codegen


@intrinsic
def ramp(typing, start):
    """Return start, start + 1, ... start + 7.

    Args:
        typing: numba's typing context, which callers do not pass.
        start: Number of the first lane, cast to float32.
    """

    def codegen(context, builder, signature, args):
        return builder.fadd(
            _widen(context, builder, args[0], start),
            ir.Constant(_VECTOR, [float(i) for i in range(WIDTH)]),
        )

    return LANES(start), codegen


@intrinsic
def total(typing, value):
    """Return the sum of the lanes, always added in the same order.

    Args:
        typing: numba's typing context, which callers do not pass.
        value: Lanes to add.
    """

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _VECTOR])
        function = cgutils.get_or_insert_function(
            builder.module, kind, f"llvm.vector.reduce.fadd.v{WIDTH}f32"
        )
        return builder.call(
            function, [ir.Constant(ir.FloatType(), -0.0), args[0]], fastmath=_FAST_FLAGS
        )

    return types.float32(value), codegen


@intrinsic
def totals(typing, a, b, c, d, e, f, g, h):
    """Return the sums of eight vectors as one vector.

    It is a tree of shuffles, which takes a third of the work of eight times `total`.

    Args:
        typing: numba's typing context, which callers do not pass.
        a: Lanes whose sum is lane 0 of the result.
        b: Lanes whose sum is lane 1 of the result.
        c: Lanes whose sum is lane 2 of the result.
        d: Lanes whose sum is lane 3 of the result.
        e: Lanes whose sum is lane 4 of the result.
        f: Lanes whose sum is lane 5 of the result.
        g: Lanes whose sum is lane 6 of the result.
        h: Lanes whose sum is lane 7 of the result.
    """

    def codegen(context, builder, signature, args):
        values = list(args)
        kind = ir.VectorType(ir.IntType(32), WIDTH)
        for masks in (_NEIGHBORS, _NEIGHBORS, _HALVES):
            values = [
                builder.fadd(
                    *(builder.shuffle_vector(x, y, ir.Constant(kind, mask)) for mask in masks),
                    flags=_FAST_FLAGS,
                )
                for x, y in zip(values[::2], values[1::2], strict=False)
            ]
        return values[0]

    return LANES(a, b, c, d, e, f, g, h), codegen


def _compare(sign):
    """Return a function that selects between values, lane by lane, by a comparison."""

    @intrinsic
    def choose(typing, a, b, yes, no):
        def codegen(context, builder, signature, args):
            wide = [
                _widen(context, builder, value, kind)
                for value, kind in zip(args, (a, b, yes, no), strict=False)
            ]
            return builder.select(builder.fcmp_ordered(sign, wide[0], wide[1]), wide[2], wide[3])

        return LANES(a, b, yes, no), codegen

    return choose


where_above = _compare(">")
"""where_above(a, b, yes, no): lane by lane, yes where a > b, else no."""

where_below = _compare("<")
"""where_below(a, b, yes, no): lane by lane, yes where a < b, else no."""


def _overload(symbol, instruction):
    """Define an operator between lanes, or lanes and a number, by an LLVM instruction."""

    @intrinsic
    def compute(typing, a, b):
        def codegen(context, builder, signature, args):
            wide = [
                _widen(context, builder, value, kind)
                for value, kind in zip(args, (a, b), strict=False)
            ]
            return getattr(builder, instruction)(*wide, flags=_FAST_FLAGS)

        return LANES(a, b), codegen

    @overload(symbol)
    def typed(a, b):
        if (
            isinstance(a, Lanes)
            and isinstance(b, (Lanes, types.Float))
            or isinstance(a, types.Float)
            and isinstance(b, Lanes)
        ):
            return lambda a, b: compute(a, b)


_INSTRUCTIONS = {
    "fadd": (operator.add, operator.iadd),
    "fsub": (operator.sub, operator.isub),
    "fmul": (operator.mul, operator.imul),
    "fdiv": (operator.truediv, operator.itruediv),
}
for _instruction, _symbols in _INSTRUCTIONS.items():
    for _symbol in _symbols:
        _overload(_symbol, _instruction)
