"""The cost of a whole step: what is counted, published counts of changing bits, tables."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from quatrain.compiler.errors import UsageError
from quatrain.compiler.formats import (
    BF16,
    F16,
    F32,
    FP4_121,
    FP4_EVEN,
    FP5_140,
    FP8_143,
    INT4,
    INT8,
    INT16,
    UINT4,
)
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.analysis import gemms
from quatrain.compiler.ir.text import parse
from quatrain.passes.recipe import load_recipe, recipe_names
from quatrain.runtime.cost.accelerator_file import accelerator_names, load_accelerator
from quatrain.runtime.cost.cost_tables import constants, cost_tables, scaled
from quatrain.runtime.cost.lines import PRODUCT_ROLES, Energy, Role
from quatrain.runtime.cost.model import OperandBits, step_cost
from quatrain.runtime.cost.resized import resized
from quatrain.runtime.cost.step_cost import StepCost
from quatrain.runtime.cost.takes import unit_for
from quatrain.runtime.report.bit_operations import F32_COST
from quatrain.runtime.report.cyclic_cost import cyclic

from ..cases.bill_programs import CAPTURED, QUANTIZED
from ..cases.bit_machine import bit_machine
from ..cases.residual import resnet

PAGE = Path(__file__).parents[2] / "docs" / "cost.md"
MACHINES = accelerator_names()
NETWORK = resnet(image=4, widths=(3,))
FC = 3 * 13 * 3  # multiply-accumulates of a direction of the linear layer


def by(recipe: str, **options: object) -> Program:
    return load_recipe(recipe).with_options(options).apply(parse(CAPTURED))[-1][1]


@pytest.fixture(scope="module")
def low() -> StepCost:
    return step_cost(parse(QUANTIZED), load_accelerator("bitfusion"))


def test_where_scales_start_costs_nothing_later() -> None:
    """GradScale's first step reads the gradient; every other one has the scale in its state."""
    machine = load_accelerator("bitfusion")
    step, instant = (
        step_cost(by("ultra_low_4bit", exempt="none", gradscale=rule), machine)
        for rule in ("step", "instant")
    )
    kinds = [{line.op for line in cost.lines if line.operations} for cost in (step, instant)]
    assert "amax_first" not in kinds[0] and "grad_scale_init" not in kinds[0]
    assert "grad_scale_init" in kinds[1]  # by this rule it is read in every step
    norms = [sum(x.op == "batch_norm_input_grad" for x in cost.lines) for cost in (step, instant)]
    assert norms == [1, 1] and step.total.bits.dram < instant.total.bits.dram


@pytest.fixture(scope="module")
def static() -> Program:
    return by("sbm8", exempt="none", bifurcation=False)


def test_the_four_that_are_built_in() -> None:
    assert MACHINES == ("bitfusion", "cpu_like", "fp4_array", "gpu_like")


@pytest.mark.parametrize("name", MACHINES)
def test_the_page_has_each_constant_with_its_source(name: str) -> None:
    machine, page = load_accelerator(name), PAGE.read_text(encoding="utf-8")
    for what, value, source in constants(machine):
        assert source.strip() and f"| {what} | {value} | {source} |" in page
    assert machine.assumptions and all(f"- {text}\n" in page for text in machine.assumptions)


