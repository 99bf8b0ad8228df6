"""golden/PASS.CASE.qt holds a program, a rule and the program that PASS makes of it."""

from pathlib import Path

import pytest

from quatrain.compiler.ir.text import parse, show
from quatrain.compiler.ir.verify import verify
from quatrain.passes import PASSES
from quatrain.passes.parts.options import Setting, options_of, read_options

RULE = "=" * 72 + "\n"
CASES = sorted((Path(__file__).parents[1] / "golden").glob("*.qt"))
# Programs of one or two layers, in which the default would exempt all.
ALL: dict[str, object] = {"exempt": "none"}
BETWEEN = ALL | {"attention": "quantize"}
OPTIONS: dict[str, dict[str, object]] = {
    "sawb_weights.conv": ALL,
    "sawb_weights.luq": ALL | {"coefficients": "luq"},
    "sawb_activations.shared": ALL,
    "sawb_activations.evaluation": ALL | {"coefficients": "luq"},
    "dorefa_activations.shared": ALL | {"a_bits": 2},
    "dorefa_gradients.four": ALL | {"g_bits": 4},
    "dorefa_gradients.nearest": ALL | {"g_rounding": "nearest"},
    "dorefa_weights.one": ALL | {"w_bits": 1},
    "dorefa_weights.two": ALL | {"w_bits": 2},
    "s2fp8.operands": {"s2fp8_results": "weight_gradients", "s2fp8_degenerate": "identity"},
    "integer_gradients.stochastic": ALL,
    "integer_gradients.nearest": ALL | {"gradient_bits": 8, "gradient_rounding": "nearest"},
    "luq_gradients.seven": ALL,
    "luq_gradients.smp": ALL | {"smp": 2, "luq_levels": 8},
    "luq_gradients.hindsight": ALL | {"hindsight": True, "smp": 2, "smp_scope": "both"},
    "luq_gradients.signed": ALL | {"luq_max": "signed", "luq_levels": 8},
    "luq_gradients.nearest": ALL | {"luq_rounding": "log_nearest", "luq_levels": 5},
    "sawb_activations.double": ALL | {"coefficients": "luq", "luq_act_range": "double"},
    "sawb_weights.grid17": ALL | {"coefficients": "luq", "grid": 17},
    "sawb_weights.grid16": ALL | {"grid": 16},
    "sawb_weights.three_bits": ALL | {"bits": 3, "grid": 16, "sawb_gradient": "sawb"},
    "pact_activations.shared": ALL,
    "pact_activations.signed": ALL | {"bits": 8, "clip_init": 4},
    "pact_activations.plus": ALL | {"pact_plus": True},
    "grad_scale.step": ALL,
    "grad_scale.instant": ALL | {"gradscale": "instant"},
    "grad_scale.channel": ALL | {"per": "channel"},
    "grad_scale.channel_instant": ALL | {"per": "channel", "gradscale": "instant"},
    "hybrid_fp8.weights": {"fp8_on": "conv", "fp8_products": "dw"},
    "hybrid_fp8.named": {"fp8_on": "conv", "fp8_format": "fp8.143"},
    "two_phase_rounding.single": {"single": True, "midpoint": "harmonic"},
    "two_phase_rounding.odd_dx": {
        "phase": "odd_dx",
        "odd_shift": -1,
        "radix4_tie": "down",
        "radix4_underflow": "nearest",
    },
    "two_phase_rounding.stochastic": {"sr": True},
    "two_phase_rounding.radix16": {"radix": 16, "odd_shift": -1},
    "two_phase_rounding.radix8": {"radix": 8, "single": True, "midpoint": "harmonic"},
    "two_phase_rounding.log5": {"log5": True},
    "recompute.bn_input": {"recompute": "bn_input"},
    "recompute.attention": {"recompute": "attention"},
    "dynamic_fixed_point.bits8": {"bits": 8},
    "fixed_operands.conv": ALL,
    "fixed_operands.wide": ALL | {"activations": "wide"},
    "shift_gradients.relu": ALL,
    "shift_gradients.int8": ALL | {"output_gradient": "int8"},
    "integer_update.sgd": ALL | {"g_scale": 32},
    "chunked_accumulation.mixed": {"accumulator": "fp16.169", "exempt": "fc2"},
    "clip_gradients.norm": {"norm": 1.0},
    "clip_gradients.value": {"value": 0.5},
    "accumulate_gradients.three": {"batches": 3},
    "low_bit_states.int8": {"adam_states": "int8", "least": 512},
    "low_bit_states.int4": {"adam_states": "int4", "least": 128},
    "low_bit_states.turns": {"adam_states": "int4", "least": 128},
    "low_bit_states.fp8": {"adam_states": "fp8", "least": 256},
    "average_weights.decay": {"decay": 0.9},
    "affine_weights.tensor": {"sbm_weight_granularity": "tensor", "bits": 4},
    "affine_activations.extreme": {
        "sbm_act_range": "extreme",
        "sbm_act_rounding": "stochastic",
        "range_momentum": 0.1,
    },
    "affine_gradients.one_copy": {"bifurcation": False, "gradient_bits": 6},
    "watch.conv": {"tensors": "x,dy"},
    "cyclic_precision.cycle": {"steps": 640, "gradient_low": 6, "gradient_high": 8},
    "cyclic_precision.clipped": {"steps": 640, "high": 4},
    "cyclic_precision.range_test": {"range_test": True, "low": 4},
    "progressive_precision.stages": {"eval_every": 3},
    "progressive_target.stages": {"stages": 3, "eval_every": 7},
    "range_batch_norm.paper": {"range_bn_const": "paper", "chunks": 1, "range_bn_bits": 0},
    "fp8_operands.shared": ALL,
    "fp8_operands.wang": {"exempt": "fc1", "fwd_format": "152", "fp8_subnormals": True},
    "gated_precision.relaxed": {"relax": "tenth", "relax_band": 0.2},
    "narrow_update.sgd": {"update_format": "fp16.169"},
    "pact_activations.product": BETWEEN,
    "sawb_activations.product": BETWEEN,
    "dorefa_activations.product": BETWEEN,
    "affine_activations.product": BETWEEN,
    "affine_gradients.product": BETWEEN | {"gradient_bits": 8},
    "fixed_operands.product": BETWEEN,
    "dynamic_fixed_point.product": BETWEEN,
    "fp8_operands.product": ALL,
    "outlier_channels.conv": {"exempt": "none", "outlier_share": 0.3, "outlier_steps": 1},
    "outlier_channels.shared": ALL,
    "oscillation_reset.shared": {"reset_start": 8000},
    "oscillation_reset.steps": {"steps": 12505, "reset_ratio": 4.0},
    "tetrajet_operands.conv": ALL | {"hadamard": "fixed", "sr": False},
    "tetrajet_operands.product": BETWEEN | {"hadamard": "none", "sr": False},
    "tetrajet_operands.shared": ALL | {"headroom": 1.0625},
    "nvfp4_operands.shared": ALL,
    "nvfp4_operands.random": ALL | {"hadamard": "random", "two_d_weights": False, "sr": False},
    "nvfp4_operands.product": BETWEEN | {"sr": False},
    "nvfp4_operands.stochastic": ALL
    | {"hadamard": "none", "two_d_weights": False, "sr_activations": True},
    "nvfp4_operands.forward": ALL | {"products": "forward"},
    "nvfp4_operands.four": ALL | {"hadamard": "none", "four_over_six": True},
    "nvfp4_operands.conv": ALL | {"hadamard": "none", "sr": False, "headroom": 1.0625},
    "quartet2_operands.shared": ALL,
    "quartet2_operands.stored": ALL | {"correction": "stored", "backward_from": "numbers"},
    "quartet2_operands.product": BETWEEN
    | {"hadamard": "fixed", "correction": "none", "hadamard_size": 32},
    "quartet2_operands.conv": ALL
    | {"hadamard": "fixed", "correction": "none", "four_over_six": False},
    "fitted_operands.shared": ALL | {"fit_block": 4},
    "fitted_operands.power": ALL | {"fit_scale": "power", "fit_weights": "blocks", "sr": True},
    "fitted_operands.product": BETWEEN
    | {"fit_format": "int8", "fit_block": 0, "fit_weights": "tensor"},
    "fitted_operands.conv": ALL | {"fit_dw": False, "fit_weights": "tensor"},
    "mx_operands.shared": ALL,
    "mx_operands.turned": ALL | {"hadamard": "random", "mx_block": 16, "sr": True},
    "mx_operands.stochastic": ALL
    | {"mx_format": "fp4.121", "mx_gradient_format": "fp4.121", "mx_scale": "even", "sr": True},
    "mx_operands.product": ALL,
    "mx_operands.conv": ALL | {"mx_block": 5},
    "shift_gradients.product": BETWEEN,
    "grad_scale.product": BETWEEN,
    "loss_scale.static": {"mode": "static", "init": 1000},
}


