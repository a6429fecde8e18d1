"""Distributions in the plane (and a funnel) with known densities; pure.

Each factory returns a `Toy`: a sampler, and the log-density in nats where it
is known. Scales are standard deviations. Densities are exact: in closed form,
or, for noisy curves, a one-dimensional integral by Gauss-Legendre quadrature
fine enough for the rest to be rounding. `dataset` makes an endless Dataset.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import dataset as dataset_lib
from gm_jax.data import transforms

SPLITS = ('train', 'validation', 'test')
AHEAD = 64  # batches drawn in one dispatch, of no more than
BLOCK = 2**24  # numbers
MAX_SIZE = 10_000  # of whatever is counted
MAX_NODES = 4000  # of a quadrature: seconds, and error below float32's


class Toy(NamedTuple):
  """A distribution that can be sampled, and mostly evaluated.

  name: of the family.
  dim: D, the event size.
  sample: (key, num) -> [num, D].
  log_prob: ([B, D]) -> [B] nats, or None.
  means: [K, D] centers of the components of a Gaussian mixture, else None.
  std: of every component where there is one for all, else None.
  weights: [K] of the components, summing to one, else None.
  """

  name: str
  dim: int
  sample: Callable[[base.Array, int], base.Array]
  log_prob: Callable[[base.Array], base.Array] | None
  means: np.ndarray | None = None
  std: float | None = None
  weights: np.ndarray | None = None


def _normal_log_prob(x, mean, std):
  return -0.5 * ((x - mean) / std) ** 2 - jnp.log(std) - 0.5 * math.log(2 * math.pi)


def _check_points(x: base.Array, dim: int) -> None:
  chex.assert_shape(
    x,
    (None, dim),
    custom_message=f'x must be points [B, {dim}]',
    exception_type=ValueError,
  )


def _check_counts(**counts: int) -> None:
  for name, value in counts.items():
    if not 1 <= value <= MAX_SIZE:
      raise ValueError(f'{name} must be from 1 to {MAX_SIZE}, got {value}')


def check_scales(**scales) -> None:
  """Raises ValueError unless every number is from 1e-6 to 1e6."""
  for name, value in scales.items():
    value = np.asarray(value, np.float64)
    if not value.size or not ((value >= 1e-6) & (value <= 1e6)).all():
      raise ValueError(f'{name} must be from 1e-6 to 1e6, got {value}')


def _rotate(x: base.Array, angle: base.Array) -> base.Array:
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  a, b = x[..., 0], x[..., 1]
  return jnp.stack([cos * a - sin * b, sin * a + cos * b], -1)


def gaussian_mixture(
  means: Sequence,
  stds,
  weights: Sequence | None = None,
  *,
  name: str = 'gaussian_mixture',
) -> Toy:
  """A mixture of Gaussians with diagonal covariances.

  log p(x) = logsumexp_k [log w_k + sum_d log N(x_d; m_kd, s_kd^2)].

  Args:
    means: `[K, D]` centers.
    stds: `[]`, `[K]` or `[K, D]` standard deviations.
    weights: `[K]`, proportional to the probabilities; equal if None.
    name: of the Toy.

  Returns:
    A Toy; its `std` is None unless `stds` is one number.

  Raises:
    ValueError: if shapes disagree or a weight is negative.
  """
  means, stds = np.asarray(means, np.float32), np.asarray(stds, np.float32)
  if means.ndim != 2:
    raise ValueError(f'means must be [K, D], got {means.shape}')
  num, dim = means.shape
  if stds.shape not in ((), (num,), (num, dim)):
    raise ValueError(f'stds must be [], {[num]} or {[num, dim]}, got {stds.shape}')
  scale = np.broadcast_to(stds[:, None] if stds.ndim == 1 else stds, (num, dim))
  weights = np.ones(num) if weights is None else np.asarray(weights, float)
  if weights.shape != (num,) or (weights < 0).any():
    raise ValueError(f'weights must be {num} non-negative numbers, got {weights}')
  weights = (weights / weights.sum()).astype(np.float32)

  def sample(key, num):
    component_key, noise_key = jax.random.split(key)
    component = jax.random.categorical(component_key, jnp.log(weights), shape=(num,))
    noise = jax.random.normal(noise_key, (num, dim))
    return jnp.asarray(means)[component] + jnp.asarray(scale)[component] * noise

  def log_prob(x):
    _check_points(x, dim)
    log_component = _normal_log_prob(x[:, None], means, scale).sum(-1)
    return jax.nn.logsumexp(log_component + jnp.log(weights), -1)

  std = float(stds) if stds.ndim == 0 else None
  return Toy(name, dim, sample, log_prob, means, std, weights)


def ring(*, num_modes: int = 8, radius: float = 2.0, std: float = 0.02) -> Toy:
  """Gaussians of equal weight at the angles 2 pi k / K, all distinct.

  Source: Unrolled Generative Adversarial Networks, Metz et al., 2017,
  arXiv:1611.02163, section 3.1.
  """
  _check_counts(num_modes=num_modes)
  check_scales(radius=radius, std=std)
  angle = 2 * np.pi * np.arange(num_modes) / num_modes
  means = radius * np.stack([np.cos(angle), np.sin(angle)], -1)
  return gaussian_mixture(means, std, name='ring')


def grid(*, side: int = 5, spacing: float = 2.0, std: float = 0.05) -> Toy:
  """Gaussians of equal weight on a square lattice, centered at zero.

  Source: Adversarially Learned Inference, Dumoulin et al., 2017, arXiv:1606.00704,
  whose toy data are such a mixture of 25.
  """
  _check_counts(side=side, modes=side**2)
  check_scales(spacing=spacing, std=std)
  ticks = spacing * (np.arange(side) - (side - 1) / 2)
  means = np.stack(np.meshgrid(ticks, ticks, indexing='ij'), -1).reshape(-1, 2)
  return gaussian_mixture(means, std, name='grid')


def concentric_rings(
  *, radii: Sequence[float] = (0.5, 1.0, 1.5, 2.0), std: float = 0.05
) -> Toy:
  """Circles of equal weight with Gaussian radius, taken positive.

  r = |r_k + std n|, the angle uniform, so that with the folded normal's density
  and the Jacobian of polar coordinates
  p(x) = 1 / (2 pi r K) sum_k [N(r; r_k, std^2) + N(-r; r_k, std^2)].
  """
  check_scales(radii=radii, std=std)
  radii = np.asarray(radii, np.float32)

  def sample(key, num):
    ring_key, radius_key, angle_key = jax.random.split(key, 3)
    center = jax.random.choice(ring_key, jnp.asarray(radii), (num,))
    radius = jnp.abs(center + std * jax.random.normal(radius_key, (num,)))
    angle = jax.random.uniform(angle_key, (num,), maxval=2 * math.pi)
    return radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)

  def log_prob(x):
    _check_points(x, 2)
    # At zero the density is infinite; the floor keeps the gradient finite.
    r = jnp.sqrt(jnp.maximum((x**2).sum(-1), 1e-24))
    both = _normal_log_prob(jnp.stack([r, -r])[..., None], radii, std)
    normalizer = jnp.log(2 * math.pi * r) + math.log(len(radii))
    return jax.nn.logsumexp(both, (0, -1)) - normalizer

  return Toy('concentric_rings', 2, sample, log_prob)


def _noisy_curves(name: str, curves: Sequence[Callable], std: float) -> Toy:
  """A uniform point of a random curve, with isotropic Gaussian noise.

  p(x) = 1/K sum_k int_0^1 N(x; c_k(u), std^2 I) du. By Gauss-Legendre
  quadrature this is a mixture of Gaussians at the nodes, which are laid so
  densely that the error is below float32's within ten standard deviations of them.
  """
  check_scales(std=std)
  ends = np.linspace(0, 1, 1001)
  steps = [
    np.linalg.norm(np.diff(curve(ends, np), axis=0), axis=-1) for curve in curves
  ]
  speed = 1000 * np.max(steps)
  num = 20 + math.ceil(3 * speed / std)
  if num > MAX_NODES:
    least = 3 * speed / (MAX_NODES - 20)
    raise ValueError(f'std of {name} must be at least {least:.2g}, got {std}')
  import scipy.special  # heavy; numpy's own takes a hundred times as long

  nodes, weights = scipy.special.roots_legendre(num)
  means = np.concatenate([curve((nodes + 1) / 2, np) for curve in curves])
  mixture = gaussian_mixture(means, std, np.tile(weights, len(curves)))

  def sample(key, num):
    curve_key, position_key, noise_key = jax.random.split(key, 3)
    u = jax.random.uniform(position_key, (num,))
    points = jnp.stack([curve(u, jnp) for curve in curves])
    which = jax.random.randint(curve_key, (num,), 0, len(curves))
    noise = std * jax.random.normal(noise_key, (num, 2))
    return points[which, jnp.arange(num)] + noise

  return Toy(name, 2, sample, mixture.log_prob)


def moons(*, std: float = 0.1) -> Toy:
  """Two interleaved half circles with Gaussian noise.

  (cos t, sin t) and (1 - cos t, 1/2 - sin t) with t uniform on [0, pi]. The
  density is by quadrature; see the module.

  Source: Scikit-learn: Machine Learning in Python, Pedregosa et al., 2011,
  arXiv:1201.0490, its `make_moons`.
  """

  def upper(u, xp):
    return xp.stack([xp.cos(math.pi * u), xp.sin(math.pi * u)], -1)

  def lower(u, xp):
    return xp.stack([1 - xp.cos(math.pi * u), 0.5 - xp.sin(math.pi * u)], -1)

  return _noisy_curves('moons', [upper, lower], std)


def swiss_roll(*, radius: float = 2.0, turns: float = 1.5, std: float = 0.1) -> Toy:
  """A spiral with Gaussian noise: the swiss roll's section.

  t (cos t, sin t) radius / t_max, with t uniform on [3 pi / 2, t_max] and
  t_max = 3 pi / 2 + 2 pi turns. The density is by quadrature; see the module.

  Source: Deep Unsupervised Learning using Nonequilibrium Thermodynamics,
  Sohl-Dickstein et al., 2015, arXiv:1503.03585, figure 1.
  """
  check_scales(radius=radius, turns=turns)
  first, last = 1.5 * math.pi, 1.5 * math.pi + 2 * math.pi * turns

  def spiral(u, xp):
    t = first + (last - first) * u
    return radius / last * t[:, None] * xp.stack([xp.cos(t), xp.sin(t)], -1)

  return _noisy_curves('swiss_roll', [spiral], std)


def checkerboard(*, side: int = 4, width: float = 2.0) -> Toy:
  """Uniform on the black squares of a board centered at zero.

  p(x) = 1 / (number of black squares * width^2) there, and 0 elsewhere.

  Args:
    side: squares in a row; the lower left one is black.
    width: of a square.

  Returns:
    A Toy whose log-density is -inf on white squares and off the board.
  """
  _check_counts(side=side, squares=side**2)
  check_scales(width=width)
  black = np.argwhere(np.indices((side, side)).sum(0) % 2 == 0).astype(np.float32)
  half = side / 2
  log_density = -math.log(len(black)) - 2 * math.log(width)

  def sample(key, num):
    square_key, offset_key = jax.random.split(key)
    corner = jax.random.choice(square_key, jnp.asarray(black), (num,))
    # The margin keeps rounding from moving a point into a white square.
    offset = jax.random.uniform(offset_key, (num, 2), minval=1e-6, maxval=1 - 1e-6)
    return width * (corner + offset - half)

  def log_prob(x):
    _check_points(x, 2)
    square = jnp.floor(x / width + half)
    on_board = ((square >= 0) & (square < side)).all(-1)
    return jnp.where(on_board & (square.sum(-1) % 2 == 0), log_density, -jnp.inf)

  return Toy('checkerboard', 2, sample, log_prob)


def pinwheel(
  *,
  num_arms: int = 5,
  radius: float = 2.0,
  radial_std: float = 0.6,
  tangential_std: float = 0.15,
  twist: float = 0.6,
) -> Toy:
  """Elongated Gaussians around a center, twisted into arms.

  y = R(2 pi k / K) (radius + radial_std n_1, tangential_std n_2) and
  x = R(twist |y|) y. A rotation by a function of the radius preserves area
  and the radius, so p(x) = p_y(R(-twist |x|) x) exactly.

  Source: Composing graphical models with neural networks for structured
  representations and fast inference, Johnson et al., 2016, arXiv:1603.06277. There
  the angle is rate * exp(f_1), of the coordinate f_1 along the arm, and the
  map has the Jacobian 1 - f_2 rate exp(f_1); here it is linear in |y| = |f|.

  Args:
    num_arms: K, of equal weight.
    radius: of the Gaussians' centers.
    radial_std: along an arm, before the twist.
    tangential_std: across an arm.
    twist: angle per unit of radius, in radians.

  Returns:
    A Toy.
  """
  _check_counts(num_arms=num_arms)
  check_scales(radius=radius, radial_std=radial_std, tangential_std=tangential_std)
  arms = 2 * np.pi * np.arange(num_arms, dtype=np.float32) / num_arms
  mean = np.array([radius, 0], np.float32)
  std = np.array([radial_std, tangential_std], np.float32)

  def sample(key, num):
    arm_key, noise_key = jax.random.split(key)
    arm = jax.random.choice(arm_key, jnp.asarray(arms), (num,))
    y = mean + std * jax.random.normal(noise_key, (num, 2))
    return _rotate(y, arm + twist * jnp.linalg.norm(y, axis=-1))

  def log_prob(x):
    _check_points(x, 2)
    r = jnp.sqrt(jnp.maximum((x**2).sum(-1), 1e-24))  # finite gradient at zero
    y = _rotate(x[:, None], -arms - twist * r[:, None])
    log_arm = _normal_log_prob(y, mean, std).sum(-1)
    return jax.nn.logsumexp(log_arm, -1) - math.log(num_arms)

  return Toy('pinwheel', 2, sample, log_prob)


def funnel(*, dim: int = 10, std: float = 3.0) -> Toy:
  """Neal's funnel: v = x_1 ~ N(0, std^2) and the others N(0, e^v) given v.

  Source: Slice Sampling, Neal, 2003, arXiv:physics/0009028, section 8.

  Args:
    dim: D, with v.
    std: of v.

  Returns:
    A Toy.
  """

  _check_counts(dim=dim)
  check_scales(std=std)

  def sample(key, num):
    noise = jax.random.normal(key, (num, dim))
    v = std * noise[:, :1]
    return jnp.concatenate([v, jnp.exp(v / 2) * noise[:, 1:]], -1)

  def log_prob(x):
    _check_points(x, dim)
    v, rest = x[:, :1], x[:, 1:]
    log_rest = -0.5 * (rest**2 * jnp.exp(-v) + v + math.log(2 * math.pi))
    return _normal_log_prob(v[:, 0], 0.0, std) + log_rest.sum(-1)

  return Toy('funnel', dim, sample, log_prob)


TOYS: Mapping[str, Callable[..., Toy]] = {
  'ring': ring,
  'grid': grid,
  'concentric_rings': concentric_rings,
  'moons': moons,
  'swiss_roll': swiss_roll,
  'checkerboard': checkerboard,
  'pinwheel': pinwheel,
  'funnel': funnel,
}


def dataset(toy: Toy) -> dataset_lib.Dataset:
  """Makes an endless Dataset: batch number n is of a key of (seed, split, n).

  `arrays` draws from keys of its own, always the same, and needs a `num`; fewer
  examples are the first of more.
  """

  def stream(seed, split, offset=0):
    if split not in SPLITS:
      raise ValueError(f'{toy.name} has no split {split!r}: one of {SPLITS}')
    return jax.random.fold_in(jax.random.key(seed), offset + SPLITS.index(split))

  @functools.partial(jax.jit, static_argnames='num')
  def draw(key, positions, num):
    return jax.vmap(lambda n: toy.sample(jax.random.fold_in(key, n), num))(positions)

  def generate(key, batch_size, start, mine):
    ahead = max(1, min(AHEAD, BLOCK // (batch_size * toy.dim)))
    first = start - start % ahead  # blocks are the same wherever a run begins
    while True:
      block = np.asarray(draw(key, first + np.arange(ahead), batch_size))
      yield from ({'x': x[mine]} for x in block[max(start - first, 0) :])
      first += ahead

  def batches(split, batch_size, *, seed, start=0, shard=(0, 1)):
    mine = dataset_lib.part(batch_size, shard)
    return generate(stream(seed, split), batch_size, start, mine)

  def arrays(split, num=None):
    if num is None:
      raise ValueError(f'{toy.name} is endless: say how many examples (num)')
    key = stream(0, split, offset=len(SPLITS))
    blocks = draw(key, np.arange(-(-num // 1024)), 1024)
    return {'x': np.asarray(blocks).reshape(-1, toy.dim)[:num]}

  transform = transforms.identity()
  spec = base.DataSpec((toy.dim,), jnp.float32, None, None, None, transform)
  fingerprint = dataset_lib.checksum(toy.name, toy.dim, toy.std)
  return dataset_lib.Dataset(toy.name, spec, batches, arrays, fingerprint=fingerprint)
