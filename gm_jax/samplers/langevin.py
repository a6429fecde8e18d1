"""Langevin dynamics: chains that follow a gradient, with noise.

  x' = x + s grad log p(x) + n xi,   xi ~ N(0, I)

With n = sqrt(2 s) it is Euler's step of the diffusion that leaves p invariant. With a
noise scale of its own it has a temperature,

  T = n^2 / (2 s),

and leaves p^(1/T) invariant as s goes to 0, not p: chains of energy-based models with
s = 1 and n = 0.01 have T = 5e-5, those with s = 10 and n = 0.005 have T = 1.25e-6, and
nearly climb. At a finite step it is another density still: of N(m, v) to the power 1/T,
of variance T v, chains have the variance T v / (1 - s / (2 v)), and none from s = 2 v.
Where log p falls faster than a square, chains may run off at any step. `mala` decides
by Metropolis and has p itself at any step.

A step here multiplies the gradient. It is half of the papers' epsilon, and h^2 / 2 of
the step h of `mcmc.hmc`. Signatures and what NaN does are those of `mcmc`.

Source: Riemann manifold Langevin and Hamiltonian Monte Carlo methods, Girolami and
Calderhead, 2011, JRSS B 73(2); Your Classifier is Secretly an Energy Based Model and
You Should Treat it Like One, Grathwohl et al., 2020, arXiv:1912.03263, whose s is 1.

  >>> import jax, jax.numpy as jnp
  >>> from gm_jax.samplers import langevin
  >>> print(f'{langevin.implied_temperature(step_size=1.0, noise_scale=0.01):.0e}')
  5e-05
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gm_jax.samplers import mcmc

Array = jax.Array
Score = Callable[[Array, Array], Array]  # (x [N, ...], sigma [N]) -> [N, ...]


def implied_temperature(
  *, step_size: Array | float, noise_scale: Array | float
) -> Array:
  """The temperature of chains with a noise scale apart from the step.

  T = n^2 / (2 s)

  Args:
    step_size: `[]` or `[N]` s.
    noise_scale: `[]` or `[N]` n.

  Returns:
    T; chains leave p^(1/T) invariant, as s goes to 0.

  Raises:
    ValueError: a step size <= 0.
  """
  mcmc.check_step_size(step_size)
  return noise_scale**2 / (2.0 * step_size)


def langevin(
  log_prob: mcmc.LogProb,
  key: Array,
  position: Array,
  *,
  step_size: Array | float,
  temperature: Array | float | None = None,
  noise_scale: Array | float | None = None,
) -> tuple[Array, mcmc.Info]:
  """One step of unadjusted Langevin dynamics, of every chain.

  x' = x + s grad log p(x) + n xi

  No density decides: a step is taken unless it is not finite. It leaves p^(1/T), with
  T = n^2 / (2 s), invariant up to O(s); see the module.

  Args:
    log_prob: `[N, ...]` -> `[N]` nats up to a constant, differentiable.
    key: `[]` typed key.
    position: `[N, ...]` x.
    step_size: `[]` or `[N]` s > 0.
    temperature: `[]` or `[N]` T >= 0, which is n = sqrt(2 s T); None is 1.
    noise_scale: `[]` or `[N]` n, in the unit of x, instead of a temperature.

  Returns:
    `[N, ...]` position, and `[N]` each of `mcmc.Info`: the acceptance is 1, and 0 where
    the step was not finite; under jit the density after costs nothing if it is unused.

  Raises:
    ValueError: a step size <= 0, a temperature and a noise scale, or a log_prob that
      does not return [N].
  """
  mcmc.check_step_size(step_size)
  if noise_scale is None:
    scale = _noise_scale(step_size, 1.0 if temperature is None else temperature)
  elif temperature is None:
    scale = noise_scale
  else:
    raise ValueError('give a temperature or a noise_scale, got both')
  _, gradient = mcmc.value_and_gradient(log_prob, position)
  position, finite = _step(key, position, gradient, step_size, scale)
  acceptance = finite.astype(position.dtype)
  return position, mcmc.Info(acceptance, finite, log_prob(position))


def mala(
  log_prob: mcmc.LogProb, key: Array, position: Array, *, step_size: Array | float
) -> tuple[Array, mcmc.Info]:
  """One transition of the Metropolis-adjusted Langevin algorithm, of every chain.

  x' ~ q(. | x) = N(x + s grad log p(x), 2 s I),  accepted with probability

  min(1, p(x') q(x | x') / (p(x) q(x' | x)))

  This is Hamiltonian Monte Carlo of one leapfrog step h = sqrt(2 s).

  Source: Exponential convergence of Langevin distributions and their discrete
  approximations, Roberts and Tweedie, 1996, Bernoulli 2(4).

  Args:
    log_prob: `[N, ...]` -> `[N]` nats up to a constant, differentiable; -inf where
      there is no density.
    key: `[]` typed key.
    position: `[N, ...]` x.
    step_size: `[]` or `[N]` s > 0. An acceptance of about 0.57 mixes best in high
      dimensions.

  Returns:
    `[N, ...]` position, and `[N]` each of `mcmc.Info`.

  Raises:
    ValueError: a step size <= 0, or a log_prob that does not return [N].
  """
  mcmc.check_step_size(step_size)
  h = jnp.sqrt(2.0 * jnp.asarray(step_size))
  return mcmc.hmc(log_prob, key, position, step_size=h, num_leapfrog=1)


def annealed(
  score: Score,
  key: Array,
  position: Array,
  *,
  sigmas: Array,
  step_size: float = 1e-5,
  num_steps: int = 100,
  temperature: float = 1.0,
) -> tuple[Array, mcmc.Info]:
  """Annealed Langevin dynamics: down a sequence of noise levels.

  x <- x + s_l score(x, sigma_l) + sqrt(2 s_l T) xi,   s_l = s (sigma_l / sigma_L)^2

  `num_steps` of them at each level, from the first to the last: the noise of a step
  stays the same part of the data's. Nothing is denoised at the end.

  Source: Generative Modeling by Estimating Gradients of the Data Distribution, Song and
  Ermon, 2019, arXiv:1907.05600, algorithm 1, whose epsilon is 2 s.

  Args:
    score: (x `[N, ...]`, sigma `[N]`) -> `[N, ...]`, the gradient of the log-density of
      data with noise of deviation sigma.
    key: `[]` typed key.
    position: `[N, ...]` x, to begin with.
    sigmas: `[L]` > 0, in the unit of x, from the largest down.
    step_size: s > 0 of the last level.
    num_steps: of each level.
    temperature: T >= 0; at 0 chains climb.

  Returns:
    `[N, ...]` position, and `mcmc.Info` `[N]`: the acceptance is the fraction of steps
    that were finite, for others are not taken; log_prob is None.

  Raises:
    ValueError: a step size <= 0, `num_steps` below 1, levels that are not `[L]`, or a
      score of another shape.
  """
  mcmc.check_step_size(step_size)
  sigmas = jnp.asarray(sigmas, position.dtype)
  if sigmas.ndim != 1 or not len(sigmas):
    raise ValueError(f'sigmas must be levels [L], got {sigmas.shape}')
  if num_steps < 1:
    raise ValueError(f'num_steps must be >= 1, got {num_steps}')

  def step(position, inputs):
    sigma, key = inputs
    gradient = score(position, jnp.full(len(position), sigma))
    if gradient.shape != position.shape:
      raise ValueError(
        f'score must be as the position, {position.shape}, got {gradient.shape}'
      )
    size = step_size * jnp.square(sigma / sigmas[-1])
    scale = _noise_scale(size, temperature)
    return _step(key, position, gradient, size, scale)

  levels = sigmas.repeat(num_steps)
  keys = jax.random.split(key, len(levels))
  position, finite = jax.lax.scan(step, position, (levels, keys))
  acceptance = finite.astype(position.dtype).mean(axis=0)
  return position, mcmc.Info(acceptance, finite.any(axis=0), None)


def _noise_scale(step_size, temperature):
  return jnp.sqrt(2.0 * jnp.asarray(step_size) * temperature)


def _step(key, position, gradient, step_size, noise_scale):
  """The position `[N, ...]` after a step, and whether the step was finite `[N]`."""
  size, scale = (mcmc.per_chain(v, position) for v in (step_size, noise_scale))
  noise = jax.random.normal(key, position.shape, position.dtype)
  proposal = position + size * gradient + scale * noise
  finite = jnp.isfinite(proposal).reshape(len(proposal), -1).all(axis=1)
  return jnp.where(mcmc.per_chain(finite, position), proposal, position), finite
