"""f-divergences, their Fenchel conjugates, and the games made of them.

  D_f(P || Q) = int q(x) f(p(x) / q(x)) dx,   f convex on [0, inf), f(1) = 0

u is the density ratio p / q, t a value of the critic T(x), v the raw output of a
network (a logit) and t = activation(v) its place in the domain of the conjugate

  conjugate(t) = f*(t) = sup_{u >= 0} (u t - f(u)).

For every critic E_P[T] - E_Q[f*(T)] <= D_f(P || Q), with equality at
T = f'(p / q): `derivative` is the optimal critic as a function of the ratio. A
larger v always means "more like data", and activation(v) is above `threshold` =
f'(1) where the critic takes x for data rather than a sample.

f is +inf below 0 here, which the conjugates remember: those of `TOTAL_VARIATION`,
`PEARSON` and `alpha(a)` with a > 1 are constant, -f(0), where the formula on all
of R would turn. P is the data and Q the model: the integrals of `PEARSON` and
`NEYMAN` are int (p - q)^2 / q and int (p - q)^2 / p. `JENSEN_SHANNON` is 2 JSD,
`SQUARED_HELLINGER` has no factor 1/2, and `GAN` is 2 JSD - ln 4, not 0 but -ln 4
where P = Q.

Source: f-GAN: Training Generative Neural Samplers using Variational Divergence
Minimization, Nowozin et al., 2016, arXiv:1606.00709, tables 1, 2 and 5 (5 and 6 in
the supplement); the conjugates were checked against the supremum.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import f_divergence
  >>> p, q = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.0, 0.5, 0.5])
  >>> print(f'{f_divergence.evaluate(f_divergence.JENSEN_SHANNON, p, q):.4f}')  # ln 2
  0.6931
  >>> game = f_divergence.f_gan(f_divergence.KL)
  >>> zero = jnp.zeros(2)
  >>> print(f'{game.discriminator(zero, zero).mean():.4f}')  # exp(-1)
  0.3679
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.losses import divergence as tables
from gm_jax.losses import shapes

Array = jax.Array
LN2 = math.log(2.0)


class Divergence(NamedTuple):
  """A convex function f with its conjugate and activation, all elementwise.

  f: u >= 0 -> f(u), nats; +inf where f(0) is.
  derivative: u -> f'(u), the optimal critic of the ratio u = p / q; a subgradient
    where f has a kink.
  conjugate: t -> f*(t), +inf above the domain.
  activation: v -> t, increasing, into the domain of the conjugate.
  conjugate_of_activation: v -> f*(activation(v)), in one stable formula.
  threshold: f'(1).
  domain: (lowest t, highest t) of the critic; the highest is f'(inf), the cost of
    mass that P has where Q has none.
  perspective: (p, q, ln(p / q)) -> q f(p / q) for p, q > 0, stable also where the ratio
    has no float.
  """

  f: Callable[[Array], Array]
  derivative: Callable[[Array], Array]
  conjugate: Callable[[Array], Array]
  activation: Callable[[Array], Array]
  conjugate_of_activation: Callable[[Array], Array]
  threshold: float
  domain: tuple[float, float]
  perspective: Callable[[Array, Array, Array], Array]


def _generator(perspective: Callable, at_zero: float) -> Callable:
  """The f of a perspective, f(u) = 1 f(u / 1), with its value at 0."""

  def f(u: Array) -> Array:
    (u,) = shapes.floats(u=u)
    some = u > 0
    safe = jnp.where(some, u, 1.0)
    values = perspective(safe, jnp.ones_like(safe), jnp.log(safe))
    return jnp.where(some, values, at_zero)

  return f


def _slopes(by_p: Callable, by_q: Callable) -> Callable:
  """The perspective p a + q b of its own derivatives a in p and b in q.

  Every perspective is of this form, being homogeneous (Euler's theorem). Both are
  functions of ln(p / q), whose own derivative adds nothing: p a' + q b' = 0.
  """

  @jax.custom_jvp
  def perspective(p, q, log_ratio):
    return p * by_p(log_ratio) + q * by_q(log_ratio)

  @perspective.defjvp
  def perspective_jvp(primals, tangents):
    dp, dq, _ = tangents
    log_ratio = primals[2]
    return perspective(*primals), by_p(log_ratio) * dp + by_q(log_ratio) * dq

  return perspective


def _extend_conjugate(
  limit: float, conjugate: Callable, at_limit: float = math.inf
) -> Callable:
  """The conjugate below a limit, its value there, and +inf above."""

  def extended_conjugate(t: Array) -> Array:
    (t,) = shapes.floats(t=t)
    inside = t < limit
    # The inner `where` keeps NaN out of the gradient of the branch not taken.
    values = conjugate(jnp.where(inside, t, limit - 1.0))
    return jnp.where(inside, values, jnp.where(t == limit, at_limit, jnp.inf))

  return extended_conjugate


FAR = 30.0  # logits beyond which softplus(-v) is exp(-v) to a float32's last digit


def _log_softplus_of_minus(v: Array) -> Array:
  """The log of softplus(-v), which is -v where exp(-v) underflows."""
  far = v > FAR
  near = jnp.log(jax.nn.softplus(-jnp.where(far, 0.0, v)))
  return jnp.where(far, -v, near)


@jax.custom_jvp
def _log_omega(x: Array) -> Array:
  """The y that solves exp(y) + y = x: ln W(exp(x)), W being Lambert's function."""
  # Convex and increasing, and begun on its right: Newton's steps only come nearer.
  infinite = x == jnp.inf
  x = jnp.where(infinite, 1.0, x)
  start = jnp.where(x > 1.0, jnp.log(jnp.maximum(x, 1.0)), x)

  def newton(_, y):
    # h(y) = exp(y) + y - x, h'(y) = exp(y) + 1.
    return y - (jnp.exp(y) + y - x) / (jnp.exp(y) + 1.0)

  # Six steps reach the last digit of a float64 from either start.
  return jnp.where(infinite, jnp.inf, jax.lax.fori_loop(0, 6, newton, start))


@_log_omega.defjvp
def _log_omega_jvp(primals, tangents):
  # The implicit function theorem in place of a derivative through the iterations.
  y = _log_omega(*primals)
  return y, tangents[0] / (1.0 + jnp.exp(y))


def _jeffrey_conjugate(t: Array) -> Array:
  # From f'(u) = 1 + ln u - 1/u = t.
  # The maximizing u is 1 / W(exp(1 - t)) = exp(-y).
  y = _log_omega(1.0 - t)
  return jnp.exp(-y) - 1.0 - y


def _total_variation(p, q, log_ratio):
  del log_ratio
  return jnp.abs(p - q) / 2.0


TOTAL_VARIATION = Divergence(
  f=_generator(_total_variation, 0.5),
  derivative=lambda u: jnp.sign(u - 1.0) / 2.0,
  conjugate=_extend_conjugate(0.5, lambda t: jnp.maximum(t, -0.5), 0.5),
  activation=lambda v: jnp.tanh(v) / 2.0,
  conjugate_of_activation=lambda v: jnp.tanh(v) / 2.0,
  threshold=0.0,
  domain=(-0.5, 0.5),
  perspective=_total_variation,
)


def _kl(p, q, log_ratio):
  del q
  return p * log_ratio


KL = Divergence(
  f=_generator(_kl, 0.0),
  derivative=lambda u: 1.0 + jnp.log(u),
  conjugate=lambda t: jnp.exp(t - 1.0),
  activation=lambda v: v,
  conjugate_of_activation=lambda v: jnp.exp(v - 1.0),
  threshold=1.0,
  domain=(-math.inf, math.inf),
  perspective=_kl,
)


def _reverse_kl(p, q, log_ratio):
  del p
  return -q * log_ratio


REVERSE_KL = Divergence(
  f=_generator(_reverse_kl, math.inf),
  derivative=lambda u: -1.0 / u,
  conjugate=_extend_conjugate(0.0, lambda t: -1.0 - jnp.log(-t)),
  activation=lambda v: -jnp.exp(-v),
  conjugate_of_activation=lambda v: v - 1.0,
  threshold=-1.0,
  domain=(-math.inf, 0.0),
  perspective=_reverse_kl,
)


def _pearson(p, q, log_ratio):
  return (p - q) * jnp.expm1(log_ratio)


def _pearson_conjugate(t: Array) -> Array:
  # sup_u u t - (u - 1)^2 is at u = 1 + t / 2.
  t = jnp.maximum(t, -2.0)  # below, the supremum is at u = 0
  return jnp.square(t) / 4.0 + t


PEARSON = Divergence(
  f=_generator(_pearson, 1.0),
  derivative=lambda u: 2.0 * (u - 1.0),
  conjugate=_pearson_conjugate,
  activation=lambda v: v,
  conjugate_of_activation=_pearson_conjugate,
  threshold=0.0,
  domain=(-math.inf, math.inf),
  perspective=_pearson,
)


def _neyman(p, q, log_ratio):
  return (q - p) * jnp.expm1(-log_ratio)


NEYMAN = Divergence(
  f=_generator(_neyman, math.inf),
  derivative=lambda u: 1.0 - 1.0 / jnp.square(u),
  conjugate=_extend_conjugate(1.0, lambda t: 2.0 - 2.0 * jnp.sqrt(1.0 - t), 2.0),
  activation=lambda v: -jnp.expm1(-v),
  conjugate_of_activation=lambda v: -2.0 * jnp.expm1(-v / 2.0),
  threshold=0.0,
  domain=(-math.inf, 1.0),
  perspective=_neyman,
)


def _squared_hellinger(p, q, log_ratio):
  del log_ratio
  return jnp.square(jnp.sqrt(p) - jnp.sqrt(q))


SQUARED_HELLINGER = Divergence(
  f=_generator(_squared_hellinger, 1.0),
  derivative=lambda u: 1.0 - 1.0 / jnp.sqrt(u),
  conjugate=_extend_conjugate(1.0, lambda t: 1.0 / (1.0 - t) - 1.0),
  activation=lambda v: -jnp.expm1(-v),
  conjugate_of_activation=jnp.expm1,
  threshold=0.0,
  domain=(-math.inf, 1.0),
  perspective=_squared_hellinger,
)


def _jeffrey(p, q, log_ratio):
  return (p - q) * log_ratio


JEFFREY = Divergence(
  f=_generator(_jeffrey, math.inf),
  derivative=lambda u: 1.0 + jnp.log(u) - 1.0 / u,
  conjugate=_jeffrey_conjugate,
  activation=lambda v: v,
  conjugate_of_activation=_jeffrey_conjugate,
  threshold=0.0,
  domain=(-math.inf, math.inf),
  perspective=_jeffrey,
)

_jensen_shannon = _slopes(
  lambda log_ratio: -tables.log_mixture(-log_ratio, 0.5),
  lambda log_ratio: -tables.log_mixture(log_ratio, 0.5),
)
JENSEN_SHANNON = Divergence(
  f=_generator(_jensen_shannon, LN2),
  derivative=lambda u: LN2 - jnp.log1p(1.0 / u),
  conjugate=_extend_conjugate(LN2, lambda t: -jnp.log1p(-jnp.expm1(t))),
  activation=lambda v: LN2 - jax.nn.softplus(-v),
  conjugate_of_activation=lambda v: jax.nn.softplus(v) - LN2,
  threshold=0.0,
  domain=(-math.inf, LN2),
  perspective=_jensen_shannon,
)

_gan = _slopes(
  lambda log_ratio: -jax.nn.softplus(-log_ratio),
  lambda log_ratio: -jax.nn.softplus(log_ratio),
)
GAN = Divergence(
  f=_generator(_gan, 0.0),
  derivative=lambda u: -jnp.log1p(1.0 / u),
  conjugate=_extend_conjugate(0.0, lambda t: -jax.nn.log1mexp(-t)),
  activation=lambda v: -jax.nn.softplus(-v),
  conjugate_of_activation=jax.nn.softplus,
  threshold=-LN2,
  domain=(-math.inf, 0.0),
  perspective=_gan,
)


def weighted_jensen_shannon(pi: float) -> Divergence:
  """Returns the Jensen-Shannon divergence of an unfair mixture.

  pi KL(P || pi P + (1 - pi) Q) + (1 - pi) KL(Q || pi P + (1 - pi) Q)
  f(u) = pi u ln u - (1 - pi + pi u) ln(1 - pi + pi u)

  pi is the weight of the data; pi = 1/2 is JSD, half of `JENSEN_SHANNON`.

  Args:
    pi: a number in (0, 1), the mixture's weight (and not 3.14159, which public
      code has put here).

  Returns:
    The divergence, in nats.

  Raises:
    ValueError: `pi` outside (0, 1).
  """
  if not 0.0 < pi < 1.0:
    raise ValueError(f'pi is the weight of the data, in (0, 1), got {pi}')
  rest, limit = 1.0 - pi, -pi * math.log(pi)

  perspective = _slopes(
    lambda log_ratio: -pi * tables.log_mixture(-log_ratio, pi),
    lambda log_ratio: -rest * tables.log_mixture(log_ratio, rest),
  )

  def conjugate_of_activation(v):
    # pi exp(t / pi) = exp(-s) with s = softplus(-v) / pi.
    far = v > FAR
    s = jax.nn.softplus(-jnp.where(far, 0.0, v)) / pi
    near = jax.nn.log1mexp(s)
    distant = _log_softplus_of_minus(v) - math.log(pi)
    return rest * (math.log(rest) - jnp.where(far, distant, near))

  return Divergence(
    f=_generator(perspective, -rest * math.log(rest)),
    derivative=lambda u: -pi * tables.log_mixture(-jnp.log(u), pi),
    conjugate=_extend_conjugate(
      limit, lambda t: -rest * jnp.log1p(-pi / rest * jnp.expm1(t / pi))
    ),
    activation=lambda v: limit - jax.nn.softplus(-v),
    conjugate_of_activation=conjugate_of_activation,
    threshold=0.0,
    domain=(-math.inf, limit),
    perspective=perspective,
  )


def alpha(a: float) -> Divergence:
  """Returns a member of the alpha family, with f'(1) = 0 and f''(1) = 1.

  f(u) = (u^a - 1 - a (u - 1)) / (a (a - 1))

  and its limits: a = 1 is KL(P || Q), a = 0 KL(Q || P). Half of `PEARSON` is
  a = 2, half of `NEYMAN` a = -1, twice `SQUARED_HELLINGER` a = 1/2.

  For a < 1 the activation is the optimal critic at the ratio u = exp(v / max(1, 1 -
  a)), finite in every float for |v| <= 50; with the supplement's, 1 / (1 - a) - ln(1 +
  exp(-v)), the conjugate overflows at v = 0 already where a nears 1.

  Args:
    a: alpha, any finite number.

  Returns:
    The divergence, in nats.

  Raises:
    ValueError: `a` is not finite.
  """
  if not math.isfinite(a):
    raise ValueError(f'a must be a finite number, got {a}')

  def perspective(p, q, log_ratio):
    gap = p - q
    if a == 1.0:
      return p * log_ratio - gap
    if a == 0.0:
      return gap - q * log_ratio
    if a < 0.5:  # two forms, for a difference of near ones would lose its digits
      return (q * jnp.expm1(a * log_ratio) - a * gap) / (a * (a - 1.0))
    return (p * jnp.expm1((a - 1.0) * log_ratio) / (a - 1.0) - gap) / a

  def derivative(u):
    if a == 1.0:
      return jnp.log(u)
    return jnp.expm1((a - 1.0) * jnp.log(u)) / (a - 1.0)

  scale = 1.0 / max(1.0, 1.0 - a)  # of the logit: ln u = scale v

  def power(log_w):
    """The conjugate (w^(a / (a - 1)) - 1) / a, where w = 1 + (a - 1) t."""
    if a == 0.0:
      return -log_w
    return jnp.expm1(a / (a - 1.0) * log_w) / a

  # The supremum over u is at w = u^(a - 1), where f'(u) = t.
  if a == 1.0:
    domain, conjugate = (-math.inf, math.inf), jnp.expm1
  elif a > 1.0:
    domain = (-math.inf, math.inf)

    def conjugate(t):
      # w - 1: where a nears 1, w itself would round what is left of t away.
      excess = (a - 1.0) * t
      inside = excess > -1.0  # below, the supremum is at u = 0
      log_w = jnp.log1p(jnp.where(inside, excess, 0.0))
      return jnp.where(inside, power(log_w), -1.0 / a)

  else:
    domain = (-math.inf, 1.0 / (1.0 - a))
    at_limit = -1.0 / a if a < 0 else math.inf
    conjugate = _extend_conjugate(
      domain[1], lambda t: power(jnp.log1p((a - 1.0) * t)), at_limit
    )

  def activation(v):
    if a >= 1.0:
      return v
    return -jnp.expm1(-(1.0 - a) * scale * v) / (1.0 - a)

  def conjugate_of_activation(v):
    if a >= 1.0:
      return conjugate(v)
    return scale * v if a == 0.0 else jnp.expm1(a * scale * v) / a

  return Divergence(
    f=_generator(perspective, 1.0 / a if a > 0 else math.inf),
    derivative=derivative,
    conjugate=conjugate,
    activation=activation,
    conjugate_of_activation=conjugate_of_activation,
    threshold=0.0,
    domain=domain,
    perspective=perspective,
  )


def saddle_generator(divergence: Divergence) -> Callable:
  """Returns the generator's side of the saddle point.

  -f*(activation(v)) on samples

  Source: f-GAN, Nowozin et al., 2016, arXiv:1606.00709, eq. 6.

  Args:
    divergence: that the critic estimates.

  Returns:
    A loss (real_logits `[B]`, ignored, fake_logits `[B]`) -> `[B]` in the divergence's
    unit; of `[B, P]` the mean over patches. It raises ValueError for two shapes.
  """

  @shapes.over_patches
  def generator(real_logits: Array, fake_logits: Array) -> Array:
    shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
    return -divergence.conjugate_of_activation(fake_logits)

  return generator


def trick_generator(divergence: Divergence) -> Callable:
  """Returns the generator's loss that raises the critic on samples.

  -activation(v) on samples

  It does not saturate where samples are rejected, and has the saddle's fixed point
  where P = Q, but descends another divergence elsewhere; of `GAN` it is the
  non-saturating loss.

  Source: f-GAN, Nowozin et al., 2016, arXiv:1606.00709, section 3.2.

  Args:
    divergence: that the critic estimates.

  Returns:
    A loss (real_logits `[B]`, ignored, fake_logits `[B]`) -> `[B]` in the divergence's
    unit; of `[B, P]` the mean over patches. It raises ValueError for two shapes.
  """

  @shapes.over_patches
  def generator(real_logits: Array, fake_logits: Array) -> Array:
    shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
    return -divergence.activation(fake_logits)

  return generator


def f_gan(
  divergence: Divergence,
  *,
  generator: Callable[[Divergence], Callable] = saddle_generator,
) -> base.Game:
  """Returns the game of a critic that estimates an f-divergence.

  discriminator  -activation(r) + f*(activation(f)), minus the variational bound
  generator      `saddle_generator`, or `trick_generator`

  `f_gan(GAN)` is `adversarial.MINIMAX`, and by the trick `NON_SATURATING`.

  Source: f-GAN, Nowozin et al., 2016, arXiv:1606.00709, eq. 6 and section 3.2.

  Args:
    divergence: D_f(P || Q), P the data and Q the samples.
    generator: makes the generator's loss of the divergence.

  Returns:
    The game; both losses give `[B]` in the divergence's unit.
  """

  @shapes.over_patches
  def discriminator(real_logits: Array, fake_logits: Array) -> Array:
    shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
    on_fake = divergence.conjugate_of_activation(fake_logits)
    on_real = divergence.activation(real_logits)
    # Both may be -inf (Neyman); that of the data is then the larger by far.
    lost = on_real == -jnp.inf
    return jnp.where(lost, jnp.inf, on_fake - jnp.where(lost, 0.0, on_real))

  return base.Game(generator(divergence), discriminator)


def _product(mass: Array, value: Array | float) -> Array:
  """The product, 0 where there is no mass, whatever the value."""
  some = mass > 0
  return jnp.where(some, mass * jnp.where(some, value, 0.0), 0.0)


def evaluate(
  divergence: Divergence, p: Array, q: Array, *, weights: Array | float = 1.0
) -> Array:
  """D_f(P || Q) of two tables of probabilities, or of densities on a grid.

  sum_i w_i q_i f(p_i / q_i),  and w_i p_i f'(inf) where q_i = 0 < p_i

  A density that underflows to 0 counts as no mass: take grids and floats in which
  neither does, or the value may be +inf where the divergence is not. The ratio itself
  may have no float: the sum is of `perspective`.

  Args:
    divergence: f and its slope at infinity.
    p: `[..., K]` probabilities or densities of the data.
    q: `[..., K]` of the model.
    weights: quadrature weights that broadcast against them; 1 for probabilities.

  Returns:
    `[...]` in the divergence's unit, +inf where it is infinite.

  Raises:
    ValueError: p and q differ in shape, or are scalars.
  """
  p, q = shapes.floats(p=p, q=q)
  shapes.check_tables(p=p, q=q)
  both = (p > 0) & (q > 0)
  safe_p, safe_q = jnp.where(both, p, 1.0), jnp.where(both, q, 1.0)
  shared = divergence.perspective(safe_p, safe_q, tables.log_ratio(safe_p, safe_q))
  missing = _product(jnp.where(p > 0, 0.0, q), divergence.f(jnp.zeros_like(q)))
  # The part of P that Q has no mass for: f(u) / u -> f'(inf), the top of the domain.
  singular = _product(jnp.where(q > 0, 0.0, p), divergence.domain[1])
  return (weights * jnp.where(both, shared, missing + singular)).sum(axis=-1)


def variational_bound(
  divergence: Divergence,
  p: Array,
  q: Array,
  critic: Array,
  *,
  weights: Array | float = 1.0,
) -> Array:
  """The bound that a critic gives: sum_i w_i (p_i T_i - q_i f*(T_i)) <= D_f.

  It is D_f at T = `divergence.derivative(p / q)` and -inf where T leaves the
  domain on samples.

  Source: f-GAN, Nowozin et al., 2016, arXiv:1606.00709, eq. 4.

  Args:
    divergence: with the conjugate f*.
    p: `[..., K]` probabilities or densities of the data.
    q: `[..., K]` of the model.
    critic: `[..., K]` its values T, after the activation.
    weights: as in `evaluate`.

  Returns:
    `[...]` in the divergence's unit.

  Raises:
    ValueError: the shapes differ.
  """
  p, q, critic = shapes.floats(p=p, q=q, critic=critic)
  shapes.check_tables(p=p, q=q, critic=critic)
  bound = _product(p, critic) - _product(q, divergence.conjugate(critic))
  return (weights * bound).sum(axis=-1)
