"""Instructions on vectors: neighbouring samples of a row that a loop holds in one register.

Numba leaves it to the compiler what of a loop becomes vectors, and which of them stay in registers. Where all of
the time goes, a loop says it itself, with instructions. Each is written twice: what it does to numpy arrays, and the
LLVM instructions that do the same. Those on floats are in `cnnfilter.jit.float_vectors`, those on whole numbers in
`cnnfilter.jit.integer_vectors`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

LANES = 16
"""Samples of a vector of float32. Where registers are narrower, the compiler takes several for each."""
LANES_U16 = 2 * LANES
"""Samples of a vector of uint16, as wide as LANES of float32."""
LANES_U8 = 4 * LANES
"""Samples of a vector of uint8, as wide."""
VECTOR_U16, VECTOR_U8 = f"u2x{LANES_U16}", f"u1x{LANES_U8}"


class Instruction:
    """One operation on vectors that loops may call."""

    def __init__(self, function: Callable[..., Any], result: str, arguments: tuple[str, ...]) -> None:
        self.function = function
        self.result = result
        self.arguments = arguments
        self.emit: Callable[..., Any] = _nothing_to_emit
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def as_llvm(self, emit: Callable[..., Any]) -> Callable[..., Any]:
        """Mark the function that emits it with an LLVM builder; arrays come as pointers to their first sample."""
        self.emit = emit
        return emit

    @functools.cached_property
    def compiled(self) -> Any:
        """What Numba calls for it."""
        return _intrinsic(self)


def _nothing_to_emit(*arguments: Any) -> Any:
    raise NotImplementedError


def instruction(result: str, *arguments: str) -> Callable[[Callable[..., Any]], Instruction]:
    """Make an instruction of a function of numpy arrays.

    Its kinds are "array", "void", i8, f4, "vector" (of LANES float32) and vectors of others, such as "u1x64".
    """
    return lambda function: Instruction(function, result, arguments)


def _intrinsic(instruction: Instruction) -> Any:
    from numba import types
    from numba.extending import intrinsic

    numbers = {"i8": types.int64, "f4": types.float32, "void": types.void}

    def as_type(kind: str) -> Any:
        return numbers.get(kind) or _vector_type(kind)

    def typed(given: tuple[Any, ...]) -> Any:
        wanted = [
            one if kind == "array" else as_type(kind) for one, kind in zip(given, instruction.arguments, strict=True)
        ]

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            operands = [
                context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            emitted = instruction.emit(builder, *operands)
            return context.get_dummy_value() if signature.return_type == types.void else emitted

        return as_type(instruction.result)(*wanted), generate

    names = ", ".join(f"a{index}" for index in range(len(instruction.arguments)))
    namespace: dict[str, Any] = {"typed": typed}
    exec(f"def {instruction.function.__name__}(context, {names}):\n    return typed(({names},))\n", namespace)
    return intrinsic(namespace[instruction.function.__name__])


@functools.cache
def _vector_type(kind: str) -> Any:
    from numba import types
    from numba.extending import models, register_model

    class Vector(types.Type):  # type: ignore[misc]
        """Some numbers of one kind."""

        def __init__(self) -> None:
            super().__init__(name=f"vector({kind})")

    @register_model(Vector)
    class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
        """A vector is one value of LLVM's."""

        def __init__(self, manager: Any, numba_type: Any) -> None:
            super().__init__(manager, numba_type, llvm_type(kind))

    return Vector()


def llvm_type(kind: str) -> Any:
    from llvmlite import ir

    sample, lanes = ("f4", LANES) if kind == "vector" else (kind[:2], int(kind[3:]))
    return ir.VectorType(ir.FloatType() if sample == "f4" else ir.IntType(8 * int(sample[1])), lanes)


def float_constant(value: float) -> Any:
    from llvmlite import ir

    return ir.Constant(ir.VectorType(ir.FloatType(), LANES), [value] * LANES)


def pointer_at(builder: Any, array: Any, at: Any, lanes: int = LANES) -> Any:
    """Return a pointer to the samples of `array` from `at` on, and the bytes of one."""
    from llvmlite import ir

    sample = array.type.pointee
    return builder.bitcast(builder.gep(array, [at]), ir.VectorType(sample, lanes).as_pointer()), sample_bytes(sample)


def sample_bytes(sample: Any) -> int:
    return 4 if str(sample) == "float" else int(sample.width) // 8


@functools.cache
def processor() -> str:
    """Return the processor's name and features as the system tells them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(16384).split("\n\n", 1)[0]
    except OSError:
        import platform

        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features")
    return "\n".join(line for line in first.splitlines() if line.startswith(wanted))


def has_wide_registers() -> bool:
    """Return whether there are 32 registers that hold a whole vector each."""
    return "avx512f" in processor().split()


def instructions_of(*modules: Any) -> dict[str, Instruction]:
    """Return the instructions that modules hold, by their names."""
    return {name: value for each in modules for name, value in vars(each).items() if isinstance(value, Instruction)}


def broadcast(builder: Any, value: Any, kind: Any) -> Any:
    """Return a vector of an LLVM type with `value` in each of its lanes."""
    from llvmlite import ir

    number = ir.IntType(32)
    if isinstance(value.type, ir.IntType) and value.type.width > kind.element.width:
        value = builder.trunc(value, kind.element)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, number(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(number, kind.count), [0] * kind.count))


def integer_constant(kind: Any, value: int) -> Any:
    from llvmlite import ir

    return ir.Constant(kind, [value] * kind.count)


def store_first_lanes(builder: Any, out: Any, at: Any, values: Any, many: Any) -> None:
    """Store the first `many` lanes of a vector."""
    from llvmlite import ir
    from numba.core import cgutils

    kept = cgutils.alloca_once(builder, values.type)
    builder.store(values, kept)
    byte = ir.IntType(8).as_pointer()
    size = builder.mul(many, many.type(sample_bytes(out.type.pointee)))
    cgutils.raw_memcpy(builder, builder.bitcast(builder.gep(out, [at]), byte), builder.bitcast(kept, byte), size, 1)
