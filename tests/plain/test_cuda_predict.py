"""What a step takes on a GPU by its published peaks: small plans, computed by hand."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from quatrain.compiler.ir import Op
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.targets.cuda.gpu import GPUS, TENSOR_CORES, Gpu, named
from quatrain.targets.cuda.predict import (
    LAUNCH,
    Bound,
    kernel_time,
    planned_unit,
    predict,
    tensor_core_unit,
)
from quatrain.targets.plan.kernel import Kernel, Unit, slots_of
from quatrain.targets.plan.layout import orders
from quatrain.targets.plan.plan import Plan, PlannedKernel, place_slots
from quatrain.targets.plan.state import state_layout
from quatrain.tools.planning import gpu_of, plan_program, prediction_of

from ..cases.bill_programs import QUANTIZED

# A byte a nanosecond, and as many products in integers; in f32 twice as many.
SLOW = Gpu("sm_0", "slow", 1e9, {Unit.INT32: 1e9, Unit.F32: 2e9, Unit.INT8_MMA: 8e9}, 0.5)
# Memory and units that never bound anything.
FAST = Gpu("sm_0", "fast", 1e18, dict.fromkeys(Unit, 1e18))

# Two chains of two that meet, of 8000 numbers each; what is returned keeps its memory.
CHAINS = """
program chains
input x : f32[8000]
input y : f32[8000]

forward:
  a = relu(x) : f32[8000]
  a2 = exp(a) : f32[8000]
  b = relu(y) : f32[8000]
  b2 = exp(b) : f32[8000]
  s = add(a2, b2) : f32[8000]

return s, a, a2, b, b2
"""


STATISTICS = """
program statistics
input x : bf16[1x16x64x64]
state w : bf16[24x16x1x1]

forward:
  y = conv2d(x, w) {stride=[1,1], padding=[0,0], dilation=[1,1], groups=1} : bf16[1x24x64x64]
  mean, var = batch_stats(y) : f32[24], f32[24]

return y, mean, var
"""


@dataclass(frozen=True)
class Spec:
    name: str
    build: Callable[[], object]


def alone(op: Op, unit: Unit = Unit.NONE, scratch: tuple[int, ...] = ()) -> Kernel:
    spec = Spec(op.kind, lambda: None)
    return Kernel(spec, (op,), slots_of(op.inputs), slots_of(op.results), unit, scratch)


def plan_of(text: str, scratch: tuple[int, ...] = ()) -> Plan:
    """A kernel for each op."""
    program = verify(parse(text))
    units = {"linear": Unit.INT32}
    kernels = [
        PlannedKernel(alone(op, units.get(op.kind, Unit.NONE), scratch), region.name)
        for region, op in program.ops()
    ]
    return place_slots(program, kernels, orders(program), {}, state_layout(program))


def test_bytes_of_operands_results_and_scratch() -> None:
    plan = plan_of(CHAINS, scratch=(1000, 24))
    time = kernel_time(plan.kernels[4].kernel, plan, SLOW, Unit.NONE)
    assert time.bytes == 3 * 32000 + 2 * 1024
    assert time.memory_seconds == pytest.approx(98048e-9) and time.product_seconds == 0
    # What is left in scratch takes another launch.
    assert time.launches == 2 and time.launch_seconds == 2 * LAUNCH
    assert time.bound is Bound.MEMORY and time.seconds == time.memory_seconds


def test_an_operand_that_is_read_twice_counts_once() -> None:
    plan = plan_of(CHAINS.replace("add(a2, b2)", "add(b2, b2)"))
    assert kernel_time(plan.kernels[-1].kernel, plan, SLOW, Unit.NONE).bytes == 2 * 32000


@pytest.mark.parametrize(
    ("unit", "seconds", "bound"),
    [(Unit.INT32, 16000e-9, Bound.PRODUCTS), (Unit.F32, 8000e-9, Bound.PRODUCTS)],
)
def test_products_over_the_peak_of_their_unit(unit: Unit, seconds: float, bound: Bound) -> None:
    text = """
program one
input x : f32[20x40]
state w : f32[20x40]

forward:
  y = linear(x, w) : f32[20x20]

