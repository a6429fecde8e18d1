"""Variational inference where everything is known, and what an encoder loses by it.

On the two models of `gm_jax.variational_inference`: the evidence is its
bound and a divergence; what a mean field costs by the latents' correlation; the same of
documents by the concentration of their topics; and the gap of a bound by an encoder,
split in what its family of q loses and what the encoder itself does. The last also of
a variational auto-encoder on digits, by draws.

Source: Inference Suboptimality in Variational Autoencoders, Cremer et al., 2018,
arXiv:1801.03558.
"""

import functools
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import quiet
from experiments.configs import vae_digits
from experiments.configs.parts import variational
from gm_jax import amortized, gradient, latent_priors, players, statistics
from gm_jax.data import dataset, registry
from gm_jax.metrics import importance
from gm_jax.models import mlp
from gm_jax.training import plots, report
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib
from gm_jax.variational_inference import amortization, linear_gaussian, topics

NUM = 500  # examples of each table
CORRELATIONS = (0.0, 0.5, 0.9, 0.99)
SWEEPS, CLOSE = 2000, 1e-3  # nats from the fixed point that count as there
CONCENTRATIONS = (0.1, 1.0, 10.0)
TOPICS, WORDS, LENGTH = 3, 10, 8
DIMS, LATENTS, STD = 8, 4, 0.5
STEPS, BATCH, RATE = 3000, 128, 1e-2  # of an encoder
ASCENT = 1000  # steps of the ascent of each example
IDENTITY_HEADER = ('model', 'q', 'log p(x)', 'ELBO', 'KL', 'largest error')
CORRELATION_HEADER = (
  'correlation',
  'gap',
  '-ln(1 - r^2) / 2',
  'std, of exact',
  'sweeps',
)
TOPICS_HEADER = ('alpha', 'log p(x)', 'ELBO', 'gap', 'sweeps')
VAE_STEPS, VAE_NUM, VAE_ASCENT, IMPORTANCE_DRAWS = (500, 2000, 8000), 100, 500, 5000
VAE_HEADER = ('steps', 'split', 'log p(x)', 'ELBO', 'approximation', 'amortization')
GAPS_HEADER = ('encoder', 'family of q', 'approximation', 'amortization', 'in training')


def linear_model(key: jax.Array) -> linear_gaussian.LinearGaussian:
  """A model of random weights."""
  weights = jax.random.normal(key, (DIMS, LATENTS)) / math.sqrt(LATENTS)
  return linear_gaussian.LinearGaussian(weights, jnp.zeros(DIMS), STD)


def draw(model: linear_gaussian.LinearGaussian, key: jax.Array, num: int) -> jax.Array:
  """[num, D] of the model."""
  z_key, x_key = jax.random.split(key)
  dims, latents = model.weights.shape
  mean = jax.random.normal(z_key, (num, latents)) @ model.weights.T + model.bias
  return mean + model.std * jax.random.normal(x_key, (num, dims))


def correlated(correlation: float) -> linear_gaussian.LinearGaussian:
  """A model of two latents that have this correlation given x, whatever x is."""
  precision = (
    2.0 / (1.0 - correlation) * jnp.array([[1.0, -correlation], [-correlation, 1.0]])
  )
  weights = jnp.linalg.cholesky(precision - jnp.eye(2)).T
  return linear_gaussian.LinearGaussian(weights, jnp.zeros(2), 1.0)


def topic_model(key: jax.Array, alpha: float) -> topics.TopicModel:
  """Topics over words, drawn uniformly, all as likely."""
  emission = jax.random.dirichlet(key, jnp.ones(WORDS), (TOPICS,))
  return topics.TopicModel(jnp.full(TOPICS, alpha), emission)


