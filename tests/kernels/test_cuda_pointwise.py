"""Pointwise kernels of the ``cuda`` target in the emulator: tests of the CPU's, of which a share."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm")

from .test_tvm_functions import (
    test_choices,
    test_functions_of_all_numbers,
    test_powers_of_all_numbers,
    test_random_masks_do_not_depend_on_the_order_in_memory,
)
from .test_tvm_pointwise import (
    test_amax_of_odd_numbers,
    test_backward_with_statistics,
    test_batch_stats,
    test_broadcast_inside,
    test_eval_gradient_and_bias,
    test_flat_ops,
    test_fp8_gradient,
    test_norm_relu_quantize,
    test_pact_plus,
    test_residual_with_mask,
    test_the_first_maximum,
    test_two_phase_rounding,
)
from .test_tvm_quantizers import (
    test_cast_and_back,
    test_cast_of_carriers,
    test_normalize,
    test_quantize_formats,
    test_quantize_to_bits_that_are_read,
    test_round_float,
    test_round_log,
    test_round_stochastic,
    test_weights_from_rows_to_pixels,
)

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.usefixtures("emulated", "together"),
    pytest.mark.share(8),
]
__all__ = [
    "test_amax_of_odd_numbers",
    "test_backward_with_statistics",
    "test_batch_stats",
    "test_broadcast_inside",
    "test_cast_and_back",
    "test_cast_of_carriers",
    "test_choices",
    "test_eval_gradient_and_bias",
    "test_flat_ops",
    "test_fp8_gradient",
    "test_functions_of_all_numbers",
    "test_norm_relu_quantize",
    "test_normalize",
    "test_pact_plus",
    "test_powers_of_all_numbers",
    "test_quantize_formats",
    "test_quantize_to_bits_that_are_read",
    "test_random_masks_do_not_depend_on_the_order_in_memory",
    "test_residual_with_mask",
    "test_round_float",
    "test_round_log",
    "test_round_stochastic",
    "test_the_first_maximum",
    "test_two_phase_rounding",
    "test_weights_from_rows_to_pixels",
]
