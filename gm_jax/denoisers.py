"""Networks read as denoisers, whatever they predict, and denoisers guided by others.

  x_t = alpha x + sigma e          (`processes`)
  D(x_t, t) = skip x_t + out F(scale x_t, read)  ~  E[x | x_t]

F is a network. Noise, data, velocities and scores are linear in x and e, so that each
is a choice of `skip` and `out`, and one formula turns any of them into the data, and
the data into any other. A denoiser is a function (x_t `[B, ...]`, t `[B]`) ->
`[B, ...]`.

Source: Elucidating the Design Space of Diffusion-Based Generative Models, Karras et
al., 2022, arXiv:2206.00364; Progressive Distillation for Fast Sampling of Diffusion
Models, Salimans and Ho, 2022, arXiv:2202.00512, appendix D.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from gm_jax import base, conditions, processes

Array = base.Array
Process = processes.Process
Denoiser = Callable[[Array, Array], Array]
Coefficient = Callable[[Process, Array], Array]  # (process, t [B]) -> [B]


class Parameterization(NamedTuple):
  """How a network's output is read, see the formula above."""

  skip: Coefficient
  out: Coefficient
  scale: Coefficient
  read: Coefficient  # the number that the network is given as its time


def by_time(process: Process, t: Array) -> Array:
  """Returns 1000 t / last, `[B]`, what networks of 1,000 steps are given."""
  return 1000.0 * t / process.last


def by_noise(process: Process, t: Array) -> Array:
  """Returns ln(sigma / alpha) / 4, `[B]`, the quarter of Karras et al., table 1."""
  return -0.125 * process.log_snr(t)


def _ones(process: Process, t: Array) -> Array:
  del process
  return jnp.ones_like(t)


def _linear(coefficients: Callable[[Process, Array], tuple]) -> Parameterization:
  """F ~ a x + b e, where the coefficients are (process, t) -> (a, b)."""

  def parts(process, t):
    a, b = coefficients(process, t)
    sigma = process.sigma(t)
    whole = a * sigma - b * process.alpha(t)
    return -b / whole, sigma / whole

  return Parameterization(
    lambda process, t: parts(process, t)[0],
    lambda process, t: parts(process, t)[1],
    _ones,
    by_time,
  )


def _velocity(process, t):
  return -process.sigma(t), process.alpha(t)


def _score(process, t):
  return jnp.zeros_like(t), -1.0 / process.sigma(t)


NOISE = _linear(lambda process, t: (jnp.zeros_like(t), jnp.ones_like(t)))
DATA = Parameterization(lambda process, t: jnp.zeros_like(t), _ones, _ones, by_time)
VELOCITY = _linear(_velocity)  # alpha e - sigma x
SCORE = _linear(_score)
FLOW = _linear(processes.rates)  # dx_t / dt = alpha' x + sigma' e


def edm(data_std: float) -> Parameterization:
  """Returns the preconditioning whose inputs and targets have variance 1.

    skip = alpha d^2 / v,   out = sigma d / sqrt(v),   scale = 1 / sqrt(v),
    v = alpha^2 d^2 + sigma^2

  Source: Karras et al., 2022, arXiv:2206.00364, table 1, where alpha is 1.

  Args:
    data_std: d, the root mean square about 0 of the training set's numbers, to be
      measured: 0.5 is right for natural images alone.

  Raises:
    ValueError: `data_std` is not above 0.
  """
  if not data_std > 0:
    raise ValueError(f'data_std must be > 0, got {data_std}')

  def variance(process, t):
    return (process.alpha(t) * data_std) ** 2 + process.sigma(t) ** 2

  return Parameterization(
    lambda process, t: process.alpha(t) * data_std**2 / variance(process, t),
    lambda process, t: process.sigma(t) * data_std / jnp.sqrt(variance(process, t)),
    lambda process, t: 1.0 / jnp.sqrt(variance(process, t)),
    by_noise,
  )


def data(
  form: Parameterization, process: Process, output: Array, x_t: Array, t: Array
) -> Array:
  """Returns D(x_t, t) `[B, ...]` of a network's output.

  Args:
    form: how the output is read.
    process: of x_t.
    output: `[B, ...]` F.
    x_t: `[B, ...]` noisy data.
    t: `[B]` times.
  """
  skip, out = (processes.along(f(process, t), x_t) for f in (form.skip, form.out))
  return skip * x_t + out * output


def target(
  form: Parameterization, process: Process, x: Array, noise: Array, t: Array
) -> Array:
  """Returns what F is trained to be `[B, ...]`: D is x where F is this.

  Args:
    form: how the output is read.
    process: of x_t.
    x: `[B, ...]` data.
    noise: `[B, ...]` e.
    t: `[B]` times.
  """
  skip, out = form.skip(process, t), form.out(process, t)
  # Of x and e apart: from x_t the noise would come with a loss of digits.
  of_data = (1 - skip * process.alpha(t)) / out
  of_noise = -skip * process.sigma(t) / out
  return processes.along(of_data, x) * x + processes.along(of_noise, x) * noise