def documents(model: topics.TopicModel, key: jax.Array, num: int) -> jax.Array:
  """[num, LENGTH] words of the model."""
  keys = jax.random.split(key, 3)
  theta = jax.random.dirichlet(keys[0], model.concentration, (num,))
  z = jax.random.categorical(keys[1], jnp.log(theta)[:, None], shape=(num, LENGTH))
  return jax.random.categorical(keys[2], jnp.log(model.emission)[z])


def sweeps_needed(elbos: Any) -> int:
  """Sweeps until all examples [.., B] are near their last bound."""
  far = (np.asarray(elbos)[-1] - np.asarray(elbos) > CLOSE).any(axis=1)
  return int(far.sum())  # a bound that never falls is far first


def identity() -> list[list[str]]:
  """A row a model and q: both sides of the identity, in float64."""
  key = jax.random.key(0)
  linear, topic = linear_model(key), topic_model(key, 1.0)
  x, words = draw(linear, key, NUM), documents(topic, key, NUM)
  field, _ = jax.jit(functools.partial(topics.ascent, num_sweeps=100))(topic, words)
  prior = linear_gaussian.Gaussian(jnp.zeros((NUM, LATENTS)), jnp.eye(LATENTS))
  even = topics.MeanField(
    jnp.ones((NUM, TOPICS)), jnp.full((NUM, LENGTH, TOPICS), 1.0 / TOPICS)
  )

  @jax.jit
  def of_linear(q):
    gap = linear_gaussian.kl(q, linear_gaussian.posterior(linear, x))
    return linear_gaussian.evidence(linear, x), linear_gaussian.elbo(linear, q, x), gap

  @jax.jit
  def of_topics(q):
    bound = topics.elbo(topic, q, words)
    return topics.evidence(topic, words), bound, topics.kl(topic, q, words)

  best = linear_gaussian.mean_field(linear, x)
  rows = [
    ('linear-Gaussian', 'the prior', *of_linear(prior)),
    ('linear-Gaussian', 'mean field', *of_linear(best)),
    ('topics', 'even', *of_topics(even)),
    ('topics', 'mean field', *of_topics(field)),
  ]
  return [
    [model, q, *(f'{v.mean():.6f}' for v in numbers), f'{_error(*numbers):.0e}']
    for model, q, *numbers in rows
  ]


def _error(evidence, bound, gap) -> float:
  return float(jnp.abs(evidence - bound - gap).max())


def by_correlation() -> list[list[str]]:
  """A row a correlation of two latents given x, in float64."""
  rows = []
  for correlation in CORRELATIONS:
    model = correlated(correlation)
    x = draw(model, jax.random.key(1), NUM)
    ascend = jax.jit(functools.partial(linear_gaussian.ascent, num_sweeps=SWEEPS))
    q, elbos = ascend(model, x)
    exact = linear_gaussian.posterior(model, x).scale
    gap = float((linear_gaussian.evidence(model, x) - elbos[-1]).mean())
    ratio = float(q.scale[0, 0] / jnp.linalg.norm(exact[0]))
    expected = -math.log1p(-(correlation**2)) / 2
    rows.append([
      f'{correlation:g}', f'{gap:.4f}', f'{expected:.4f}', f'{ratio:.3f}',
      str(sweeps_needed(elbos)),
    ])  # fmt: skip
  return rows


def by_concentration() -> list[list[str]]:
  """A row a concentration of the topics of a document, in float64."""
  rows, key = [], jax.random.key(2)
  for alpha in CONCENTRATIONS:
    model = topic_model(key, alpha)
    x = documents(model, key, NUM)
    _, elbos = jax.jit(functools.partial(topics.ascent, num_sweeps=SWEEPS))(model, x)
    evidence = jax.jit(topics.evidence)(model, x)
    gap = statistics.mean_and_error(evidence - elbos[-1])
    rows.append([
      f'{alpha:g}', f'{evidence.mean():.3f}', f'{elbos[-1].mean():.3f}',
      statistics.text(*gap, '.3f'), str(sweeps_needed(elbos)),
    ])  # fmt: skip
  return rows


