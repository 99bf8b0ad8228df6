"""S2FP8: the published vector, degenerate tensors, kernels beside the reference, whole steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler import parse, verify
from quatrain.compiler.errors import RecipeError, VerifyError
from quatrain.compiler.formats import BF16, F32, FP8_152, Format
from quatrain.compiler.ir import Op, Value, attrs
from quatrain.compiler.ir.analysis import gemms
from quatrain.compiler.types import Scale, TensorType
from quatrain.passes.recipe import load_recipe
from quatrain.targets.numbers.tensor import Array, Tensor, squeezed
from quatrain.targets.plan.decode import decode_operands
from quatrain.targets.reference.evaluate import run_op
from tests.cases.residual import resnet

RECIPE = load_recipe("s2fp8")
SCALAR = TensorType((), F32)
X = np.array([1e-3, 2e-3, 5e-3, 1e-2, 4e-2, -3e-2], np.float32)


def stats(x: Array, degenerate: str = "center") -> tuple[Tensor, Tensor]:
    """alpha and beta."""
    t = Tensor.from_numbers(TensorType(x.shape, F32), x)
    results = Value("alpha", SCALAR), Value("beta", SCALAR)
    how = attrs(degenerate=degenerate)
    alpha, beta = run_op(Op("squeeze_stats", (Value("x", t.type),), results, how), [t])
    return alpha, beta


def coded(x: Array, degenerate: str = "center") -> Tensor:
    """The codes."""
    t = Tensor.from_numbers(TensorType(x.shape, F32), x)
    operands = [t, *stats(x, degenerate)]
    values = tuple(Value(str(i), o.type) for i, o in enumerate(operands))
    q = Value("q", TensorType(x.shape, FP8_152, Scale.SQUEEZED))
    return run_op(Op("squeeze", values, (q,)), operands)[0]


def test_the_published_vector() -> None:
    alpha, beta = stats(X)
    # As printed: six decimals, or four digits of the smallest; alpha and beta are f32.
    np.testing.assert_allclose([alpha.data, beta.data], [5.976535, 42.754167], rtol=2e-7)
    y = squeezed(X, alpha.data, beta.data)
    wanted = [8.7233e-6, 5.49287e-4, 0.131251, 8.264518, 32768, -5871.502]
    np.testing.assert_allclose(y, wanted, rtol=1e-5)
    q = coded(X)
    stored = [1.525879e-5, 4.882813e-4, 0.125, 8, 32768, -6144]
    np.testing.assert_allclose(q.numbers, stored, rtol=2e-7)
    back = [0.001098, 0.001961, 0.004959, 0.009946, 0.04, -0.030229]
    np.testing.assert_allclose(q.real(), back, atol=5e-7)
    np.testing.assert_allclose(q.dequantized(), q.real(), rtol=2**-23)


def test_zeros_do_not_count_and_stay() -> None:
    x = np.concatenate([X, np.zeros(5, np.float32)])
    assert [t.data for t in stats(x)] == [t.data for t in stats(X)]
    np.testing.assert_array_equal(coded(x).real()[:6], coded(X).real())
    assert not coded(x).real()[6:].any()


@pytest.mark.parametrize(
    ("x", "degenerate", "wanted"),
    [
        ([0.25, -0.25, 0], "center", (1, 2)),
        ([0.25, -0.25, 0], "identity", (1, 0)),
        ([0.1] * 7, "center", (1, np.float32(-np.log2(np.float64(np.float32(0.1)))))),
        ([8], "center", (1, -3)),
        ([0, 0], "center", (1, 0)),
        ([0, 0], "identity", (1, 0)),
    ],
)
def test_tensors_of_one_size(x: list[float], degenerate: str, wanted: tuple[float, float]) -> None:
    numbers = np.array(x, np.float32)
    assert tuple(float(t.data) for t in stats(numbers, degenerate)) == wanted
    # The mantissa of two bits errs by an eighth at most.
    np.testing.assert_allclose(coded(numbers, degenerate).real(), numbers, rtol=0.125)


def test_a_spread_far_below_that_of_codes_keeps_the_numbers() -> None:
    x = np.array([1, 1 + 2**-18, 1 + 2**-17], np.float32)
    np.testing.assert_allclose(coded(x).real(), x, rtol=2**-17)


TEXT = """program p
input x : f32[2x3]
input w : f32[4x3]

