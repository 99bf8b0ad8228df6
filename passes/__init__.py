"""Passes: programs to programs, one published idea in one file; recipes are lists of them.

The order in which ``ultra_low_4bit`` runs them:

    sawb_weights, pact_activations   operands of the forward product, which dX and dW read as well
    grad_scale                       dY gets a scale; the next two find their work by that type
    hybrid_fp8                       takes its layers first
    two_phase_rounding               takes what is left
    carrier                          what is f32 at a GEMM by now is exempt and becomes the carrier
    subsample                        what shortcuts read, in the format that carrier gave it
    recompute                        sees the final formats, which decide what is worth keeping
    canonicalize                     removes what the others left without readers

``sbm8`` has affine_weights, affine_activations and affine_gradients in place of the first five, and
behind carrier, whose format it gives to the data of norms:

    range_batch_norm                 its arithmetic over channels stays in f32
    cyclic_precision,                put other bits in place of the constants that all quantizers
    progressive_precision            read, before recompute copies any
    depthwise_bits                   takes its layers out again

``dfq`` has gated_precision behind the affine quantizers, whose bits it takes over block by block,
and ``fractrain`` progressive_target behind that, both depthwise_bits at the end of these.

In recipes of 16-bit floats ``fp8_operands``, where there is one, stands ahead of ``carrier`` as the
quantizers do, and ``loss_scale`` behind it: the gradients are f32 there,
and what follows moves ops to the start of backward. ``chunked_accumulation`` stands behind whatever
makes the operands of GEMMs, of which it asks whether both are codes. ``narrow_update`` looks at the
optimizer's ops alone.

``luq4`` has sawb_activations in place of pact_activations, and luq_gradients in place of the passes
from grad_scale to two_phase_rounding; ``int4`` has integer_gradients there. ``dorefa``, ``s2fp8``
put theirs ahead of carrier too.

``wageubn``:

    fixed_norm                       ahead of what looks for the gradients that norms return
    shift_gradients, fixed_operands  operands of all products
    integer_update                   what SGD reads and makes

``dfp16`` has ``dynamic_fixed_point`` for all operands. ``recompute`` and ``canonicalize`` end both.

Behind them, where a step is asked for it, passes over the update:

    average_weights                  reads what the optimizer makes
    accumulate_gradients             decides when that becomes the next state
    clip_gradients                   bounds the sums that the optimizer reads

At the end of every step:

    skip_nonfinite                   looks at what all others left for the optimizer to read
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
from .fixed_norm import fixed_norm
from .fixed_operands import fixed_operands
from .fp8_operands import fp8_operands
from .gated_precision import gated_precision
from .grad_scale import grad_scale
from .hybrid_fp8 import hybrid_fp8
from .integer_gradients import integer_gradients
from .integer_update import integer_update
from .loss_scale import loss_scale
from .luq_gradients import luq_gradients
from .narrow_update import narrow_update
from .pact_activations import pact_activations
from .parts.options import Pass
from .progressive_precision import progressive_precision
from .progressive_target import progressive_target
from .range_batch_norm import range_batch_norm
from .recompute import recompute
from .s2fp8 import s2fp8
from .sawb_activations import sawb_activations
from .sawb_weights import sawb_weights
from .shift_gradients import shift_gradients
from .skip_nonfinite import skip_nonfinite
from .subsample import subsample
from .two_phase_rounding import two_phase_rounding

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
        fixed_norm,
        fixed_operands,
        fp8_operands,
        gated_precision,
        grad_scale,
        hybrid_fp8,
        integer_gradients,
        integer_update,
        loss_scale,
        luq_gradients,
        narrow_update,
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
        two_phase_rounding,
    )
}