class Encoder(NamedTuple):
  """An encoder, and what it is held to."""

  name: str
  family: str  # of FAMILIES
  hidden: tuple[int, ...] = ()
  activation: Callable = nn.tanh
  seen: int = DIMS  # numbers of x
  examples: int | None = None  # None: drawn afresh for ever


ENCODERS = (
  Encoder('linear', 'full'),
  Encoder('linear', 'diagonal'),
  Encoder('linear, of half of x', 'diagonal', seen=DIMS // 2),
  Encoder('linear, through 2 numbers', 'diagonal', (2,), lambda x: x),
  Encoder('4 tanh units', 'diagonal', (4,)),
  Encoder('64 tanh units', 'diagonal', (64,)),
  Encoder('64 tanh units, 50 examples', 'diagonal', (64,), examples=50),
)


def _diagonal(outputs):
  mean, log_std = jnp.split(outputs, 2, axis=-1)
  scale = jnp.exp(log_std)[..., None] * jnp.eye(mean.shape[-1])
  return linear_gaussian.Gaussian(mean, scale)


def _full(outputs):
  mean, raw = jnp.split(outputs, [LATENTS], axis=-1)
  raw = raw.reshape(*mean.shape, LATENTS)
  return linear_gaussian.Gaussian(
    mean, jnp.tril(raw, -1) + jnp.exp(raw) * jnp.eye(LATENTS)
  )


# An encoder's outputs, by the family of q, and what they parameterize.
FAMILIES = {
  'diagonal': (2 * LATENTS, _diagonal),
  'full': (LATENTS + LATENTS**2, _full),
}


def closed_elbo(
  model: linear_gaussian.LinearGaussian, family: str
) -> amortization.Elbo:
  """The exact ELBO of outputs [B, P] of an encoder."""
  as_gaussian = FAMILIES[family][1]
  return lambda outputs, key, x: linear_gaussian.elbo(model, as_gaussian(outputs), x)


def encoder_gaps(
  encoder: Encoder, model: linear_gaussian.LinearGaussian, *, steps: int = STEPS
) -> tuple[amortization.Gaps, amortization.Gaps]:
  """Trains an encoder on the mean ELBO; its gaps on held-out and on training x."""
  keys = jax.random.split(jax.random.key(3), 5)
  module = mlp.MLP(
    (*encoder.hidden, FAMILIES[encoder.family][0]),
    encoder.activation,
    # Small at first: a q that is far too narrow or wide for some x is learned slowly.
    nn.initializers.variance_scaling(0.01, 'fan_in', 'truncated_normal'),
  )
  elbo = closed_elbo(model, encoder.family)
  tx = optax.adam(optax.cosine_decay_schedule(RATE, steps))
  seen = slice(encoder.seen)
  params = module.init(keys[0], jnp.zeros((1, encoder.seen)))
  known = draw(model, keys[1], encoder.examples or NUM)

  def loss_fn(params, x):
    return -elbo(module.apply(params, x[:, seen]), None, x).mean(), None

  def step(carry, key):
    fresh = encoder.examples is None
    x = draw(model, key, BATCH) if fresh else known
    return gradient.gradient_step(loss_fn, tx, *carry, x)[:2], None

  @jax.jit
  def fit(params):
    carry = params, tx.init(params)
    return jax.lax.scan(step, carry, jax.random.split(keys[2], steps))[0][0]

  ascent = optax.adam(optax.cosine_decay_schedule(0.05, ASCENT))

  @jax.jit
  def gaps(params, x):
    outputs = module.apply(params, x[:, seen])
    evidence = linear_gaussian.evidence(model, x)
    best, _ = amortization.optimized(
      elbo, outputs, keys[4], x, tx=ascent, num_steps=ASCENT
    )
    return amortization.gaps(elbo, outputs, best, evidence, keys[4], x)

  params = fit(params)
  return gaps(params, draw(model, keys[3], NUM)), gaps(params, known)


def vae_gaps(
  log_likelihood: Callable[[jax.Array, jax.Array], jax.Array],
  encoded: latent_priors.Gaussian,
  key: jax.Array,
  x: jax.Array,
  *,
  num_steps: int = VAE_ASCENT,
  rate: float = 0.02,
) -> tuple[jax.Array, amortization.Gaps]:
  """The gaps of a variational auto-encoder of prior N(0, I), by draws.

  Args:
    log_likelihood: (z [B, Z], x [B, ...]) -> [B] nats, of the trained decoder.
    encoded: the trained encoder's q of x.
    key: of all draws.
    x: [B, ...] in model space.
    num_steps: of the ascent.
    rate: Adam's at first, decayed to 0.

  Returns:
    log p(x) [B], the importance-weighted bound of many draws of q*, and the gaps.
  """
  keys = jax.random.split(key, 3)
  few, many = (
    amortization.monte_carlo_elbo(log_likelihood, num_draws=num) for num in (10, 1000)
  )
  tx = optax.adam(optax.cosine_decay_schedule(rate, num_steps))
  best, _ = amortization.optimized(few, encoded, keys[0], x, tx=tx, num_steps=num_steps)
  standard = latent_priors.Gaussian(jnp.zeros(()), jnp.zeros(()))

  def log_weights(key, num):
    z = best.draw(key, num)
    likelihood = jax.vmap(log_likelihood, (0, None))(z, x)
    return likelihood + standard.log_prob(z) - best.log_prob(z)

  log_prob, _ = importance.importance_bound(log_weights, keys[1], IMPORTANCE_DRAWS)
  return log_prob, amortization.gaps(many, encoded, best, log_prob, keys[2], x)


def trained_vae(steps: int) -> Callable:
  """The VAE of vae_digits.py after some steps: (key, x) -> as of `vae_gaps`."""
  config = vae_digits.get_config()
  config.steps = steps
  config.best = ''
  for name in ('evaluate', 'sample', 'checkpoint'):
    config[f'{name}_every'] = 0
  config.log_every = config.steps_per_dispatch
  setup = setup_lib.prepare(vae_digits, config)
  model = step_lib.model(quiet.train_config(setup).state)
  (phase,) = setup.make_phases(0)
  net = variational.networks(config, phase.spec)

  def log_likelihood(z, x):
    parameters = players.apply_trained(net.decoder, amortized.DECODER, model, z)
    return net.observation.log_prob(parameters, x)

  def gaps(key, x):
    encoded = phase.method.queries['posterior'](model, key, x)
    return vae_gaps(log_likelihood, encoded, key, x)

  return jax.jit(gaps)


def of_vaes() -> list[list[str]]:
  """A row a number of steps and split of the digits."""
  data, rows = registry.load('digits?transform=levels'), []
  for steps in VAE_STEPS:
    gaps = trained_vae(steps)
    for split in ('train', 'test'):
      x = dataset.transformed(data.spec, data.arrays(split, VAE_NUM))['x']
      log_prob, found = gaps(jax.random.key(4), x)
      numbers = log_prob, log_prob - sum(found), *found
      texts = [statistics.text(*statistics.mean_and_error(n), '.2f') for n in numbers]
      rows.append([f'{steps:,}', split, *texts])
  return rows


def gap_cells(
  name: str, family: str, held: amortization.Gaps, train: amortization.Gaps | None
) -> list[str]:
  """A row of gaps, mean +- standard error over examples."""
  cells = [statistics.text(*statistics.mean_and_error(g), 'z.4f') for g in held]
  trained = '' if train is None else f'{train.amortization.mean():z.4f}'
  return [name, family, *cells, trained]


def _draw_ascent(path: pathlib.Path) -> None:
  """The exact posterior, the mean field in it, and the way of the means to it."""
  model, x = correlated(0.9), jnp.array([[1.0, 3.0]])
  exact = linear_gaussian.posterior(model, x)
  field = linear_gaussian.mean_field(model, x)
  angle = jnp.linspace(0.0, 2.0 * jnp.pi, 200)
  circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
  drawn = {
    f'{name}, {size:g} std': (q.mean[0] + size * circle @ q.scale.T).T
    for name, q in (('posterior', exact), ('mean field', field))
    for size in (1, 2)
  }
  ends = [
    linear_gaussian.ascent(model, x, num_sweeps=n)[0].mean[0] for n in range(1, 15)
  ]
  way = [np.zeros(2)]
  for end in map(np.asarray, ends):  # one latent, then the other
    way += [np.array([end[0], way[-1][1]]), end]
  drawn['coordinate ascent'] = np.array(way).T
  plots.curves(path, drawn, xlabel='z_1', ylabel='z_2')


def run(*, out: pathlib.Path) -> dict[str, Any]:
  """Prints the tables and draws an ascent.

  Args:
    out: folder for the picture.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  began, tables = time.perf_counter(), {}
  with jax.enable_x64(True):
    print(
      f'Means over {NUM} examples of each model, nats, in float64. The last column: the'
      ' largest |log p(x) - ELBO - KL| of them.'
    )
    tables['identity'] = report.Table(IDENTITY_HEADER, identity())
    print(report.text_table(*tables['identity']), '\n')
    print(
      'Two latents of this correlation given x. Gap: log p(x) - ELBO of the mean field.'
      ' std: of the mean field, over the exact one. Sweeps of coordinate ascent from'
      f' the prior until all {NUM} bounds are within {CLOSE:g} nats of their end.'
    )
    tables['correlation'] = report.Table(CORRELATION_HEADER, by_correlation())
    print(report.text_table(*tables['correlation']), '\n')
    print(
      f'{NUM} documents of {LENGTH} words, {TOPICS} topics over {WORDS} words, by the'
      " concentration of a document's topics. +- is over documents."
    )
    tables['topics'] = report.Table(TOPICS_HEADER, by_concentration())
    print(report.text_table(*tables['topics']), '\n')
    _draw_ascent(out / 'variational_inference.png')
  print(
    f'Encoders of a linear-Gaussian model, {LATENTS} latents and {DIMS} numbers,'
    f' trained on the mean ELBO: Adam {RATE:g}, cosine decay to 0, {STEPS:,} steps of'
    f' {BATCH} new x, or of all where there are few. Gaps in nats on {NUM} held-out x,'
    f' +- standard error over them; q* by {ASCENT:,} steps of Adam 0.05 an x, from'
    " the encoder's q. In training: the amortization gap on its training x. One seed,"
    ' float32.'
  )
  model, rows, numbers = linear_model(jax.random.key(0)), [], []
  for encoder in ENCODERS:
    found = encoder_gaps(encoder, model)
    rows.append(gap_cells(encoder.name, encoder.family, *found))
    numbers.append([encoder.name, *(float(g.mean()) for gaps in found for g in gaps)])
  tables['gaps'] = report.Table(GAPS_HEADER, rows)
  print(report.text_table(*tables['gaps']), '\n')
  print(
    f'The VAE of vae_digits.py after some steps, {VAE_NUM} images of each split, nats;'
    f' q* by {VAE_ASCENT} steps of Adam with 10 draws, bounds by 1,000 draws, log p(x)'
    f' the bound of {IMPORTANCE_DRAWS:,} draws of q*; +- over images. One seed.'
  )
  tables['vae'] = report.Table(VAE_HEADER, of_vaes())
  print(report.text_table(*tables['vae']))
  print(f'picture: {out / "variational_inference.png"}')
  seconds = time.perf_counter() - began
  print(f'{seconds:.0f} seconds in all')
  return {'tables': tables, 'gaps': numbers, 'seconds': seconds}
