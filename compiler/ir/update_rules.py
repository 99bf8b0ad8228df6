"""What each optimizer does to one element: the formulas of torch.optim, in its order.

``w`` is the weight, ``dw`` its gradient (negated where the optimizer maximizes); all else goes by
torch's name. A formula returns the new weight and then what becomes of what is kept, in the order
in which ``updates.py`` lists it. Each cites the paper that torch cites.
"""

from __future__ import annotations

from .rule import RuleTerm, Subject

NewTerms = tuple[RuleTerm, ...]


def sgd(x: Subject) -> NewTerms:
    """In the first step the buffer becomes the gradient itself, undamped.

    Without momentum the buffer stays as it is. Nesterov: Sutskever et al. (ICML 2013).
    """
    momentum, old = x["momentum"], x["momentum_buffer"]
    fresh = 1.0 - x["dampening"]
    begins = x.first
    d = x["dw"] + x["weight_decay"] * x["w"]
    kept = momentum * old + fresh * d
    new = begins.above(0.0, d, kept)
    used = d + momentum * new if x.flag("nesterov") else new
    used = momentum.equal(0.0, d, used)
    return x["w"] - x["lr"] * used, momentum.equal(0.0, old, new)


def adam(x: Subject) -> NewTerms:
    """Kingma and Ba, "Adam" (ICLR 2015), algorithm 1; decoupled: Loshchilov and Hutter, "AdamW"."""
    size, spread, base = _rates(x)
    g = _decayed(x)
    m, v = _moments(x, g)
    return base - size * (m / (v.sqrt() / spread + x["eps"])), m, v


def amsgrad(x: Subject) -> NewTerms:
    """Reddi, Kale and Kumar, "On the Convergence of Adam and Beyond" (ICLR 2018)."""
    size, spread, base = _rates(x)
    g = _decayed(x)
    m, v = _moments(x, g)
    most = _larger(x["max_exp_avg_sq"], v)
    return base - size * (m / (most.sqrt() / spread + x["eps"])), m, v, most


def nadam(x: Subject) -> NewTerms:
    """Dozat, "Incorporating Nesterov Momentum into Adam" (ICLR workshop 2016)."""
    one_minus_beta1, lr = x["one_minus_beta1"].wide(), x["lr"].wide()
    now, later = (_nadam_momentum(x, one_minus_beta1, t) for t in (x.turn, x.turn + 1.0))
    product = x.first.above(0.0, 1.0, x["mu_product"]) * now.narrow()
    here = product.wide()
    of_gradient = (lr * (1.0 - now) / (1.0 - here)).narrow()
    of_moment = (lr * later / (1.0 - here * later)).narrow()
    correction = _correction(x, "one_minus_beta2").narrow()
    base, g = _base(x), _decayed(x)
    m, v = _moments(x, g)
    below = (v / correction).sqrt() + x["eps"]
    return base - of_gradient * (g / below) - of_moment * (m / below), m, v, product


def radam(x: Subject) -> NewTerms:
    """Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond" (ICLR 2020)."""
    rest, left = x["one_minus_beta2"].wide(), _correction(x, "one_minus_beta2")
    longest = 2.0 / rest - 1.0
    length = longest - 2.0 * x.turn * (1.0 - left) / left
    known = (length - 4.0) * (length - 2.0) * longest
    rectified = (known / ((longest - 4.0) * (longest - 2.0) * length) * left).sqrt()
    size = (x["lr"].wide() / _correction(x, "one_minus_beta1")).narrow()
    sure, adaptive = length.above(5.0, 1.0, 0.0).narrow(), rectified.narrow()
    base, g = _base(x), _decayed(x)
    m, v = _moments(x, g)
    scale = sure.above(0.0, adaptive / (v.sqrt() + x["eps"]), 1.0)
    return base - size * m * scale, m, v


def adamax(x: Subject) -> NewTerms:
    """Kingma and Ba, "Adam" (ICLR 2015), algorithm 2."""
    size = (x["lr"].wide() / _correction(x, "one_minus_beta1")).narrow()
    stay = 1.0 - x["one_minus_beta2"]
    g = _decayed(x)
    m = _toward(x["exp_avg"], g, x["one_minus_beta1"])
    most = _larger(x["exp_inf"] * stay, g.size() + x["eps"])
    return x["w"] - size * (m / most), m, most


def rmsprop(x: Subject) -> NewTerms:
    """Hinton's lecture 6 of "Neural Networks for Machine Learning" (2012)."""
    rest = 1.0 - x["alpha"]
    g = _decayed(x)
    s = x["square_avg"] * x["alpha"] + g * g * rest
    w, m = _rmsprop_step(x, g / (s.sqrt() + x["eps"]))
    return w, s, m


def rmsprop_centered(x: Subject) -> NewTerms:
    """Graves, "Generating Sequences With Recurrent Neural Networks" (2013)."""
    rest = 1.0 - x["alpha"]
    g = _decayed(x)
    s = x["square_avg"] * x["alpha"] + g * g * rest
    mean = _toward(x["grad_avg"], g, rest)
    w, m = _rmsprop_step(x, g / ((s - mean * mean).sqrt() + x["eps"]))
    return w, s, m, mean


def adagrad(x: Subject) -> NewTerms:
    """Duchi, Hazan and Singer, "Adaptive Subgradient Methods" (JMLR 12, 2011)."""
    before = (x.turn - 1.0) * x["lr_decay"].wide()
    rate = (x["lr"].wide() / (1.0 + before)).narrow()
    held = x.first.above(0.0, x["initial_accumulator_value"], x["sum"])
    g = _decayed(x)
    s = held + g * g
    return x["w"] - rate * (g / (s.sqrt() + x["eps"])), s


