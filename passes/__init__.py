"""Passes: programs to programs, one published idea in one file; recipes are lists of them.

Passes find their work by type, so their order decides what each finds. Where another order would
leave a pass without work, or with the wrong one, ``@placed`` above its function says what it stands
behind and ahead of, and a recipe file that has it otherwise is refused. In short:

    channels apart          outlier_channels, ahead of what makes codes of the rest
    operands of products    codes of weights, activations and gradients, each by its own pass;
                            grad_scale ahead of hybrid_fp8, which takes its layers first, and of
                            two_phase_rounding, which takes what is left
    carrier                 what is f32 at a GEMM by now is exempt and becomes the carrier
    what reads its format   range_batch_norm, loss_scale, subsample
    chosen bits             other numbers of bits in place of the constants that quantizers read
    recompute               sees the final formats, which decide what is worth keeping
    oscillation_reset       makes the codes of forward again, of the weights behind the update
    canonicalize            removes what the others left without readers
    the update              average_weights reads what the optimizer makes, accumulate_gradients
                            decides when that becomes the next state, clip_gradients bounds the sums
                            that the optimizer reads, low_bit_states says how what it keeps is
                            stored, skip_nonfinite looks at all that is left
    loops over time steps   over_steps says what their values mean outside of them
"""

from .accumulate_gradients import accumulate_gradients
from .affine_activations import affine_activations
from .affine_gradients import affine_gradients
from .affine_weights import affine_weights
from .average_weights import average_weights
from .canonicalize import canonicalize
from .carrier import carrier
from .chunked_accumulation import chunked_accumulation
from .clip_gradients import clip_gradients
from .count_bit_operations import count_bit_operations
from .cyclic_precision import cyclic_precision
from .depthwise_bits import depthwise_bits
from .dorefa_activations import dorefa_activations
from .dorefa_gradients import dorefa_gradients
from .dorefa_weights import dorefa_weights
from .dynamic_fixed_point import dynamic_fixed_point
from .fitted_operands import fitted_operands
from .fixed_norm import fixed_norm
from .fixed_operands import fixed_operands
from .fp8_operands import fp8_operands
from .gated_precision import gated_precision
from .grad_scale import grad_scale
from .gradient_to_noise import gradient_to_noise
from .hybrid_fp8 import hybrid_fp8
from .integer_gradients import integer_gradients
from .integer_update import integer_update
from .loss_scale import loss_scale
from .low_bit_states import low_bit_states
from .luq_gradients import luq_gradients
from .mx_operands import mx_operands
from .narrow_update import narrow_update
from .nvfp4_operands import nvfp4_operands
from .oscillation_reset import oscillation_reset
from .outlier_channels import outlier_channels
from .over_steps import over_steps
from .pact_activations import pact_activations
from .parts.options import Pass
from .progressive_precision import progressive_precision
from .progressive_target import progressive_target
from .quartet2_operands import quartet2_operands
from .range_batch_norm import range_batch_norm
from .recompute import recompute
from .s2fp8 import s2fp8
from .sawb_activations import sawb_activations
from .sawb_weights import sawb_weights
from .shift_gradients import shift_gradients
from .skip_nonfinite import skip_nonfinite
from .subsample import subsample
from .tetrajet_operands import tetrajet_operands
from .two_phase_rounding import two_phase_rounding
from .watch import watch

PASSES: dict[str, Pass] = {
    p.__name__: p
    for p in (
        accumulate_gradients,
        affine_activations,
        affine_gradients,
        affine_weights,
        average_weights,
        canonicalize,
        carrier,
        chunked_accumulation,
        clip_gradients,
        count_bit_operations,
        cyclic_precision,
        depthwise_bits,
        dorefa_activations,
        dorefa_gradients,
        dorefa_weights,
        dynamic_fixed_point,
        fitted_operands,
        fixed_norm,
        fixed_operands,
        fp8_operands,
        mx_operands,
        nvfp4_operands,
        quartet2_operands,
        gated_precision,
        grad_scale,
        gradient_to_noise,
        hybrid_fp8,
        integer_gradients,
        integer_update,
        loss_scale,
        low_bit_states,
        luq_gradients,
        narrow_update,
        oscillation_reset,
        outlier_channels,
        over_steps,
        pact_activations,
        progressive_precision,
        progressive_target,
        range_batch_norm,
        recompute,
        s2fp8,
        sawb_activations,
        sawb_weights,
        shift_gradients,
        skip_nonfinite,
        subsample,
        tetrajet_operands,
        two_phase_rounding,
        watch,
    )
}
