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
from .clip_gradients import clip_gradients
from .cyclic_precision import cyclic_precision
from .gated_precision import gated_precision
from .grad_scale import grad_scale
from .hybrid_fp8 import hybrid_fp8
from .options import Pass
from .pact_activations import pact_activations
from .progressive_precision import progressive_precision
from .range_batch_norm import range_batch_norm
from .recompute import recompute
from .sawb_weights import sawb_weights
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
        clip_gradients,
        cyclic_precision,
        gated_precision,
        grad_scale,
        hybrid_fp8,
        pact_activations,
        progressive_precision,
        range_batch_norm,
        recompute,
        sawb_weights,
        skip_nonfinite,
        subsample,
        two_phase_rounding,
    )
}
