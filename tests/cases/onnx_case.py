"""Programs run by onnxruntime, without and with its optimizations, beside the reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from quatrain.compiler.ir import Program
from quatrain.compiler.ir.verify import read_program
from quatrain.targets.numbers.tensor import Array, Tensor, dtype_of
from quatrain.targets.onnx.program import check_writable, write_graph
from quatrain.targets.onnx.write import encoded
from quatrain.targets.reference.evaluate import evaluate

# Sums of some ten numbers in f32 in another order, and functions of another library.
CLOSE = 2e-6
LEVELS = (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)


def run(data: bytes, feed: Mapping[str, Array]) -> list[list[Array]]:
    """The outputs at each level of optimization."""
    made = []
    for level in LEVELS:
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(data, options, ["CPUExecutionProvider"])
        names = {i.name for i in session.get_inputs()}
        made.append(session.run(None, {k: v for k, v in feed.items() if k in names}))
    return made


def written(program: Program, state: Mapping[str, Array], *, exact: bool = False) -> bytes:
    """The file; that it can be written is known without numbers."""
    check_writable(program)
    return encoded(write_graph(program, state, exact=exact).graph)


def reference(
    program: Program, state: Mapping[str, Array], feed: Mapping[str, Array]
) -> list[Array]:
    """The outputs by the interpreter, 16-bit carriers as f32."""
    given = {
        v.name: Tensor(v.type, np.asarray(numbers[v.name], dtype_of(v.type.format)), None)
        for values, numbers in ((program.inputs, feed), (program.state, state))
        for v in values
        if v.name in numbers
    }
    made = evaluate(program, given)
    return [made[v].numbers for v in program.outputs]


def agree(program: Program, feed: Mapping[str, Array], *, exact: bool, close: bool) -> None:
    """Both levels of optimization give what the reference does."""
    wanted = reference(program, {}, feed)
    for made in run(written(program, {}, exact=exact), feed):
        for a, b in zip(wanted, made, strict=True):
            if close:
                np.testing.assert_allclose(b, a, rtol=CLOSE, atol=CLOSE)
            else:
                np.testing.assert_array_equal(b, a)


def text(inputs: str, *lines: str) -> Program:
    """A program whose last line makes its output."""
    body = "\n  ".join(lines)
    output = lines[-1].splitlines()[-1].split()[0].rstrip(",")
    return read_program(f"program p\n{inputs}\n\nforward:\n  {body}\n\nreturn {output}\n")
