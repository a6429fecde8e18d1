"""VDM: its bound beside exact masses, and which gradient each part of it gets."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base, denoisers, diffusion_bound, processes, times
from gm_jax.methods import vdm
from gm_jax.models import noise_schedule

KEY, LEVELS, SIZE = jax.random.key(0), 3, 2
rng = np.random.default_rng(0)
TABLE = rng.dirichlet(np.ones(LEVELS**SIZE))
STATES = np.array(list(itertools.product(range(LEVELS), repeat=SIZE)))
BENT = noise_schedule.Monotone(8)
END = {'low': -9.0, 'high': 9.0}


class Exact(nn.Module):
  """The noise's posterior mean E[e | z] in the world of TABLE; off by `wrong`."""

  wrong: float = 0.0

  @nn.compact
  def __call__(self, z, t, condition=None, *, train=False):
    unused = self.param('unused', nn.initializers.zeros, ())
    process, gamma = diffusion_bound.GAMMA, 8.0 * t
    alpha, sigma = (processes.along(f(gamma), z) for f in process[:2])
    v = diffusion_bound.centered(jnp.asarray(STATES), LEVELS)
    far = jnp.square(z[:, None] - alpha[..., None] * v).sum(axis=-1)
    weights = jax.nn.softmax(jnp.log(TABLE) - 0.5 * far / sigma**2)
    return (z - alpha * (weights @ v)) / sigma + unused + self.wrong


def made(interior=None, num_steps=0, network=None, tx=None, **ends):
  schedule = noise_schedule.NoiseSchedule(interior, **{**END, **ends})
  return vdm.vdm(
    network or Exact(), schedule, tx or optax.sgd(1.0), shape=(SIZE,),
    num_levels=LEVELS, num_steps=num_steps,
  )  # fmt: skip


def model_of(method, bend=0.0):
  state = method.init(KEY, {'x': jnp.asarray(STATES)})
  params = dict(state.params)
  if bend:
    leaves, tree = jax.tree.flatten(params['schedule']['interior'])
    keys = jax.random.split(jax.random.key(7), len(leaves))
    leaves = [
      leaf + bend * jax.random.normal(key, leaf.shape)
      for leaf, key in zip(leaves, keys, strict=True)
    ]
    params['schedule'] = params['schedule'] | {
      'interior': jax.tree.unflatten(tree, leaves)
    }
  return base.Model(params, state.extra)


def bounds(method, model, repeats=300, num_times=16):
  """The mean bound of every state, and its standard error."""
  # In turn: times are stratified along the batch, and each state is to see all.
  x = jnp.tile(jnp.asarray(STATES), (repeats, 1))
  draw = jax.jit(lambda key: method.queries['elbo'](model, key, x, num_times=num_times))
  found = np.asarray(draw(jax.random.key(3))).reshape(repeats, -1)
  return found.mean(axis=0), found.std(axis=0) / np.sqrt(repeats)


@pytest.mark.parametrize(
  ('interior', 'bend'),
  [(BENT, 1.0), pytest.param(None, 0.0, marks=pytest.mark.slow)],
)
def test_the_bound_is_the_log_mass_whatever_the_interior(interior, bend):
  """By the posterior mean, of every state and of the mean over all."""
  exact = np.log(TABLE)
  found, error = bounds(method := made(interior), model_of(method, bend))
  assert (np.abs(found - exact) < 5 * error + 0.01).all(), (found, exact)
  total = np.sqrt(np.square(TABLE * error).sum())
  assert total < 0.05 and abs(TABLE @ (found - exact)) < 4 * total


@pytest.mark.slow
def test_the_bound_of_steps_rises_to_that_of_infinitely_many():
  means = []
  for num in (4, 8, 32, 256, 0):
    found, _ = bounds(method := made(num_steps=num), model_of(method))
    means.append(TABLE @ found)
  assert (np.diff(means) > 0).all() and means[-1] - means[-2] < 0.15, means


def drawn_terms(method_step_key, num, params, network, num_steps=0):
  """The terms of a step by its draws, as a function of the schedule's parameters."""
  t_key, key = jax.random.split(method_step_key)
  noise_key, _ = jax.random.split(key)
  t = times.stratified(processes.rectified())(t_key, num)
  form = denoisers.NOISE._replace(read=denoisers.by_noise)
  denoise = denoisers.denoiser(
    lambda z, r: network.apply({'params': params['network']}, z, r),
    diffusion_bound.GAMMA, form,
  )  # fmt: skip
  module = noise_schedule.NoiseSchedule(BENT, **END)

  def terms(own, x):
    at = diffusion_bound.levels(
      lambda t: module.apply({'params': own}, t), t, num_steps=num_steps
    )
    return diffusion_bound.terms(
      denoise, at, noise_key, x, num_levels=LEVELS, num_steps=num_steps
    )

  return terms