def run(name: str, text: str, raw: dict[str, object]) -> str:
    settings: dict[str, Setting] = read_options(name, options_of(PASSES[name]), raw)
    return show(verify(PASSES[name](verify(parse(text)), **settings)))


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_golden(case: Path, update_golden: bool) -> None:
    before, _, want = case.read_text(encoding="utf-8").partition(RULE)
    got = run(case.name.partition(".")[0], before, OPTIONS.get(case.stem, {}))
    if update_golden:
        case.write_text(before + RULE + got, encoding="utf-8")
    assert got == want or update_golden
    assert show(parse(got)) == got
    assert show(parse(before)) == before


def test_every_pass_has_a_golden_and_every_option_belongs_to_one() -> None:
    assert {c.name.partition(".")[0] for c in CASES} == set(PASSES)
    assert set(OPTIONS) <= {c.stem for c in CASES}


@pytest.mark.parametrize("name", sorted(PASSES))
def test_a_pass_leaves_an_empty_program_alone(name: str) -> None:
    text = "program empty\ninput x : f32[3]\n\nforward:\n\nreturn x\n"
    after = f"program empty\nafter {name}\ninput x : f32[3]\n\nforward:\n\nreturn x\n"
    assert run(name, text, {}) == after


@pytest.mark.parametrize("name", sorted(PASSES))
def test_a_pass_says_what_it_is(name: str) -> None:
    module = __import__(f"quatrain.passes.{name}", fromlist=[name])
    assert PASSES[name].__name__ == name and PASSES[name].__doc__
    assert module.__doc__ and "\n\n" in module.__doc__
