"""Quantizers with an offset: vectors, kernels against the reference, GEMMs that read them."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.compiler import parse, verify
from quatrain.compiler.errors import VerifyError
from quatrain.compiler.formats import F32, UINT8
from quatrain.compiler.ir import Op, Value, attrs
from quatrain.compiler.ir.analysis import gemms
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.decode import decode_operands
from quatrain.targets.plan.waive import waived
from quatrain.targets.reference.evaluate import run_op

SHAPES = ((1,), (7,), (33, 1), (3, 7, 13, 1), (2, 28, 5, 3), (1, 1, 27, 27), (13, 16, 4, 4))
SCALAR = TensorType((), F32)


def affine(x: np.ndarray, low: float, high: float, bits: int) -> Tensor:
    """Through the reference."""
    values = [Value("x", TensorType(x.shape, F32))]
    values += [Value(n, SCALAR) for n in ("low", "high", "bits")]
    numbers = (x, low, high, bits)
    tensors = [
        Tensor.from_numbers(v.type, np.asarray(n)) for v, n in zip(values, numbers, strict=True)
    ]
    q = Value("q", TensorType(x.shape, UINT8, Scale.AFFINE))
    return run_op(Op("quantize_affine", tuple(values), (q,)), tensors)[0]


@pytest.mark.parametrize(
    ("bits", "step", "want"),
    [
        (8, 0.0117647, [-1, -0.305882, 0, 0.211765, 0.729412, 2]),
        (4, 0.2, [-1, -0.4, 0, 0.2, 0.8, 2]),
    ],
)
def test_the_published_quantizer(bits: int, step: float, want: list[float]) -> None:
    """Banner et al. 2018: vectors without ties, to the digits that are printed."""
    x = np.array([-1, -0.31, 0, 0.21, 0.73, 2], np.float32)
    q = affine(x, -1, 2, bits)
    assert q.scale is not None
    np.testing.assert_allclose(q.scale, [step, -1], atol=5e-8)
    np.testing.assert_allclose(q.real(), want, atol=5e-7)


def test_what_lies_outside_goes_to_the_ends_and_nan_to_the_lower_one() -> None:
    x = np.array([-9, np.nan, np.inf, -np.inf, 7], np.float32)
    assert affine(x, -1, 2, 4).data.tolist() == [0, 0, 15, 0, 15]


def test_a_range_of_one_number_has_a_step() -> None:
    q = affine(np.full(3, 5, np.float32), 5, 5, 8)
    assert q.real().tolist() == [5, 5, 5]


TEXT = """program p
input x : f32[2x3x5x5]
input w : f32[4x3x3x3]

forward:
  low, high = extremes(x) : f32[], f32[]
  wlow, whigh = extremes(w) : f32[4], f32[4]
  bits = constant() {value=8.0} : f32[]
  xq = quantize_affine(x, low, high, bits) : uint8*a[2x3x5x5]
  wq = quantize_affine(w, wlow, whigh, bits) : uint4*ac[4x3x3x3]
  y = conv2d(xq, wq) {stride=[1,1], padding=[1,1], dilation=[1,1], groups=1} : f32[2x4x5x5]

return y
"""


def test_a_gemm_of_such_operands_is_decoded_and_says_what_is_stored() -> None:
    program = decode_operands(verify(parse(TEXT)))
    assert [op.kind for _, op in program.ops()].count("dequantize") == 2
    (gemm,) = gemms(program)
    assert gemm.formats == ("uint8", "uint4")
    assert gemm.quantized
    assert waived(program) == ()
    verify(program)
    assert decode_operands(program) is program


def test_limits_must_fit_the_scale() -> None:
    with pytest.raises(VerifyError, match=r"limits of uint4\*ac have shape \(4,\), not \(\)"):
        verify(parse(TEXT.replace("(w, wlow, whigh, bits)", "(w, low, high, bits)")))


@pytest.mark.tvm
class TestKernels:
    """Against the reference, bit for bit."""

    @pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
    @pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
    def test_extremes(self, shape: tuple[int, ...], per_channel: bool) -> None:
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, random_inputs, same, single

        group = Group()
        x = group.input("x", TensorType(shape, F32))
        made = TensorType(shape[:1] if per_channel else (), F32)
        results = group.op("extremes", (x,), [made, made])
        got, want = single(group, random_inputs(group.inputs))
        for r in results:
            same(got[r.name], want[r.name])

    @pytest.mark.share(2)
    @pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
    @pytest.mark.parametrize(
        "scale", [Scale.AFFINE, Scale.AFFINE_CHANNEL], ids=["tensor", "channel"]
    )
    @pytest.mark.parametrize(("format_bits", "bits"), [(8, 8), (8, 3), (4, 4), (2, 2)])
    @pytest.mark.parametrize("stochastic", [False, True], ids=["nearest", "stochastic"])
    def test_quantize_and_back(
        self, shape: tuple[int, ...], scale: Scale, format_bits: int, bits: int, stochastic: bool
    ) -> None:
        pytest.importorskip("tvm")
        from quatrain.compiler.formats import I64, UINTS

        from ..cases.one_kernel import Group, pointwise, random_inputs, same

        group = Group()
        x = group.input("x", TensorType(shape, F32))
        limit = TensorType(shape[:1] if scale.per_channel else (), F32)
        low, high = (group.input(n, limit) for n in ("low", "high"))
        given = {"low": -1.25, "high": 1.5, "bits": float(bits)}
        operands = [x, low, high, group.input("bits", SCALAR)]
        if stochastic:
            operands += [group.input(n, TensorType((), I64)) for n in ("seed", "step")]
        kind = "quantize_affine" + ("_stochastic" if stochastic else "")
        coded = TensorType(shape, UINTS[format_bits], scale)
        more = attrs(salt=5) if stochastic else {}
        (q,) = group.op(kind, operands, [coded], **more)
        (y,) = group.op("dequantize", (q,), [x.type])
        inputs = random_inputs(group.inputs, given=given)
        both: tuple[tuple[Value, ...], ...] = ((q, y), (y,))
        for outputs in both:
            got, want = pointwise(group, outputs, inputs)
            for v in outputs:
                same(got[v.name], want[v.name])