def denoiser(
  network: Callable[[Array, Array], Array], process: Process, form: Parameterization
) -> Denoiser:
  """Returns the denoiser of a network.

  Args:
    network: (scaled x_t `[B, ...]`, the number read `[B]`) -> F `[B, ...]`.
    process: of x_t.
    form: how the output is read.
  """

  def denoise(x_t, t):
    scale = processes.along(form.scale(process, t), x_t)
    return data(form, process, network(scale * x_t, form.read(process, t)), x_t, t)

  return denoise


def noise(process: Process, denoised: Array, x_t: Array, t: Array) -> Array:
  """Returns E[e | x_t] `[B, ...]` of D(x_t, t).

  Args:
    process: of x_t.
    denoised: `[B, ...]` D(x_t, t).
    x_t: `[B, ...]`.
    t: `[B]` or `[]` times, sigma(t) > 0.
  """
  alpha, sigma = (processes.along(f(t), x_t) for f in (process.alpha, process.sigma))
  return (x_t - alpha * denoised) / sigma


def score(process: Process, denoised: Array, x_t: Array, t: Array) -> Array:
  """Returns the gradient of log p_t(x_t) `[B, ...]`, -E[e | x_t] / sigma.

  Args:
    process: of x_t.
    denoised: `[B, ...]` D(x_t, t).
    x_t: `[B, ...]`.
    t: `[B]` or `[]` times, sigma(t) > 0.
  """
  sigma = processes.along(process.sigma(t), x_t)
  return -noise(process, denoised, x_t, t) / sigma


def flow(process: Process, denoised: Array, x_t: Array, t: Array) -> Array:
  """Returns dx_t / dt `[B, ...]` of the probability flow, alpha' D + sigma' E[e | x_t].

  Args:
    process: of x_t.
    denoised: `[B, ...]` D(x_t, t).
    x_t: `[B, ...]`.
    t: `[B]` or `[]` times, sigma(t) > 0.
  """
  alpha_rate, sigma_rate = (
    processes.along(r, x_t) for r in processes.rates(process, t)
  )
  return alpha_rate * denoised + sigma_rate * noise(process, denoised, x_t, t)


def guided(
  strong: Denoiser,
  weak: Denoiser,
  weight: float,
  process: Process,
  interval: tuple[float, float] | None = None,
) -> Denoiser:
  """Returns a denoiser that goes further from a weak one.

  D = D_weak + w (D_strong - D_weak). Of a weak one without the condition this is
  classifier-free guidance, of a smaller or less trained one autoguidance.

  Source: Classifier-Free Diffusion Guidance, Ho and Salimans, 2022, arXiv:2207.12598;
  Guiding a Diffusion Model with a Bad Version of Itself, Karras et al., 2024,
  arXiv:2406.02507; Applying Guidance in a Limited Interval, Kynkaanniemi et al., 2024,
  arXiv:2404.07724.

  Args:
    strong: the model.
    weak: what it is guided away from.
    weight: w; 1 is the strong one alone.
    process: of x_t.
    interval: ratios sigma / alpha, low and high, between which there is guidance;
      None is everywhere.
  """

  def denoise(x_t, t):
    plain = strong(x_t, t)
    found = conditions.guided(plain, weak(x_t, t), weight)
    return _within(interval, process, t, found, plain)

  return denoise


def _within(interval, process, t, inside, outside) -> Array:
  """Returns one or the other `[B, ...]`, by whether sigma / alpha is inside."""
  if interval is None:
    return inside
  ratio = jnp.exp(-0.5 * process.log_snr(t))
  chosen = (ratio >= interval[0]) & (ratio <= interval[1])
  return jnp.where(chosen.reshape(-1, *(1,) * (inside.ndim - 1)), inside, outside)


def bounded(denoise: Denoiser, bound: float) -> Denoiser:
  """Returns a denoiser whose data are cut to [-bound, bound].

  Where nothing of the data is left, data that are told by their noise are off by
  sigma / alpha times its error.

  Args:
    denoise: the model.
    bound: > 0, in the unit of the data.
  """
  return lambda x_t, t: jnp.clip(denoise(x_t, t), -bound, bound)


def classifier_guided(
  denoise: Denoiser,
  log_prob_gradient: Callable,
  weight: float,
  process: Process,
  interval: tuple[float, float] | None = None,
) -> Denoiser:
  """Returns a denoiser moved along the gradient of a classifier of noisy data.

  D + w sigma^2 / alpha grad log p(c | x_t): the score is then that of p(x) p(c | x)^w.

  Source: Diffusion Models Beat GANs on Image Synthesis, Dhariwal and Nichol, 2021,
  arXiv:2105.05233.

  Args:
    denoise: the model.
    log_prob_gradient: (x_t, t) -> `[B, ...]`.
    weight: w.
    process: of x_t, alpha(t) > 0.
    interval: as of `guided`.
  """

  def guided_denoise(x_t, t):
    factor = processes.along(process.sigma(t) ** 2 / process.alpha(t), x_t)
    plain = denoise(x_t, t)
    found = plain + weight * factor * log_prob_gradient(x_t, t)
    return _within(interval, process, t, found, plain)

  return guided_denoise
