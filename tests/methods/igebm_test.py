"""Energies by chains: a Gaussian, a step written out, samples of the buffer."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base, contrasts, priors, replay
from gm_jax import chains as chains_lib
from gm_jax.data import transforms
from gm_jax.methods import igebm
from gm_jax.models import mlp
from gm_jax.samplers import langevin
from gm_jax.training import checkpoint, loop, parallel

MEAN, STD, COLD = 0.5, 0.7, 1e-12
NOISE = priors.normal(1, std=1.5)
KEY = jax.random.key(0)
SPEC = base.DataSpec((1,), jnp.float32, None, None, None, transforms.identity())


class Gaussian(nn.Module):
  """The energy of a Gaussian without its constant."""

  @nn.compact
  def __call__(self, x, *, train=False):
    mean = self.param('mean', nn.initializers.zeros, ())
    log_std = self.param('log_std', nn.initializers.zeros, ())
    return 0.5 * jnp.square((x - mean) * jnp.exp(-log_std))


class Slope(nn.Module):
  """k x while training, and 2 k x otherwise; it counts the calls of training."""

  @nn.compact
  def __call__(self, x, *, train=False):
    k = self.param('k', nn.initializers.constant(0.5), ())
    calls = self.variable('batch_stats', 'calls', lambda: jnp.zeros(()))
    if train and not self.is_initializing():
      calls.value += 1
    return k * x * (1 if train else 2)


def chains_of(**changes):
  plain = {'num_steps': 1, 'step_size': 0.1, 'temperature': COLD, 'size': 4}
  return chains_lib.Chains(**{'noise': NOISE, 'rate': 0.0, **plain, **changes})


def method_of(network, *, tx=None, options=None, **changes):
  tx = tx or optax.sgd(1.0)
  return igebm.igebm(network, chains_of(**changes), tx, shape=(1,), **(options or {}))


def held(state):
  return np.asarray(state.extra[base.LOCAL][contrasts.REPLAY].chains, float)


def data(key, num):
  return {'x': MEAN + STD * jax.random.normal(key, (num, 1))}


@pytest.mark.slow
def test_a_gaussian_is_found_by_chains_of_temperature_one():
  method = method_of(
    Gaussian(), tx=optax.adam(optax.linear_schedule(0.1, 0.0, 200)), num_steps=5,
    step_size=0.3, temperature=1.0, transition=langevin.mala, size=2048,
    options={'weight': 0.0},
  )  # fmt: skip

  def step(state, key):
    return method.step(state, key, data(jax.random.fold_in(key, 1), 1024))

  @jax.jit
  def train():
    state = method.init(KEY, {'x': jnp.zeros((2, 1))})
    return jax.lax.scan(step, state, jax.random.split(KEY, 200))

  state, metrics = train()
  found = state.params['energy']
  np.testing.assert_allclose(found['mean'], MEAN, atol=0.04)
  np.testing.assert_allclose(jnp.exp(found['log_std']), STD, atol=0.04)
  # The chains that persist have come to be data; few at once, they are no i.i.d. draws.
  np.testing.assert_allclose(held(state).mean(), MEAN, atol=0.06)
  np.testing.assert_allclose(held(state).std(), STD, atol=0.06)
  assert 0.5 < metrics['acceptance'].mean() < 1


def test_chains_that_persist_reach_the_law_of_a_fixed_energy_and_its_gradient():
  num, steps = 4000, 40
  method = method_of(
    Gaussian(), tx=optax.sgd(lambda count: jnp.where(count < steps, 0.0, 1.0)),
    num_steps=5, step_size=0.3, temperature=1.0, transition=langevin.mala, size=num,
    options={'weight': 0.0},
  )  # fmt: skip
  x = np.linspace(-1.0, 2.0, num // 2)[:, None]  # half of the chains a step

  @jax.jit
  def run():
    state = method.init(KEY, {'x': jnp.float32(x)})
    step = lambda state, key: (method.step(state, key, {'x': jnp.float32(x)})[0], None)  # noqa: E731
    return state, jax.lax.scan(step, state, jax.random.split(KEY, steps + 1))[0]

  state, end = run()
  first, last = held(state), held(end)
  assert first.std() > 1.4  # the noise's
  assert abs(last.mean()) < 4 / np.sqrt(num)
  assert abs(np.square(last).mean() - 1) < 4 * np.sqrt(2 / num)
  assert abs((last**4).mean() - 3) < 4 * np.sqrt(96 / num)  # 105 - 9
  # In the last step the parameters go by minus the gradient of -E log p, which is that
  # of E at the data less its expectation: -x and -x^2, less 0 and -1.
  found = end.params['energy']
  assert abs(found['mean'] - x.mean()) < 4 / np.sqrt(len(x))
  assert abs(found['log_std'] - (np.square(x).mean() - 1)) < 4 * np.sqrt(2 / len(x))


@pytest.mark.parametrize('size', [4, None])
def test_a_step_is_written_out_and_chains_see_the_network_as_in_evaluation(size):
  weight, limit = 0.3, 1.2
  options = {'weight': weight, 'gap_limit': limit}
  method = method_of(Slope(), size=size, step_size=2.0, options=options)
  x = np.array([1.0, -2.0, 0.5, 3.0])
  state = jax.jit(method.init)(KEY, {'x': jnp.float32(x)[:, None]})
  after, metrics = jax.jit(method.step)(state, KEY, {'x': jnp.float32(x)[:, None]})
  start = x if size is None else held(state)[:, 0]  # the whole buffer, in some order
  k = 0.5
  moved = start - 2.0 * 2 * k  # s times the slope of evaluation
  if size:
    np.testing.assert_allclose(np.sort(held(after)[:, 0]), np.sort(moved), atol=1e-5)
  gap = (k * x).mean() - (k * moved).mean()  # of training
  np.testing.assert_allclose(metrics['energy_gap'], gap, rtol=1e-5)
  squares = np.square(k * x).mean() + np.square(k * moved).mean()
  np.testing.assert_allclose(metrics['loss'], gap + weight * squares, rtol=1e-5)
  # Chains are constants: their slope would add 2 s to the gradient.
  gradient = x.mean() - moved.mean()
  gradient += 2 * weight * k * (np.square(x) + np.square(moved)).mean()
  np.testing.assert_allclose(after.params['energy']['k'], k - gradient, rtol=1e-5)
  assert after.extra['batch_stats']['energy']['calls'] == 1
  assert metrics['diverged_energy_gap'] == float(abs(gap) > limit)


def test_the_gap_is_held_against_its_limit_either_way():
  energies = jnp.array([3.0, 1.0]), jnp.array([-1.0, 0.0])  # a gap of 2.5
  for limit, expected in ((2.4, 1), (2.6, 0)):
    for pair in (energies, energies[::-1]):
      _, metrics = contrasts.contrast(*pair, weight=0.0, gap_limit=limit)
      assert metrics['diverged_energy_gap'] == expected
  _, metrics = contrasts.contrast(*energies, weight=0.0, gap_limit=None)
  assert sorted(metrics) == ['energy', 'energy_gap']


def test_samples_are_chains_of_the_buffer_or_begin_at_noise():
  method = method_of(Slope(), size=8, step_size=1e-6, sampling_steps=3)
  state = jax.jit(method.init)(KEY, {'x': jnp.zeros((2, 1))})
  there = jnp.arange(8.0)[:, None] + 100
  extra = state.extra | {base.LOCAL: {contrasts.REPLAY: replay.Buffer(there)}}
  model = base.Model(state.params, extra)
  draw = method.queries['sample_info']
  x, info = jax.jit(lambda model: draw(model, KEY, 20, num_steps=1))(model)
  np.testing.assert_allclose(np.sort(x[:8, 0]), there[:, 0], atol=1e-3)  # each once
  np.testing.assert_allclose(info['energy'], x[:, 0], rtol=1e-5)  # 2 k x
  assert (info['acceptance'] == 1).all()
  counts = np.bincount(np.round(x[:, 0]).astype(int) - 100, minlength=8)
  assert sorted(counts) == [2, 2, 2, 2, 3, 3, 3, 3]  # more than there are, in turn
  options = {'rate': 1.0, 'num_steps': 1}
  noise = np.asarray(jax.jit(lambda m: method.sample(m, KEY, 500, **options))(model))
  assert abs(noise.mean()) < 4 * 1.5 / np.sqrt(500) and 1.3 < noise.std() < 1.7


def test_the_card_tells_the_temperature_and_estimates_are_of_temperature_one():
  estimated = {'log_partition', 'log_prob_estimate'}
  beside = {'options': {'beside': NOISE}}
  cold = method_of(Gaussian(), temperature=5e-5, **beside)
  assert cold.card.density == 'unnormalized' and not estimated & cold.queries.keys()
  assert cold.card.architecture == 'any; chains of T = 5e-05'
  network = mlp.MLP((4, 1), activation=nn.tanh, spectral_norm=True)  # has collections
  method = method_of(network, temperature=1.0, **beside)
  assert method.card.density == 'estimate' and estimated <= method.queries.keys()
  state = jax.jit(method.init)(KEY, {'x': jnp.zeros((2, 1))})
  model = base.Model(state.params, state.extra)
  grid = jnp.linspace(-9.0, 9.0, 4001)[:, None]
  energy = np.asarray(jax.jit(method.queries['energy'])(model, None, grid), float)
  log_z = np.log(np.exp(-energy).sum() * 18 / 4000)
  estimate = functools.partial(method.queries['log_prob_estimate'], num_samples=20_000)
  value, error = jax.jit(estimate)(model, KEY, grid)
  assert error[0] < 0.02
  np.testing.assert_allclose(value, -energy - log_z, atol=4 * float(error[0]))


def test_what_does_not_fit_is_one_line():
  method = method_of(Gaussian())
  state = jax.jit(method.init)(KEY, {'x': jnp.zeros((2, 1))})
  with pytest.raises(ValueError, match='a chain for each of a batch of 5, got 4'):
    method.step(state, KEY, {'x': jnp.zeros((5, 1))})
  with pytest.raises(ValueError, match=r'x must be \[B, 1\], got \(4, 2\)'):
    method.step(state, KEY, {'x': jnp.zeros((4, 2))})
  model = base.Model(state.params, state.extra)
  with pytest.raises(ValueError, match='step_size of chains must be > 0, got 0'):
    method.sample(model, KEY, 2, step_size=0.0)
  with pytest.raises(ValueError, match='num_steps of chains must be >= 1, got 0'):
    method.sample(model, KEY, 2, num_steps=0)
  wide = method_of(mlp.MLP((2,)))
  with pytest.raises(ValueError, match=r'the energy must return \[B, 1\]'):
    jax.eval_shape(
      lambda x: wide.step(wide.init(KEY, {'x': x}), KEY, {'x': x}), jnp.zeros((4, 1))
    )
  for name, value in {'weight': -1.0, 'input_noise': -0.1, 'gap_limit': 0.0}.items():
    with pytest.raises(ValueError, match=f'{name} must be'):
      method_of(Gaussian(), options={name: value})


@pytest.mark.slow
def test_an_absurd_rate_diverges_and_goes_on_at_half_until_it_ends_well(
  tmp_path, monkeypatch
):
  lines, rates = [], []
  monkeypatch.setattr(
    loop.logging, 'warning', lambda text, *args: lines.append(text % args)
  )

  def make_phases(attempt):
    rates.append(8.0 * 0.5**attempt)
    method = method_of(
      Gaussian(), tx=optax.sgd(optax.linear_schedule(rates[-1], 0.0, 400)), num_steps=5,
      step_size=0.3, temperature=1.0, transition=langevin.mala, size=512,
      options={'weight': 0.0, 'gap_limit': 2.0},
    )  # fmt: skip
    return (base.Phase(method, 400, SPEC),)

  def batches(phase, seed, start):
    del phase
    while True:
      rng = np.random.default_rng([seed, start])
      yield {'x': np.float32(MEAN + STD * rng.normal(size=(256, 1)))}
      start += 1

  saved = checkpoint.Checkpoints(tmp_path)
  settings = loop.Settings(
    400, steps_per_dispatch=10, checkpoint_every=10, on_nan='restart'
  )
  callbacks = loop.Callbacks(
    log=lambda step, metrics: None, save=saved.save, restore=saved.restore
  )
  mesh = parallel.device_mesh(jax.devices()[:1])
  state = loop.train(make_phases, batches, settings, callbacks, mesh=mesh)
  assert len(lines) >= 2 and rates[-1] <= 2
  for line in lines:
    assert line.startswith('the energy gap is above its limit after step')
    assert '; restarting at half the learning rate' in line
  found = state.params['energy']
  np.testing.assert_allclose(found['mean'], MEAN, atol=0.1)
  np.testing.assert_allclose(np.exp(found['log_std']), STD, atol=0.1)