def adadelta(x: Subject) -> NewTerms:
    """Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (2012)."""
    rest = x["one_minus_rho"]
    rho = 1.0 - rest
    g = _decayed(x)
    s = x["square_avg"] * rho + g * g * rest
    moved = (x["acc_delta"] + x["eps"]).sqrt() / (s + x["eps"]).sqrt() * g
    return x["w"] - x["lr"] * moved, s, x["acc_delta"] * rho + moved * moved * rest


def asgd(x: Subject) -> NewTerms:
    """Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992)."""
    lambd, lr = x["lambd"], x["lr"].wide()
    eta, mu = (x.first.above(0.0, begin, x[key]) for begin, key in ((x["lr"], "eta"), (1.0, "mu")))
    stay = 1.0 - lambd * eta
    grown = (lambd.wide() * lr * x.turn).log1p() * x["alpha"].wide()
    late = x.turn - x["t0"].wide()
    next_eta = (lr * (-grown).exp()).narrow()
    next_mu = (1.0 / late.above(1.0, late, 1.0)).narrow()
    g = _decayed(x)
    w = x["w"] * stay - eta * g
    mean = mu.equal(1.0, w, x["ax"] + (w - x["ax"]) * mu)
    return w, next_eta, next_mu, mean


def rprop(x: Subject) -> NewTerms:
    """Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation" (ICNN 1993)."""
    low, high = x["step_size_min"], x["step_size_max"]
    g = _decayed(x)
    size = x.first.above(0.0, x["lr"], x["step_size"])
    same = g * x["prev"]
    turned = _choose(same, x["etaplus"], x["etaminus"], 1.0)
    size = _smaller(_larger(size * turned, low), high)
    used = _choose(same, g, 0.0, g)
    return x["w"] - _sign(used) * size, used, size


def lion(x: Subject) -> NewTerms:
    """Chen et al., "Symbolic Discovery of Optimization Algorithms" (NeurIPS 2023)."""
    stay = 1.0 - x["lr"] * x["weight_decay"]
    g, m = x["dw"], x["exp_avg"]
    step = _sign(_toward(m, g, x["one_minus_beta1"]))
    return x["w"] * stay - x["lr"] * step, _toward(m, g, x["one_minus_beta2"])


def _decayed(x: Subject) -> RuleTerm:
    """The gradient with that of the weight decay, unless it acts on the weight itself."""
    if x.flag("decoupled_weight_decay"):
        return x["dw"]
    return x["dw"] + x["weight_decay"] * x["w"]


def _base(x: Subject) -> RuleTerm:
    """The weight with a decay that acts on it."""
    if not x.flag("decoupled_weight_decay"):
        return x["w"]
    return x["w"] * (1.0 - x["lr"] * x["weight_decay"])


def _rates(x: Subject) -> tuple[RuleTerm, RuleTerm, RuleTerm]:
    """Adam's step and the root of its second correction, and the weight that it starts from."""
    first, second = (_correction(x, f"one_minus_beta{i}").narrow() for i in (1, 2))
    return x["lr"] / first, second.sqrt(), _base(x)


def _moments(x: Subject, g: RuleTerm) -> tuple[RuleTerm, RuleTerm]:
    """The averages of the gradient and of its square."""
    rest = x["one_minus_beta2"]
    stay = 1.0 - rest
    m = _toward(x["exp_avg"], g, x["one_minus_beta1"])
    return m, x["exp_avg_sq"] * stay + g * g * rest


def _correction(x: Subject, rest: str) -> RuleTerm:
    """1 - (1 - rest)^t, wide."""
    return 1.0 - (x.turn * (-x[rest].wide()).log1p()).exp()


def _nadam_momentum(x: Subject, one_minus_beta1: RuleTerm, t: RuleTerm) -> RuleTerm:
    """beta1 (1 - 0.96^(t momentum_decay) / 2)"""
    fallen = (t * x["momentum_decay"].wide() * LOG_096).exp()
    return (1.0 - one_minus_beta1) * (1.0 - 0.5 * fallen)


LOG_096 = -0.040821994520255166


def _rmsprop_step(x: Subject, moved: RuleTerm) -> tuple[RuleTerm, RuleTerm]:
    """The new weight and momentum; without momentum the buffer stays as it is."""
    momentum, old = x["momentum"], x["momentum_buffer"]
    m = momentum * old + moved
    used = momentum.equal(0.0, moved, m)
    return x["w"] - x["lr"] * used, momentum.equal(0.0, old, m)


def _toward(a: RuleTerm, b: RuleTerm, share: RuleTerm) -> RuleTerm:
    return a + (b - a) * share


def _larger(a: RuleTerm, b: RuleTerm) -> RuleTerm:
    return a.above(b, a, b)


def _smaller(a: RuleTerm, b: RuleTerm) -> RuleTerm:
    return a.above(b, b, a)


def _choose(
    a: RuleTerm, above: RuleTerm | float, below: RuleTerm | float, zero: RuleTerm | float
) -> RuleTerm:
    """By the sign of ``a``; that of NaN is none."""
    return a.above(0.0, above, (-a).above(0.0, below, zero))


def _sign(a: RuleTerm) -> RuleTerm:
    return _choose(a, 1.0, -1.0, 0.0)