forward:
  alpha, beta = squeeze_stats(x) {degenerate=center} : f32[], f32[]
  xq = squeeze(x, alpha, beta) : fp8.152*s[2x3]
  wq = squeeze(w, alpha, beta) : fp8.152*s[4x3]
  y = linear(xq, wq) : f32[2x4]

return y
"""


def test_a_gemm_of_such_operands_is_decoded_and_says_what_is_stored() -> None:
    program = decode_operands(verify(parse(TEXT)))
    assert [op.kind for _, op in program.ops()].count("dequantize") == 2
    (gemm,) = gemms(program)
    assert gemm.formats == ("fp8.152", "fp8.152")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fp8.152*s[2x3]", "fp8.152*t[2x3]", r"squeeze makes squeezed numbers, not fp8.152\*t"),
        ("degenerate=center", "degenerate=up", "degenerate=up is none of center, identity"),
        ("squeeze(x, alpha, beta)", "squeeze(x, alpha, w)", r"beta of squeeze is \[\]"),
    ],
)
def test_wrong_programs_are_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify(parse(TEXT.replace(old, new)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"s2fp8_results": "none"}, "option s2fp8_results of s2fp8 must be all or weight_grad"),
        ({"s2fp8_degenerate": "up"}, "must be center or identity, not 'up'"),
        ({"exempt": "conv9"}, "no layer with a GEMM is called 'conv9'"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        RECIPE.with_options(options).apply(resnet())
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_all_products_read_the_format_and_prediction_has_its_constants() -> None:
    train, evaluation = (RECIPE.apply(resnet(training=flag))[-1][1] for flag in (True, False))
    for program in (train, evaluation):
        assert {t.short for g in gemms(program) for t in g.operands} == {"fp8.152*s"}
    assert {v.name for v in evaluation.state} <= {v.name for v in train.state}
    assert not any(
        op.kind == "squeeze_stats" and "w" not in op.result.name for _, op in evaluation.ops()
    )


@pytest.mark.tvm
class TestKernels:
    """Against the reference, bit for bit."""

    @pytest.mark.parametrize(
        "shape", [(1,), (7,), (33, 1), (3, 7, 13, 1), (2, 28, 5, 3), (1, 1, 27, 27), (13, 16, 4, 4)]
    )
    @pytest.mark.parametrize("f", [F32, BF16], ids=str)
    def test_squeeze_and_back(self, shape: tuple[int, ...], f: Format) -> None:
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, pointwise, random_inputs, same

        group = Group()
        x = group.input("x", TensorType(shape, f))
        alpha, beta = (group.input(n, SCALAR) for n in ("alpha", "beta"))
        (q,) = group.op("squeeze", (x, alpha, beta), [TensorType(shape, FP8_152, Scale.SQUEEZED)])
        (y,) = group.op("dequantize", (q,), [TensorType(shape, F32)])
        sizes = np.exp2(np.random.default_rng(1).normal(-20, 3, shape))
        given = {"x": sizes * np.random.default_rng(2).choice([-1, 0, 1, 1], shape)}
        for constants in ({"alpha": 1.7, "beta": 35.0}, {"alpha": 0.4, "beta": 12.5}):
            inputs = random_inputs(group.inputs, given={**given, **constants})
            both: tuple[tuple[Value, ...], ...] = ((q, y), (y,))
            for outputs in both:
                got, want = pointwise(group, outputs, inputs)
                for v in outputs:
                    same(got[v.name], want[v.name])

    def test_codes_from_memory(self) -> None:
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, pointwise, random_inputs, same

        group = Group()
        q = group.input("q", TensorType((3, 27), FP8_152, Scale.SQUEEZED))
        (y,) = group.op("dequantize", (q,), [TensorType((3, 27), F32)])
        got, want = pointwise(group, (y,), random_inputs(group.inputs))
        same(got[y.name], want[y.name])

    @pytest.mark.parametrize("constants", [(1.0, 0.0), (300.0, 0.0), (1.0, -1000.0), (1.0, 1000.0)])
    def test_edges(self, constants: tuple[float, float]) -> None:
        """What is no normal number, and exponents beyond those of f32."""
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, pointwise, random_inputs, same

        edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -3e38, 1e-38, 1.0]
        group = Group()
        x = group.input("x", TensorType((len(edges),), F32))
        alpha, beta = (group.input(n, SCALAR) for n in ("alpha", "beta"))
        (q,) = group.op(
            "squeeze", (x, alpha, beta), [TensorType(x.type.shape, FP8_152, Scale.SQUEEZED)]
        )
        given: dict[str, Array | float] = {"x": np.array(edges)}
        given |= dict(zip(("alpha", "beta"), constants, strict=True))
        got, want = pointwise(group, (q,), random_inputs(group.inputs, given=given))
        same(got[q.name], want[q.name])

    @pytest.mark.parametrize("shape", [(1,), (7,), (33, 1), (3, 7, 13, 1), (70, 33, 28, 1)])
    @pytest.mark.parametrize("x", ["random", "flat", "zero", "near", "tiny"])
    @pytest.mark.parametrize("degenerate", ["center", "identity"])
    def test_constants(self, shape: tuple[int, ...], x: str, degenerate: str) -> None:
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, close, random_inputs, single

        rng = np.random.default_rng(0)
        numbers = {
            "random": rng.normal(size=shape) * (rng.random(shape) > 0.3),
            "flat": np.full(shape, -0.1),
            "zero": np.zeros(shape),
            "near": 1 + rng.random(shape) * 2.0**-10,
            "tiny": np.where(rng.random(shape) < 0.5, 1e-40, rng.normal(size=shape)),
        }[x]
        group = Group()
        v = group.input("x", TensorType(shape, F32))
        results = group.op("squeeze_stats", (v,), [SCALAR, SCALAR], degenerate=degenerate)
        got, want = single(group, random_inputs(group.inputs, given={"x": numbers}))
        for r in results:
            # f64 sums in another order of the same f32 logarithms: of a spread of 2^-10 their
            # rounding is 1e-12, which may turn the last bit of an f32.
            close(got[r.name], want[r.name], 2**-22)

    @pytest.mark.parametrize("x", [np.inf, -np.inf, np.nan])
    def test_constants_of_what_is_not_finite(self, x: float) -> None:
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, random_inputs, single

        group = Group()
        v = group.input("x", TensorType((33,), F32))
        results = group.op("squeeze_stats", (v,), [SCALAR, SCALAR], degenerate="center")
        numbers = np.ones(33)
        numbers[[3, 20]] = 0.5, x
        for made in single(group, random_inputs(group.inputs, given={"x": numbers})):
            assert all(np.isnan(made[r.name].data) for r in results)


@pytest.mark.tvm
@pytest.mark.torch
class TestSteps:
    """A small network, captured and compiled."""

    @pytest.mark.parametrize(
        "options",
        [{}, {"s2fp8_results": "weight_gradients", "carrier": "bf16", "exempt": "first,last"}],
        ids=["all", "operands"],
    )
    def test_kernels_equal_the_reference(self, options: dict[str, object]) -> None:
        from ..cases.recipe_checks import kernels_equal_the_reference

        kernels_equal_the_reference("s2fp8", options)

    @pytest.mark.parametrize("target", ["reference", "cpu"])
    def test_a_saved_step_goes_on(self, target: str, tmp_path: Path) -> None:
        from ..cases.recipe_checks import a_saved_step_goes_on

        a_saved_step_goes_on("s2fp8", target, tmp_path)

    def test_it_learns_a_batch(self) -> None:
        from ..cases.recipe_checks import it_learns_a_batch

        it_learns_a_batch("s2fp8", "cpu")

    def test_products_of_activations(self) -> None:
        import torch

        import quatrain

        torch.manual_seed(0)
        model = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        x = torch.randn(2, 5, 8)
        sgd = torch.optim.SGD(model.parameters(), lr=0.05)
        step = quatrain.compile(model, torch.nn.functional.mse_loss, (x, x), sgd, recipe="s2fp8")
        losses = [step(x, x).item() for _ in range(10)]
        assert losses[-1] < losses[0]
        assert {t.short for g in gemms(step.program) for t in g.operands} == {"fp8.152*s"}
