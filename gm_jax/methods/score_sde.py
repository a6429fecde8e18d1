"""Score-based models in continuous time: the score of data noised by a diffusion.

  dx = f(t) x dt + g(t) dw,   x_t = alpha(t) x + sigma(t) e
  min_s E_t w(t) E |s(x_t, t) + e / sigma(t)|^2

of which the scores grad log p_t are the minimum for every w. With w = sigma^2 noise is
told equally well at all times; with w = g^2 half the integral over time is, up to what
no s changes, the divergence of data from samples of the reverse equation, but for what
the last time has forgotten of them. The process preserves variance, keeps less of it
(sub-VP) or lets it explode (`processes`).

Source: Score-Based Generative Modeling through Stochastic Differential Equations, Song
et al., 2021, arXiv:2011.13456; w = g^2: Maximum Likelihood Training of Score-Based
Diffusion Models, Song et al., 2021, arXiv:2101.09258, theorem 1.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
import optax

from gm_jax import base, conditions, denoisers, diffusion, processes, times
from gm_jax.samplers import diffusion as samplers

Weighting = Callable[[processes.Process, base.Array], base.Array]
# F is the noise, so that the score is -F / sigma; it sees x_t at about unit variance.
SCALED_NOISE = denoisers.NOISE._replace(
  scale=lambda process, t: 1 / jnp.hypot(process.alpha(t), process.sigma(t))
)


def equal(process: processes.Process, t: base.Array) -> base.Array:
  """The weight sigma(t)^2 of errors of the score, `[B]`: 1 of errors of the noise."""
  return process.sigma(t) ** 2


def likelihood(process: processes.Process, t: base.Array) -> base.Array:
  """The weight g(t)^2 of errors of the score, `[B]`, of the bound of the likelihood."""
  return processes.drift_and_diffusion(process, t)[1]


def score_sde(
  network: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  process: processes.Process,
  form: denoisers.Parameterization = SCALED_NOISE,
  weighting: Weighting = equal,
  draw: Callable[[processes.Process], times.Times] = times.uniform,
  num_steps: int = 100,
  num_corrections: int = 1,
  snr: float = 0.16,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """A model of the score at every time.

  Args:
    network: F, (x `[B, *shape]`, 1000 t / last `[B]`, condition, train) -> as x.
    tx: the optimizer.
    shape: of an example.
    process: `processes.variance_preserving`, `sub_variance_preserving`,
      `variance_exploding` or any other.
    form: what F is; the loss is of the score, whatever it is.
    weighting: w, `equal` or `likelihood`.
    draw: of the times, of the process.
    num_steps: the default of sampling; by predictor_corrector the network is evaluated
      N + (N - 1) `num_corrections` times.
    num_corrections: of predictor_corrector, after each step.
    snr: of predictor_corrector. The larger, the longer its Langevin steps; many of them
      have (1 + snr^2) times the variance of x_t.
    condition: of the network, or None; `optional`, it can be guided to.

  Returns:
    The method; queries `score` and `log_prob_estimate`. Options of sampling:
    `num_steps`, `sampler`, predictor_corrector or others, `guidance`.

  Raises:
    ValueError: a process whose signal to noise ratio does not fall, an snr that is not
      above 0; when called, data of another shape.
  """
  if not snr > 0:
    raise ValueError(f'snr must be > 0, got {snr}')
  corrected = functools.partial(
    samplers.predictor_corrector, num_corrections=num_corrections, snr=snr
  )
  others = {**diffusion.SAMPLERS, 'predictor_corrector': corrected}
  parts = diffusion.Denoising(
    network, processes.checked(process), form, shape, times.even(process), condition,
    {'predictor_corrector': corrected, **others},
  )  # fmt: skip

  def weight(t):
    # An error of F is one of the score times alpha out / sigma^2.
    factor = process.alpha(t) * form.out(process, t) / process.sigma(t) ** 2
    return weighting(process, t) * factor**2

  method = diffusion.method(
    parts, tx, draw(process), weight=weight, num_steps=num_steps
  )
  card = method.card._replace(training=('denoising', 'score_matching'))
  return method._replace(card=card)