return y
"""
    plan = plan_of(text)
    time = kernel_time(plan.kernels[0].kernel, plan, SLOW, unit)
    assert time.products == 20 * 20 * 40 and time.bytes == 4 * (800 + 800 + 400)
    assert time.product_seconds == pytest.approx(seconds)
    # In f32 both take 8 us: memory is what bounds where they are even.
    assert time.bound is (bound if unit is Unit.INT32 else Bound.MEMORY)
    assert kernel_time(plan.kernels[0].kernel, plan, FAST, unit).bound is Bound.LAUNCHES


def test_what_need_not_wait_overlaps() -> None:
    plan = plan_of(CHAINS)
    made = predict(plan, FAST)
    assert made.launches == 5 and made.path == pytest.approx(3 * LAUNCH)
    assert made.seconds == made.path > made.busy


def test_what_keeps_memory_busy_does_not_overlap() -> None:
    made = predict(plan_of(CHAINS), SLOW)
    each, last = 64000e-9, 96000e-9
    assert made.path == pytest.approx(2 * each + last)
    assert made.seconds == made.busy == pytest.approx(4 * each + last)
    assert made.bound_seconds(Bound.MEMORY) == made.busy
    assert made.bound_seconds(Bound.LAUNCHES) == 0


def test_memory_that_is_used_again_makes_wait() -> None:
    # Where only the sum is returned, ``b`` is made where ``a`` was, and waits until it was read.
    made = predict(plan_of(CHAINS.replace("return s, a, a2, b, b2", "return s")), FAST)
    assert made.path == pytest.approx(5 * LAUNCH)


def test_two_bytes_count_twice_on_tensor_cores() -> None:
    plan = plan_program("cuda:sm_90", verify(parse(QUANTIZED)))
    assert plan is not None
    kernels = {k.kernel.ops[0].result.name: k.kernel for k in plan.kernels}
    macs = 2 * 13 * 7 * 7 * 3 * 3 * 3
    for name, planes in (("y", 1), ("dx", 2), ("dw", 2)):
        kernel = kernels[name]
        assert tensor_core_unit(kernel) is Unit.INT8_MMA
        time = kernel_time(kernel, plan, SLOW, Unit.INT8_MMA)
        assert time.products == planes * macs
        assert time.product_seconds == pytest.approx(planes * macs / 4e9)  # mma.sync: half of 8e9
        assert kernel_time(kernel, plan, SLOW, Unit.INT32).products == macs
    assert tensor_core_unit(kernels["o"]) is Unit.BF16_MMA
    assert tensor_core_unit(kernels["z"]) is planned_unit(kernels["z"]) is Unit.NONE


@pytest.mark.parametrize("arch", GPUS)
def test_nibbles_are_planned_where_they_have_a_peak(arch: str) -> None:
    program = QUANTIZED.replace("2x3x7x7", "2x8x7x7").replace("13x3x3x3", "13x8x3x3")
    plan = plan_program(f"cuda:{arch}", verify(parse(program)))
    assert plan is not None
    (kernel,) = (k.kernel for k in plan.kernels if k.kernel.ops[0].result.name == "y")
    unit = Unit.INT4_MMA if Unit.INT4_MMA in GPUS[arch].products else Unit.INT8_MMA
    assert planned_unit(kernel) is tensor_core_unit(kernel) is unit
    time = kernel_time(kernel, plan, GPUS[arch], unit)
    assert time.products == 2 * 13 * 7 * 7 * 8 * 3 * 3
    assert time.product_seconds == pytest.approx(time.products / GPUS[arch].reach(unit))


def test_what_only_the_first_step_reads_does_not_count() -> None:
    def moved(always: str) -> int:
        plan = plan_of(f"""
program scales
input g : f32[1000]
state s : f32[]

forward:
  s1 = grad_scale_init(s, g) {{top=4096.0, always={always}}} : f32[]

return s1
""")
        return kernel_time(plan.kernels[0].kernel, plan, SLOW, Unit.NONE).bytes

    assert (moved("false"), moved("true")) == (8, 4008)


def test_nothing_is_read_for_a_maximum_of_the_first_step() -> None:
    plan = plan_of("""
program first
input g : f32[1000]
state s : f32[]

forward:
  m = amax_first(g, s) : f32[]

return m
""")
    assert kernel_time(plan.kernels[0].kernel, plan, SLOW, Unit.NONE).bytes == 8


def test_a_result_that_leaves_its_statistics_is_not_read_for_them() -> None:
    plan = plan_program("cuda:sm_90", verify(parse(STATISTICS)))
    assert plan is not None
    (kernel,) = (k.kernel for k in plan.kernels)
    time = kernel_time(kernel, plan, FAST, planned_unit(kernel))
    image, result, weights = 2 * 16 * 4096, 2 * 24 * 4096, 2 * 24 * 16
    # Image and weights decoded, 32 columns of 32 products; three numbers of a stripe of 32 rows.
    assert kernel.scratch == (image, 2 * 32 * 32, 4 * 3 * 24 * 4096 // 32)
    assert time.bytes == image + weights + result + 2 * 4 * 24 + 2 * sum(kernel.scratch)
    assert time.launches == 3 and time.products == 24 * 4096 * 16


def test_two_bytes_count_twice_beside_statistics() -> None:
    coded = STATISTICS.replace("x : bf16", "x : int16*t").replace("w : bf16", "w : int8*t")
    plan = plan_program("cuda:sm_90", verify(parse(coded)))
    assert plan is not None
    (kernel,) = (k.kernel for k in plan.kernels)
    time = kernel_time(kernel, plan, FAST, planned_unit(kernel))
    assert time.unit is Unit.INT8_MMA and time.products == 2 * 24 * 4096 * 16


@pytest.mark.parametrize("arch", GPUS)
def test_published_numbers_are_in_proportion(arch: str) -> None:
    gpu = named(arch)
    products = gpu.products
    # Bytes multiply twice as fast as bf16, or four times where games need no sums in f32.
    assert round(products[Unit.INT8_MMA] / products[Unit.BF16_MMA], 1) in (2, 4)
    assert products[Unit.BF16_MMA] > products[Unit.F32] >= products[Unit.INT32]
    # Nibbles multiply twice as fast again, where they are multiplied at all.
    assert products.get(Unit.INT4_MMA, 0) in (0, 2 * products[Unit.INT8_MMA])
    for unit in products:
        share = gpu.mma if unit in TENSOR_CORES else 1
        assert gpu.reach(unit) == share * products[unit]


def test_a_target_that_names_a_gpu() -> None:
    assert gpu_of("cuda:sm_90") is GPUS["sm_90"]
    assert gpu_of("cuda") is gpu_of("cpu:znver4") is gpu_of("reference") is None
    assert prediction_of(plan_of(CHAINS), "cpu") is None