@pytest.mark.parametrize('num_steps', [0, pytest.param(4, marks=pytest.mark.slow)])
def test_ends_get_the_bounds_gradient_and_the_interior_that_of_the_square(num_steps):
  """By two backward passes of their own; of T steps all get the bound's."""
  network, x = Exact(0.3), jnp.asarray(STATES)
  method = made(BENT, num_steps, network, low=-5.0, high=4.0)
  model = model_of(method, bend=0.5)
  state = method.init(KEY, {'x': x})._replace(params=model.params)
  key = jax.random.key(5)
  after, metrics = jax.jit(method.step)(state, key, {'x': x})
  found = jax.tree.map(lambda a, b: a - b, state.params, after.params)['schedule']
  terms = drawn_terms(key, len(x), model.params, network, num_steps)
  own = model.params['schedule']

  def both(own):
    found = terms(own, x)
    return jnp.stack([sum(found).mean(), jnp.square(found.diffusion).mean() / SIZE])

  (mean, _), slopes = jax.jit(lambda own: (both(own), jax.jacrev(both)(own)))(own)
  bound, square = (jax.tree.map(lambda s, i=i: s[i], slopes) for i in (0, 1))
  np.testing.assert_allclose(metrics['loss'], mean, rtol=1e-5)
  for name in ('low', 'gap'):
    np.testing.assert_allclose(found[name], bound[name], rtol=2e-3, atol=1e-5)
  expected = bound if num_steps else square
  for name, value in expected['interior'].items():
    np.testing.assert_allclose(found['interior'][name], value, rtol=2e-3, atol=1e-5)
  other = square if num_steps else bound  # else the test could not fail
  assert np.abs(other['interior']['height'] - found['interior']['height']).max() > 1e-3


@pytest.mark.slow
def test_ancestral_samples_have_the_worlds_masses():
  method = made()
  model = model_of(method)
  draw = jax.jit(lambda key: method.sample(model, key, 20_000, num_steps=100))
  x = np.asarray(draw(jax.random.key(2)))
  assert x.dtype == np.int32 and x.min() >= 0 and x.max() < LEVELS
  found = np.bincount(x @ [LEVELS, 1], minlength=len(TABLE)) / len(x)
  np.testing.assert_allclose(found, TABLE, atol=0.02)


def test_steps_of_the_discrete_bound_are_each_met_by_stratified_times():
  """T examples see all T steps, whatever is drawn."""
  schedule = lambda t: -8 + 12 * t  # noqa: E731
  num = 49  # of which a range of floats has one more
  t = times.stratified(processes.rectified())(KEY, num)
  at = diffusion_bound.levels(schedule, t, num_steps=num)
  steps = np.arange(1, num + 1) / num
  np.testing.assert_allclose(np.sort(at.gamma), schedule(steps), atol=1e-4)
  np.testing.assert_allclose(np.subtract(*at[:2]), 12 / num, atol=1e-4)


def test_data_that_do_not_fit_are_one_line():
  method = made()
  with pytest.raises(ValueError, match='x must be integers, got float32'):
    method.init(KEY, {'x': jnp.zeros((4, SIZE))})
  with pytest.raises(ValueError, match=r'x must be \[B, 2\], got \(4, 3\)'):
    method.init(KEY, {'x': jnp.zeros((4, 3), jnp.int32)})
  state = method.init(KEY, {'x': jnp.zeros((4, SIZE), jnp.int32)})
  with pytest.raises(ValueError, match=r"no sampler 'hein'; there are: ancestral"):
    method.sample(base.Model(state.params, {}), KEY, 2, sampler='hein')


@pytest.mark.slow
def test_a_trained_interior_makes_the_square_small_and_leaves_the_mean():
  """Of a wrong network, from a schedule with nearly all of its rise at the start."""
  method = made(BENT, 0, Exact(0.3), optax.adam(0.02))
  model = model_of(method)
  x = jnp.tile(jnp.asarray(STATES), (8, 1))
  own = model.params['schedule']
  steep = own['interior'] | {'height': own['interior']['height'].at[0].set(5.0)}
  params = {**model.params, 'schedule': own | {'interior': steep}}
  state = method.init(KEY, {'x': x})._replace(params=params)

  def only_interior(state, key):
    after, _ = method.step(state, key, {'x': x})
    own = params['schedule'] | {'interior': after.params['schedule']['interior']}
    return after._replace(params={**params, 'schedule': own}), None

  @jax.jit
  def moments(params, keys):
    def once(key):
      terms = drawn_terms(key, len(x), params, Exact(0.3))(params['schedule'], x)
      return terms.diffusion.mean(), jnp.square(terms.diffusion).mean()

    return jax.lax.map(once, keys)

  keys = jax.random.split(jax.random.key(1), 1000)
  after, _ = jax.jit(lambda state: jax.lax.scan(only_interior, state, keys))(state)
  found = [moments(p, keys) for p in (params, after.params)]
  (before, square), (mean, other) = found
  assert other.mean() < 0.7 * square.mean(), (square.mean(), other.mean())
  error = np.hypot(before.std(), mean.std()) / np.sqrt(len(keys))
  assert abs(before.mean() - mean.mean()) < 4 * error, (before.mean(), mean.mean())


@pytest.mark.slow
def test_completions_by_particles_are_the_tables_conditionals():
  """Of the second number given the first, over all three values of that."""
  method, num = made(), 1500
  model = model_of(method)
  x = jnp.stack([jnp.arange(LEVELS), jnp.zeros(LEVELS, int)], axis=1)
  observed = jnp.broadcast_to(jnp.array([True, False]), x.shape)
  found = jax.jit(
    lambda key: method.queries['impute'](
      model, key, x, observed, num=num, inpainter='particles', num_steps=100
    )
  )(jax.random.key(5))
  assert jnp.issubdtype(found.dtype, jnp.integer) and (found[..., 0] == x[:, 0]).all()
  second = np.asarray(found[..., 1])
  counts = np.stack([(second == k).mean(axis=0) for k in range(LEVELS)], 1)
  table = TABLE.reshape(LEVELS, LEVELS)
  expected = table / table.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(counts, expected, atol=0.06)
