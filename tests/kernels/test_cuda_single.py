"""Kernels of single ops of the ``cuda`` target in the emulator: tests of the CPU's, of which a share."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm")

from .test_measures import test_dots, test_exponents, test_stored_numbers
from .test_tvm_functions import (
    test_adam,
    test_count_where,
    test_counters,
    test_embedding_and_its_gradient,
    test_increment,
    test_max,
    test_resample,
    test_rmsprop,
    test_tables,
    test_tally,
)
from .test_tvm_rows import (
    test_comparisons_of_integers,
    test_division_of_integers,
    test_functions_of_integers,
    test_gather_its_gradient_and_scatter,
    test_order_and_the_largest,
    test_places,
    test_running_sums,
    test_scatter_of_integers_keeps_the_last,
    test_take_and_its_gradient,
    test_take_of_other_numbers,
)
from .test_tvm_single_ops import (
    test_adaptive_pools,
    test_avg_pool,
    test_constant,
    test_grad_scale_init,
    test_grad_scale_step,
    test_log_softmax,
    test_log_softmax_of_odd_numbers,
    test_loss_scale_step,
    test_max_pool,
    test_max_pool_of_nan_and_dilation,
    test_moves,
    test_mse_loss,
    test_nll_loss,
    test_running_statistics,
    test_sawb_clip,
    test_sgd,
    test_sgd_without_momentum,
    test_sums,
    test_view_of_codes,
)

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.usefixtures("emulated", "together"),
    pytest.mark.share(8),
]
__all__ = [
    "test_adam",
    "test_adaptive_pools",
    "test_avg_pool",
    "test_comparisons_of_integers",
    "test_constant",
    "test_count_where",
    "test_counters",
    "test_division_of_integers",
    "test_dots",
    "test_embedding_and_its_gradient",
    "test_exponents",
    "test_functions_of_integers",
    "test_gather_its_gradient_and_scatter",
    "test_grad_scale_init",
    "test_grad_scale_step",
    "test_increment",
    "test_log_softmax",
    "test_log_softmax_of_odd_numbers",
    "test_loss_scale_step",
    "test_max",
    "test_max_pool",
    "test_max_pool_of_nan_and_dilation",
    "test_moves",
    "test_mse_loss",
    "test_nll_loss",
    "test_order_and_the_largest",
    "test_places",
    "test_resample",
    "test_rmsprop",
    "test_running_statistics",
    "test_running_sums",
    "test_sawb_clip",
    "test_scatter_of_integers_keeps_the_last",
    "test_sgd",
    "test_sgd_without_momentum",
    "test_stored_numbers",
    "test_sums",
    "test_tables",
    "test_take_and_its_gradient",
    "test_take_of_other_numbers",
    "test_tally",
    "test_view_of_codes",
]
