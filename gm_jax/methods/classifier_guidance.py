"""Classifier guidance: an unconditional denoiser, and a classifier of noisy data.

  score of p(x_t) p(c | x_t)^w  =  score(x_t) + w grad log p(c | x_t)

The classifier learns log p(c | x_t) at every noise level beside the denoiser; neither
moves the other. Conditional samples need no conditional denoiser, and w = 1 is exact
where both are.

Source: Diffusion Models Beat GANs on Image Synthesis, Dhariwal and Nichol, 2021,
arXiv:2105.05233, section 4.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import (
  base,
  conditions,
  denoisers,
  diffusion,
  gradient,
  imputation,
  processes,
  times,
)  # fmt: skip
from gm_jax.samplers import diffusion as samplers

SAMPLERS = {'heun': samplers.heun, **diffusion.SAMPLERS}
CARD = diffusion.CARD._replace(
  density='none', density_cost='none', measure='none', condition=('label',)
)


def classifier_guidance(
  network: nn.Module,
  classifier: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  num_classes: int,
  data_std: float,
) -> base.Method:
  """An EDM that a classifier of noisy data leads to a class.

  Args:
    network: F, (x `[B, *shape]`, ln sigma / 4 `[B]`, None, train) -> as x.
    classifier: (x `[B, *shape]`, ln sigma / 4 `[B]`, None, train) -> logits `[B, C]`.
    tx: the optimizer of both.
    shape: of an example.
    num_classes: C.
    data_std: root mean square about 0 of the training set's numbers.

  Returns:
    The method. Options of sampling: `num_steps`, `sampler`, `guidance`, the weight w of
    the classifier, and `low` and `high`, the ratios sigma / alpha between which it has
    a say. Without a condition samples are of all classes.

  Raises:
    ValueError: when called, data of another shape, or without classes.
  """
  process = processes.edm()
  parts = diffusion.Denoising(
    network, process, denoisers.edm(data_std), shape, times.karras(process),
    samplers=SAMPLERS,
  )  # fmt: skip
  condition = conditions.by_class(num_classes)
  draw = times.log_normal(process)

  def init(key, batch):
    params, extra = diffusion.init(parts)(key, batch)
    x = batch['x'][:2]
    variables = classifier.init(key, x, jnp.zeros(len(x), x.dtype), None)
    return {**params, 'classifier': variables['params']}, extra

  def log_probs(params, x_t, t, key=None):
    """Log-probabilities `[B, C]` of the classes of x_t."""
    logits = classifier.apply(
      {'params': params['classifier']},
      processes.along(parts.form.scale(process, t), x_t) * x_t,
      parts.form.read(process, t), None,
      train=key is not None, rngs={} if key is None else {'dropout': key},
    )  # fmt: skip
    return jax.nn.log_softmax(logits)

  def loss_fn(params, extra, key, batch):
    t_key, noise_key, own, key = jax.random.split(key, 4)
    x, label = batch['x'], conditions.from_batch(condition, batch)
    t = draw(t_key, len(x))
    error = diffusion.errors(parts, params, key, batch, t).mean()
    x_t = processes.noised(process, x, jax.random.normal(noise_key, x.shape), t)
    logs = log_probs(params, x_t, t, own)
    entropy = -jnp.take_along_axis(logs, label[:, None].astype(int), axis=1).mean()
    right = jnp.mean(logs.argmax(axis=1) == label)
    metrics = {'error': error, 'cross_entropy': entropy, 'accuracy': right}
    return error + entropy, (extra, metrics)

  def denoiser(model, num, condition, guidance=1.0, low=0.0, high=math.inf):
    denoise = diffusion.denoiser(parts, model, num)
    if condition is None:
      return denoise
    conditions.check_num(condition, num)
    label = jnp.asarray(condition, jnp.int32)

    def of_classes(x_t, t):
      logs = log_probs(model.params, x_t, t)
      return jnp.take_along_axis(logs, label[:, None], axis=1).sum()

    gradient_of = jax.grad(of_classes)
    return denoisers.classifier_guided(
      denoise, gradient_of, guidance, process, (low, high)
    )

  def sample(
    model, key, num, *, condition=None, num_steps=18, sampler='heun', guidance=1.0,
    low=0.0, high=math.inf,
  ):  # fmt: skip
    denoise = denoiser(model, num, condition, guidance, low, high)
    return diffusion.run_sampler(parts, denoise, key, num, sampler, num_steps)

  def score(model, key, x, t, *, condition=None):
    del key
    denoised = denoiser(model, len(x), condition)(diffusion.checked(parts, x), t)
    return denoisers.score(process, denoised, x, t)

  def classify(model, key, x, *, condition=None):
    del key, condition
    t = jnp.full(len(x), process.first, x.dtype)
    return log_probs(model.params, diffusion.checked(parts, x), t)

  def completing(model, num, condition, weight, weak, low, high):
    if weak != 'unconditional':
      raise ValueError(f'a classifier guides from no weaker model: weak = {weak!r}')
    return denoiser(model, num, condition, weight, low, high)

  impute = imputation.query(process, parts.grid, shape, completing, num_steps=18)
  return gradient.from_loss(
    loss_fn, tx, init, card=CARD, sample=sample,
    queries={'score': score, 'classify': classify, 'impute': impute},
  )  # fmt: skip
