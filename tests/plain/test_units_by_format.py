"""What ``quatrain targets NAME --all`` asks a planner: programs that the verifier accepts."""

from quatrain.compiler.ir.verify import verify
from quatrain.tools.units_by_format import OPERANDS, SHAPES, probe


def test_each_op_and_each_format_is_probed_by_a_program() -> None:
    for op in SHAPES:
        for f in OPERANDS:
            program = verify(probe(op, f, f))
            (gemm,) = (o for _, o in program.ops() if o.kind == op)
            assert [v.type.format for v in gemm.inputs] == [f, f]
            assert gemm.result is program.outputs[0]
