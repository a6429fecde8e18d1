"""Rectified flow of Gaussian data, where velocities and straight paths are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base, conditions
from gm_jax.methods import rectified_flow
from gm_jax.models import denoisers

MEAN, STD, SIZE = 0.5, 0.4, 2
KEY = jax.random.key(0)


class Exact(nn.Module):
  """The velocity of independent noise and data, or of e and MEAN + STD e."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    straight = self.param('straight', nn.initializers.zeros, ())
    t = t[:, None] / 1000
    away = x - (1 - t) * MEAN
    first = (t - (1 - t) * STD**2) / ((1 - t) ** 2 * STD**2 + t**2)
    second = (1 - STD) / ((1 - t) * STD + t)
    return -MEAN + (straight * second + (1 - straight) * first) * away


class Point(nn.Module):
  """The velocity to a point that the condition is."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    unused = self.param('unused', nn.initializers.zeros, ())
    return (x - condition) / (t[:, None] / 1000) + unused


def made(**options):
  return rectified_flow.rectified_flow(
    Exact(), optax.sgd(0.0), shape=(SIZE,), **options
  )


def at(params, straight):
  return jax.tree.map(lambda v: jnp.full_like(v, straight), params)


def mean_over_time(f):
  t = (np.arange(20_000) + 0.5) / 20_000
  return f(t).mean()


def slope(t):
  """Of the first flow, along its path x_t = (1 - t) MEAN + std_t e."""
  std = np.sqrt((1 - t) ** 2 * STD**2 + t**2)
  return (t - (1 - t) * STD**2) / std, std


def test_a_reflows_loss_is_zero_of_straight_paths_and_known_of_the_first_flow():
  """On a straight path x_t = (1 - t) (MEAN + STD e) + t e, by quadrature."""
  method = made(reflow=rectified_flow.Reflow(40, 4))
  batch = {'x': jnp.full((40_000, SIZE), np.nan)}  # a reflow never sees data
  state, step = method.init(KEY, batch), jax.jit(method.step)
  losses = {}
  for straight in (1.0, 0.0):
    now = state._replace(params=at(state.params, straight))
    after, metrics = step(now, jax.random.key(1), batch)
    losses[straight] = float(metrics['loss'])
    assert not jax.tree.leaves(after.extra[base.FROZEN])[0]  # as it was

  def squares(t):
    along, std = slope(t)
    return (along / std * ((1 - t) * STD + t) - (1 - STD)) ** 2

  expected = mean_over_time(squares)
  np.testing.assert_allclose(losses[0.0], expected, rtol=0.03)
  assert losses[1.0] < 1e-3 * expected  # what the solver is off


def test_straightness_and_cost_are_those_of_the_paths_and_one_step_is_exact():
  method = made()
  params = method.init(KEY, {'x': jnp.zeros((2, SIZE))}).params
  noise = np.asarray(jax.random.normal(jax.random.key(5), (4000, SIZE)))
  measure = jax.jit(
    lambda params, num_steps: method.queries['sample_info'](
      base.Model(params, {}), jax.random.key(5), 4000, num_steps=num_steps
    )
  )
  images = MEAN + STD * noise
  cost = ((images - noise) ** 2).sum(axis=1)
  x, found = measure(at(params, 0.0), jnp.asarray(400))
  np.testing.assert_allclose(x, images, atol=0.01)
  np.testing.assert_allclose(found['transport_cost'], cost, rtol=0.05, atol=0.01)
  spread = mean_over_time(lambda t: (slope(t)[0] - (1 - STD)) ** 2)
  expected = spread * (noise**2).sum(axis=1)
  np.testing.assert_allclose(found['straightness'], expected, rtol=0.05, atol=1e-3)
  independent = SIZE * (MEAN**2 + STD**2 + 1)  # E |x - e|^2
  assert found['transport_cost'].mean() < independent - 0.5
  for num_steps in (1, 3):
    x, found = measure(at(params, 1.0), jnp.asarray(num_steps))
    np.testing.assert_allclose(x, images, atol=1e-5)
    np.testing.assert_allclose(found['transport_cost'], cost, rtol=1e-4, atol=1e-5)
    assert found['straightness'].max() < 1e-8
  x, _ = measure(at(params, 0.0), jnp.asarray(1))
  np.testing.assert_allclose(x, np.full_like(x, MEAN), atol=1e-5)  # of the first flow


def test_images_are_of_the_condition_that_stands_beside_them():
  """The loss of a flow to its condition is 0 where none of the pairs is mixed up."""
  condition = conditions.by_value(SIZE)
  method = rectified_flow.rectified_flow(
    Point(), optax.sgd(0.0), shape=(SIZE,), condition=condition,
    reflow=rectified_flow.Reflow(3, 4),
  )  # fmt: skip
  points = jax.random.normal(KEY, (10, SIZE))  # not a multiple of 4
  batch = {'x': jnp.zeros((10, SIZE)), 'condition': points}
  state = method.init(KEY, batch)
  _, metrics = jax.jit(method.step)(state, jax.random.key(1), batch)
  assert metrics['loss'] < 1e-6


def test_a_phase_begins_as_the_flow_that_it_freezes_and_keeps_no_other():
  flow, method = made(), made(reflow=rectified_flow.Reflow())
  batch = {'x': jnp.zeros((4, SIZE))}
  enter = rectified_flow.after_flow(method)
  state = flow.init(KEY, batch)._replace(step=jnp.asarray(7, jnp.int32))
  for straight in (0.25, 0.75):
    state = enter(KEY, state._replace(params=at(state.params, straight)), batch)
    assert state.step == 7
    frozen = state.extra[base.FROZEN][rectified_flow.FLOW]
    assert frozen.extra == {}
    for tree in (state.params, frozen.params):
      np.testing.assert_array_equal(jax.tree.leaves(tree), [np.float32(straight)])


def test_numbers_below_one_are_refused():
  with pytest.raises(ValueError, match='solver_steps and repeats must be >= 1'):
    made(reflow=rectified_flow.Reflow(repeats=0))


def wasserstein(x, quantiles):
  return np.abs(np.sort(x) - quantiles).mean()


@pytest.mark.slow
def test_reflow_of_a_mixture_keeps_it_straightens_and_makes_one_step_do():
  """Two Gaussians on the line, learned by a perceptron."""
  network, num = denoisers.ResidualMLP(64, 1), 4000
  centers = jnp.array([-1.5, 1.0])

  def draw(key, num):
    which, noise = jax.random.split(key)
    k = jax.random.bernoulli(which, 0.6, (num,)).astype(int)
    return (centers[k] + 0.3 * jax.random.normal(noise, (num,)))[:, None]

  def method_of(**options):
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, 1000))
    return rectified_flow.rectified_flow(network, tx, shape=(1,), **options)

  def train(method, state):
    def one(state, key):
      data_key, key = jax.random.split(key)
      return method.step(state, key, {'x': draw(data_key, 128)})[0], ()

    run = jax.jit(lambda s: jax.lax.scan(one, s, jax.random.split(KEY, 1000))[0])
    return run(state)

  quantiles = np.sort(np.asarray(draw(jax.random.key(2), num))[:, 0])
  first, second = method_of(), method_of(reflow=rectified_flow.Reflow(8, 2))
  batch = {'x': jnp.zeros((128, 1))}
  before = train(first, first.init(KEY, batch))
  after = train(second, rectified_flow.after_flow(second)(KEY, before, batch))
  found = {}
  measure = jax.jit(
    lambda params, num_steps: first.queries['sample_info'](
      base.Model(params, {}), jax.random.key(3), num, num_steps=num_steps
    )
  )
  for name, state in (('before', before), ('after', after)):
    for num_steps in (1, 50):
      x, info = measure(state.params, jnp.asarray(num_steps))
      distance = wasserstein(np.asarray(x)[:, 0], quantiles)
      found[name, num_steps] = distance, *(float(v.mean()) for v in info.values())
  straight, cost, independent = 1, 2, 2.59  # E |x - e|^2 of independent draws
  assert found['before', 50][0] < 0.12 and found['after', 50][0] < 0.12
  assert found['before', 1][0] > 1.0 and found['after', 1][0] < 0.12
  assert found['after', 50][straight] < 0.01 * found['before', 50][straight]
  # On the line every flow is monotone, so that the first's pairs are optimal.
  assert found['before', 50][cost] < 0.2 * independent
  assert abs(found['after', 50][cost] - found['before', 50][cost]) < 0.05