def test_the_machine_on_the_page_reads(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    path = tmp_path / "mine.toml"
    path.write_text(found[1])
    made = step_cost(by("int4", exempt="none"), load_accelerator(str(path)))
    assert made.macs and made.machine.area == (("array", 0.2),)


def test_products_are_those_of_the_program(low: StepCost) -> None:
    program = parse(QUANTIZED)
    assert low.macs == sum(g.macs for g in gemms(program))
    found = {(x.layer, x.role): x.products for x in low.lines if x.products}
    units = {key: made.unit for key, made in found.items() if made}
    assert units == {
        ("body.conv", Role.FORWARD): "int4 x int4",
        # Levels of radix 4 are integers up to 4096.
        ("body.conv", Role.INPUT_GRAD): "int16 x int4",
        ("body.conv", Role.WEIGHT_GRAD): "int16 x int4",
        ("last", Role.FORWARD): "bf16 x bf16",
    }
    assert low.assumed_macs == 2 * 7 * 7 * 13
    by_bits = {(4, 4): 3 * 2 * 13 * 49 * 27, (16, 16): 2 * 49 * 13}
    assert low.by_bits == by_bits


def test_an_array_with_fp4_units_multiplies_gradients_as_fast_as_codes(low: StepCost) -> None:
    made = step_cost(parse(QUANTIZED), load_accelerator("fp4_array"))
    gradients = {x.role: x.products for x in made.lines if x.layer == "body.conv" and x.products}
    assert {p.unit for p in gradients.values() if p} == {"int4 x int4", "fp4 x int4"}
    slow = sum(x.energy.compute for x in low.lines if x.products and not x.products.assumed)
    fast = sum(x.energy.compute for x in made.lines if x.products and x.layer == "body.conv")
    # 0.115 pJ three times against 0.115 and twice 0.459.
    assert fast / slow == pytest.approx(3 * 0.115 / (0.1148 + 2 * 0.459), rel=1e-3)


def test_a_bias_in_the_kernel_of_its_product_moves_no_sums() -> None:
    biased = QUANTIZED.replace(
        "  # body.relu\n  z = relu(y)",
        "  yb = add_bias(y, b) : bf16[2x13x7x7]\n  # body.relu\n  z = relu(yb)",
    ).replace("state alpha", "state b : bf16[13]\nstate alpha")
    found = step_cost(parse(biased), load_accelerator("bitfusion"))
    (line,) = (x for x in found.lines if x.op == "add_bias")
    assert line.bits.dram == 13 * 16 and line.cycles == 0 and line.operations == 2 * 13 * 49


def test_parts_add_up(low: StepCost) -> None:
    total = low.total
    assert total.cycles == pytest.approx(sum(x.cycles for x in low.lines))
    assert total.bits.dram == sum(x.bits.dram for x in low.lines)
    lines = sum((x.energy for x in low.lines), Energy())
    assert total.energy.total == pytest.approx(lines.total + low.scale_pj)
    assert {p.name for p in low.parts} == {
        "forward", "dX", "dW", "conversions", "scales", "between products"
    }  # fmt: skip


def test_what_is_kept_for_backward_is_counted_apart(low: StepCost) -> None:
    kept = {x.op: x.bits.kept for x in low.lines if x.bits.kept}
    # wq, xq: read by the gradients, not written for them alone; z is read by relu_grad.
    codes, z = 2 * 3 * 49 * 4, 2 * 13 * 49 * 16
    assert kept["conv2d_weight_grad"] >= codes
    assert kept["conv2d_input_grad"] >= 13 * 27 * 4
    assert kept["relu_grad"] == z
    assert low.energy.kept == pytest.approx(15 * sum(kept.values()))


def test_the_update_reads_and_writes_all_that_an_optimizer_keeps() -> None:
    found = step_cost(parse(CAPTURED), load_accelerator("bitfusion"))
    sgd = [x for x in found.lines if x.op == "sgd"]
    numbers = 13 * 5 * 9 + 13 + 39
    assert {x.role for x in sgd} == {Role.OPTIMIZER}
    written = sum(x.bits.dram_written for x in sgd)
    assert written == 2 * 32 * numbers  # weight and momentum
    assert all(x.operations for x in sgd)


def test_dfqs_cheapest_step_has_fractrains_share_of_32_bits(static: Program) -> None:
    # docs/recipes/fractrain.md: 3 bits of activations, 4 of weights, 6 of gradients.
    found = step_cost(static, bit_machine(), OperandBits(3, 4, 6))
    fc = [x for x in found.lines if x.products and x.layer == "fc"]
    share = sum(x.energy.compute for x in fc) / (3 * FC * F32_COST)
    assert [x.energy.compute / FC for x in fc] == [3 * 4, 6 * 4, 6 * 3]
    assert share == pytest.approx(0.017578, abs=5e-7)


def test_a_cycle_of_cpt_saves_what_the_paper_says(static: Program) -> None:
    machine, cycle = bit_machine(), cyclic(3, 8, 32 * 100)

    def energy(bits: int) -> float:
        found = step_cost(static, machine, OperandBits(bits, bits, 8))
        return sum(x.energy.compute for x in found.lines if x.products and x.layer == "fc")

    spent = sum(n * energy(bits) for bits, n in cycle.spent().items())
    saving = 1 - spent / (cycle.length * energy(8))
    assert saving == pytest.approx(cycle.saving(8))


def test_six_bits_cost_as_eight_on_bitfusion_and_three_as_four(static: Program) -> None:
    machine = load_accelerator("bitfusion")
    six, eight, three, four = (
        step_cost(static, machine, OperandBits(b, b, b)) for b in (6, 8, 3, 4)
    )
    assert six.cycles == eight.cycles and six.joules == eight.joules
    assert three.cycles == four.cycles and three.joules == four.joules
    assert four.joules < eight.joules


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_can_be_costed(recipe: str) -> None:
    program = load_recipe(recipe).apply(NETWORK)[-1][1]
    # All machines take turns; that each takes all formats is the test below.
    name = MACHINES[recipe_names().index(recipe) % len(MACHINES)]
    found = step_cost(program, load_accelerator(name))
    assert found.macs == sum(g.macs for g in gemms(program))
    assert 0 < found.utilization <= 1
    assert found.stalled <= found.cycles
    assert {x.role for x in found.lines if x.products} <= set(PRODUCT_ROLES)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_takes_every_format_of_operands(name: str) -> None:
    machine = load_accelerator(name)
    operands = (F32, BF16, F16, FP8_143, FP4_121, FP4_EVEN, FP5_140, INT4, UINT4, INT8, INT16)
    for a in operands:
        for b in operands:
            assert unit_for(machine, (a, b), "a test").rate > 0


def test_numbers_without_a_unit_are_named() -> None:
    integers = tuple(u for u in bit_machine().units if u.takes[0].startswith("int"))
    with pytest.raises(UsageError, match=r"multiplies no bf16 by bf16, which last \(forward\)"):
        step_cost(parse(QUANTIZED), replace(bit_machine(), units=integers))


def test_buffers_that_hold_no_sum_are_named() -> None:
    machine = load_accelerator("bitfusion")
    small = replace(machine, name="tiny", sums=replace(machine.sums, kib=0.001))
    with pytest.raises(UsageError, match="buffers of tiny are too small"):
        step_cost(parse(QUANTIZED), small)


def test_a_larger_array_takes_fewer_cycles_and_more_area() -> None:
    machine, program = load_accelerator("bitfusion"), by("int4", exempt="none")
    large = resized(machine, 32, 64)
    assert machine.mm2 and large.mm2 == pytest.approx(machine.mm2 + 3 * 0.888)
    assert step_cost(program, large).cycles <= step_cost(program, machine).cycles
    assert resized(load_accelerator("gpu_like"), 16, 16).mm2 is None


@pytest.mark.parametrize("every_op", [False, True])
def test_tables_fit_80_columns(low: StepCost, every_op: bool) -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(cost_tables(low, every_op=every_op))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    for word in ("conversions", "scales", "waits", "kept", "Assumed", "0.888", "body.conv"):
        assert word in text
    assert "…" not in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.00613, "6.13 ms"), (1.5, "1.5 s"), (0, "0 s"), (9.996e-4, "1000 us")]
)
def test_quantities(value: float, text: str) -> None:
    assert scaled(value, "s") == text
