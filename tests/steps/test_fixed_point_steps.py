"""Fixed point: kernels beside the reference, whole steps of its two recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.formats import F32, FP4_EVEN, FP8_152, INT8, INT16, UINT8, Format
from quatrain.compiler.types import Scale, TensorType

RECIPES = ("dfp16", "wageubn")
SHAPES = ((1,), (7,), (33, 1), (3, 7, 13, 1), (2, 28, 5, 3), (1, 1, 27, 27), (13, 16, 4, 4))


@pytest.mark.tvm
class TestKernels:
    """Against the reference, bit for bit."""

    @pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
    @pytest.mark.parametrize("bits", [8, 15, 24])
    def test_round_fixed(self, shape: tuple[int, ...], bits: int) -> None:
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, pointwise, random_inputs, same

        group = Group()
        x = group.input("x", TensorType(shape, F32))
        (y,) = group.op("round_fixed", (x,), [x.type], bits=bits)
        got, want = pointwise(group, (y,), random_inputs(group.inputs))
        same(got[y.name], want[y.name])

    def test_round_fixed_at_the_edges(self) -> None:
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, pointwise, random_inputs, same

        ties = (np.arange(-300, 301) + 0.5) / 128
        near = [np.nextafter(ties.astype(np.float32), np.float32(side)) for side in (-9, 9)]
        odd = [0.0, -0.0, 1e-45, 1e38, -1e38, np.inf, -np.inf, np.nan, 8388609.0]
        x = np.concatenate([ties, *near, odd]).astype(np.float32)
        group = Group()
        v = group.input("x", TensorType(x.shape, F32))
        (y,) = group.op("round_fixed", (v,), [v.type], bits=8)
        got, want = pointwise(group, (y,), random_inputs(group.inputs, given={"x": x}))
        same(got[y.name], want[y.name])

    @pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
    def test_flags_and_sixteen_bits(self, shape: tuple[int, ...]) -> None:
        """All three ways to sixteen bits, stored and read back by one fused kernel."""
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, pointwise, random_inputs, same

        group = Group()
        x, s, clip = (
            group.input(n, TensorType(t, F32)) for n, t in (("x", shape), ("s", ()), ("clip", ()))
        )
        scaled, coded = (TensorType(shape, f, Scale.POW2) for f in (F32, INT16))
        (gs,) = group.op("grad_scale", (x, s), [scaled])
        (flag,) = group.op("round_flag", (gs,), [coded], bits=8)
        (whole,) = group.op("cast", (gs,), [coded])
        (wide,) = group.op("quantize", (x, clip), [TensorType(shape, INT16, Scale.TENSOR)])
        (back,) = group.op("dequantize", (flag,), [x.type])
        given = {"s": 2.0**13, "clip": 255.9921875}
        outputs = (flag, whole, wide, back)
        got, want = pointwise(group, outputs, random_inputs(group.inputs, given=given))
        for v in outputs:
            same(got[v.name], want[v.name])

    def test_flags_at_the_edges(self) -> None:
        pytest.importorskip("tvm")
        from ..cases.one_kernel import Group, pointwise, random_inputs, same

        ties = np.concatenate([np.arange(130) + 0.5, (np.arange(130) + 0.5) * 128])
        near = [np.nextafter(ties.astype(np.float32), np.float32(side)) for side in (0, 1e9)]
        odd = [0.0, 1e-45, 127.99999, 128.0, 1e38, np.inf, np.nan]
        x = np.concatenate([ties, *near, odd]).astype(np.float32)
        x = np.concatenate([x, -x])
        group = Group()
        g = group.input("g", TensorType(x.shape, F32, Scale.POW2))
        (q,) = group.op("round_flag", (g,), [TensorType(x.shape, INT16, Scale.POW2)], bits=8)
        got, want = pointwise(group, (q,), random_inputs(group.inputs, given={"g": x}))
        same(got[q.name], want[q.name])

    @pytest.mark.share(2)
    @pytest.mark.parametrize("kind", ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"])
    @pytest.mark.parametrize("second", [INT16, INT8, UINT8, FP4_EVEN, FP8_152], ids=str)
    def test_convolutions(self, kind: str, second: Format) -> None:
        """Sums beyond int32 and within, channels side by side and apart, strides, groups."""
        pytest.importorskip("tvm")
        from quatrain.targets.cpu.info import detect
        from quatrain.targets.plan.layout import Order

        from ..cases.gemm_case import Case, check

        case = Case(kind, formats=(INT16, second))
        rows = (Order.ROWS,) * 3
        for one in (
            case,
            replace(case, n=1, c=1, k=1, size=(1, 1), kernel=(1, 1), padding=(0, 0)),
            replace(case, c=33, k=7, stride=(2, 1), kernel=(3, 2), padding=(1, 0)),
            replace(case, c=12, k=28, groups=4, orders=rows),
            replace(case, c=27, k=27, groups=27, n=3),
        ):
            check(one, detect())

    @pytest.mark.parametrize("kind", ["linear", "linear_input_grad", "linear_weight_grad"])
    def test_linear_layers(self, kind: str) -> None:
        pytest.importorskip("tvm")
        from quatrain.targets.cpu.info import detect

        from ..cases.gemm_case import Case, check

        for n, c, k in ((1, 1, 1), (3, 700, 13), (33, 27, 28)):
            check(Case(kind, n=n, c=c, k=k, formats=(INT16, INT16)), detect())
            check(Case(kind, n=n, c=c, k=k, formats=(INT8, INT16)), detect())


@pytest.mark.torch
@pytest.mark.tvm
class TestSteps:
    """The recipes as a user meets them."""

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_each_kernel_of_a_step_equals_the_reference(self, recipe: str) -> None:
        pytest.importorskip("torch")
        from quatrain.targets.cpu.info import detect
        from quatrain.targets.plan.waive import waived

        from ..exactness import compare, given
        from .test_step import batch, compiled

        step = compiled(recipe)
        assert waived(step.program) == (), "no layer runs in float"
        for seed in range(2):
            differing = list(compare(step.program, given(step, batch(seed=seed)), detect()))
            assert not differing, "\n".join(map(str, differing))
            step(*batch(seed=seed))

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_a_resumed_step_goes_on_byte_for_byte(self, recipe: str, tmp_path: Path) -> None:
        pytest.importorskip("torch")
        import quatrain

        from .test_step import batch, compiled

        step = compiled(recipe, "cpu")
        step(*batch())
        step.save(tmp_path / "a.qtn")
        again = quatrain.load(tmp_path / "a.qtn")
        for s in (step, again):
            s(*batch(seed=1))
        step.save(tmp_path / "b.qtn")
        again.save(tmp_path / "c.qtn")
        assert (tmp_path / "b.qtn").read_bytes() == (tmp_path / "c.qtn").read_bytes()

    @pytest.mark.parametrize("target", ["reference", "cpu"])
    @pytest.mark.parametrize("recipe", RECIPES)
    def test_a_batch_is_learnt(self, recipe: str, target: str) -> None:
        pytest.importorskip("torch")
        from .test_step import batch, compiled

        step = compiled(recipe, target)
        x, y = batch()
        losses = [step(x, y).item() for _ in range(12)]
        assert losses[-1] < 0.5 * losses[0]

    @pytest.mark.parametrize("kind", ["nan", "inf"])
    @pytest.mark.parametrize("recipe", RECIPES)
    def test_integers_do_not_hide_a_gradient_that_is_not_finite(
        self, recipe: str, kind: str
    ) -> None:
        torch = pytest.importorskip("torch")
        import quatrain

        from .test_skipped_steps import batch, hostile, loss, network

        model = network()
        sgd = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.25)
        step = quatrain.compile(model, loss, batch(0), sgd, recipe=recipe, target="reference")
        step(*batch(0))
        before = step.state
        step(*hostile(kind))
        assert step.skipped == 1
        before["skipped"] += 1
        assert all(torch.equal(v, before[k]) for k, v in step.state.items())

    def test_the_levels_of_gradients_are_lowered_by_compiling_again(self) -> None:
        torch = pytest.importorskip("torch")
        from torch.nn.functional import cross_entropy

        import quatrain
        from quatrain.runtime.step import Step

        from .test_step import batch, network, sgd

        def compiled(g_scale: int) -> Step:
            model = network()
            options = {"g_scale": g_scale}
            optimizer = sgd(model)
            return quatrain.compile(
                model,
                cross_entropy,
                batch(),
                optimizer,
                recipe="wageubn",
                options=options,
                target="reference",
            )

        many, few = compiled(128), compiled(2)
        many(*batch())
        few.load_state(many.state)
        assert torch.equal(few.predict(batch()[0]), many.predict(batch()[0]))
        many(*batch(seed=1))
        few(*batch(seed=1))
        assert not torch.equal(few.state["3.weight"], many.state["3.weight"])
