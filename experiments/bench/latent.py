"""Variational models, and the measuring of decoders, beside PyTorch.

Each row is one compiled function of ours and the same in eager PyTorch, from the same
parameters: training steps of a VAE, leapfrog steps of Hamiltonian Monte Carlo in a
decoder's latent space, images whose log p(x) is bounded by 5,000 importance draws, and
look-ups of the nearest of 512 codes. A row is a function (where PyTorch runs or None,
repeats, scale) -> dict; `ROWS` lists them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import goals, timing
from gm_jax import amortized, latent_priors, observations
from gm_jax.losses import likelihood, quantization, variational
from gm_jax.methods import vae
from gm_jax.metrics import importance
from gm_jax.models import latent, mlp
from gm_jax.samplers import mcmc

if timing.eager:
  import torch

  from experiments.bench import eager_latent as peers
  from experiments.bench.eager_autoregressive import waiting

LATENT, HIDDEN, PIXELS = 50, 200, 784
NUM_LEAPFROG, STD = 10, 0.1
CODES, CODE_SIZE = 512, 64
STEPS, RATE = 20, 1e-3  # of a VAE in one call, of Adam
AGREEMENT = 1e-3  # relative difference of values that is let pass
COLUMNS = {
  'what': 'name',
  'ours ms': 'ours_ms',
  'best ms': 'ours_ms_best',
  'items': 'item',
  'items / s': 'items_per_s',
  'beside it': 'peer',
  'ms': 'peer_ms',
  'best': 'peer_ms_best',
  'times faster': 'times_faster',
  'difference': 'difference',
  'others, cores': 'others_cores',
}


def decoder(scale: int = 1):
  """The decoder 50-200-200-784 and its parameters."""
  module = mlp.MLP((HIDDEN // scale, HIDDEN // scale, PIXELS // scale))
  return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((2, LATENT)))


def _name(scale: int) -> str:
  return f'decoder {LATENT}-{HIDDEN // scale}-{HIDDEN // scale}-{PIXELS // scale}'


def _tensor(array, where):
  return torch.tensor(np.asarray(array), device=where)


def _per_second(row: dict, item: str, count: int) -> dict:
  """The row with its rate, by the median time."""
  return row | {'item': item, 'items_per_s': 1e3 * count / row['ours_ms']}


def hmc_row(where, repeats: int, scale: int = 1, num: int = 256) -> dict:
  """Transitions of HMC, of many chains, under a decoder with Gaussian noise."""
  module, variables = decoder(scale)
  z_key, x_key, m_key = jax.random.split(jax.random.key(1), 3)
  z = jax.random.normal(z_key, (num, LATENT))
  x = jax.random.uniform(x_key, (num, PIXELS // scale))
  sizes = {'step_size': 0.01, 'num_leapfrog': NUM_LEAPFROG}

  def density(variables, x):
    def log_prob(z):
      prior = variational.gaussian_log_prob_each(0.0, 0.0, z).sum(axis=1)
      return prior + likelihood.gaussian(module.apply(variables, z), STD, x)

    return log_prob

  @jax.jit
  def ours(variables, key, z, x):
    return mcmc.hmc(density(variables, x), key, z, **sizes)

  theirs, more = None, {}
  if where is not None:
    layers = peers.layers(variables['params'], where)
    at, data = _tensor(z, where), _tensor(x, where)
    momentum = jax.random.normal(m_key, z.shape)
    walk = jax.jit(lambda v, z, m, x: mcmc.leapfrog(density(v, x), z, m, **sizes))
    end = walk(variables, z, momentum, x)
    other = peers.leapfrog(layers, at, _tensor(momentum, where), data, STD, **sizes)
    more['difference'] = timing.difference(end, [t.cpu().numpy() for t in other])
    theirs = waiting(lambda: peers.hmc(layers, at, data, STD, **sizes), where)
  key = jax.random.key(2)
  row = timing.beside(
    f'HMC, {_name(scale)}, {num} chains, {NUM_LEAPFROG} leapfrog steps',
    'PyTorch',
    lambda: ours(variables, key, z, x),
    theirs,
    repeats,
    **more,
  )
  return _per_second(row, 'leapfrog steps', num * NUM_LEAPFROG)


def importance_row(
  where, repeats: int, scale: int = 1, batch: int = 20, chunk: int = 50
) -> dict:
  """The importance-weighted bound of binary images, chunk by chunk of draws."""
  num = 5000 // scale
  module, variables = decoder(scale)
  mean_key, x_key, noise_key = jax.random.split(jax.random.key(1), 3)
  mean = jax.random.normal(mean_key, (batch, LATENT))
  log_std = jnp.full_like(mean, -1.0)
  x = jax.random.bernoulli(x_key, 0.3, (batch, PIXELS // scale)).astype(jnp.float32)

  def weigh(variables, noise, x):
    z = mean + jnp.exp(log_std) * noise
    logits = module.apply(variables, z.reshape(-1, LATENT))
    each = jnp.broadcast_to(x, (len(noise), *x.shape)).reshape(-1, x.shape[1])
    log_p = likelihood.bernoulli(logits, each).reshape(noise.shape[:2])
    prior = variational.gaussian_log_prob_each(0.0, 0.0, z).sum(axis=-1)
    log_q = variational.gaussian_log_prob_each(mean, log_std, z).sum(axis=-1)
    return log_p + prior - log_q

  @jax.jit
  def ours(variables, key, x):
    def log_weights(key, num):
      return weigh(variables, jax.random.normal(key, (num, *mean.shape)), x)

    return importance.importance_bound(log_weights, key, num, chunk=chunk)

  theirs, more = None, {}
  if where is not None:
    layers = peers.layers(variables['params'], where)
    parts = [_tensor(a, where) for a in (mean, log_std, x)]
    noise = jax.random.normal(noise_key, (chunk, *mean.shape))
    ours_once = jax.jit(weigh)(variables, noise, x)
    once = peers.log_weights(layers, *parts, _tensor(noise, where))
    more['difference'] = timing.difference([ours_once], [once.cpu().numpy()])
    theirs = waiting(lambda: peers.importance_bound(layers, *parts, num, chunk), where)
  key = jax.random.key(2)
  row = timing.beside(
    f'importance-weighted bound, K = {num:,}, {_name(scale)}, {batch} images',
    'PyTorch',
    lambda: ours(variables, key, x),
    theirs,
    repeats,
    **more,
  )
  return _per_second(row, 'images', batch)


def lookup_row(where, repeats: int, scale: int = 1, num: int = 8192) -> dict:
  """The nearest of 512 codes, of many vectors."""
  num //= scale
  z_key, code_key = jax.random.split(jax.random.key(0))
  z = jax.random.normal(z_key, (num, CODE_SIZE))
  codes = jax.random.normal(code_key, (CODES, CODE_SIZE))
  ours = jax.jit(quantization.nearest)
  theirs, more = None, {}
  if where is not None:
    vectors, table = _tensor(z, where), _tensor(codes, where)
    other = peers.nearest(vectors, table).cpu().numpy()
    more['difference'] = float((np.asarray(ours(z, codes)) != other).mean())
    theirs = waiting(lambda: peers.nearest(vectors, table), where)
  row = timing.beside(
    f'nearest of {CODES} codes of size {CODE_SIZE}, {num:,} vectors',
    'PyTorch',
    lambda: ours(z, codes),
    theirs,
    repeats,
    **more,
  )
  return _per_second(row, 'vectors', num)


def step_row(where, repeats: int, scale: int = 1, batch: int = 100) -> dict:
  """Steps of a variational auto-encoder of binary images, by Adam."""
  size, steps = PIXELS // scale, STEPS
  hidden = (HIDDEN // scale,) * 2
  net = amortized.Networks(
    latent.Encoder(mlp.MLP((*hidden, 2 * LATENT))),
    latent.Decoder(mlp.MLP((*hidden, size)), (size,)),
    latent_priors.normal(LATENT),
    observations.bernoulli(),
  )
  method = vae.vae(net, optax.adam(RATE))
  x = jax.random.bernoulli(jax.random.key(1), 0.3, (steps, batch, size))
  x = x.astype(jnp.float32)
  state = jax.jit(method.init)(jax.random.key(0), {'x': x[0]})

  @jax.jit
  def ours(state, key, x):
    def one(state, x):
      return method.step(state, jax.random.fold_in(key, state.step), {'x': x})

    return jax.lax.scan(one, state, x)

  theirs, more = None, {}
  if where is not None:
    data = _tensor(x, where)
    drawn = amortized.draws(
      net, state.params, {}, jax.random.key(2), x[0], None, num=1, train=True
    )
    noise = (drawn.z[0] - drawn.q.mean) / jnp.exp(drawn.q.log_std)
    bound = vae.objective()(drawn)[0]
    parts = [state.params[n]['body'] for n in (amortized.ENCODER, amortized.DECODER)]
    pair = [peers.layers(part, where) for part in parts]
    other = peers.elbo(*pair, data[0], _tensor(noise, where))
    more['difference'] = timing.difference([bound], [other.detach().cpu().numpy()])
    theirs = waiting(peers.vae_steps(*pair, data, RATE), where)
  key = jax.random.key(3)
  row = timing.beside(
    f'{steps} steps of a VAE {size}-{hidden[0]}-{hidden[0]}-{LATENT}, batch {batch}',
    'PyTorch',
    lambda: ours(state, key, x),
    theirs,
    repeats,
    **more,
  )
  return _per_second(row, 'steps', steps)


ROWS = (step_row, hmc_row, importance_row, lookup_row)
FASTER = {
  'step of a VAE: times faster than PyTorch': f'{STEPS} steps',
  'HMC: times faster than PyTorch': 'HMC',
  'importance-weighted bound: times faster than PyTorch': 'importance',
  'nearest codes: times faster than PyTorch': 'nearest',
}


def verdicts(rows) -> list[dict]:
  """The goals, each with its number and verdict."""
  return goals.faster(rows, FASTER, 1.0)


def run(*, repeats: int, quick: bool = False) -> dict:
  """Measures all, prints, returns numbers and tables; `quick` is a quarter the size."""
  where, scale = timing.prepare(), 4 if quick else 1
  timing.compiled(jnp.sin, (jnp.ones(3),))  # the first one loads the compiler
  rows = [row(where, repeats, scale) for row in ROWS]
  return timing.finish(
    rows, COLUMNS, verdicts(rows), timing.conditions(where), AGREEMENT
  )
