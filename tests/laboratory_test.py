"""What laboratories share, and the mode-collapse laboratory's rows and scores."""

import functools
import pathlib
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import priors
from gm_jax.data import toy
from gm_jax.methods import gan
from gm_jax.models import mlp
from gm_jax.training import step as step_lib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from experiments.ledger import mode_collapse, seeds  # noqa: E402


def small_gan():
  tx = optax.adam(1e-2, b1=0.5)
  return gan.gan(mlp.MLP((8, 2)), mlp.MLP((8, 1)), tx, tx, prior=priors.normal(3))


def draw(key):
  return {'x': 1.0 + jax.random.normal(key, (16, 2))}


@pytest.mark.slow
def test_seeds_at_once_are_the_seeds_one_by_one():
  method = small_gan()
  found = seeds.train(
    method, draw, seeds=3, first_seed=7, steps=8, dispatch=2, ema_decay=0.5
  )
  assert found.seconds > 0 and found.state.step == 8
  assert found.metrics['generator_loss'].shape == (3,)
  step = jax.jit(step_lib.train_step(method, ema_decay=0.5))
  init = jax.jit(lambda key: step_lib.init(method, key, draw(key), averaged=True))
  for i in range(3):
    key = jax.random.key(7 + i)
    state = init(key)
    for j in range(8):
      batch = draw(jax.random.fold_in(key, j))
      state, _ = step(state, key, jax.tree.map(lambda x: x[None], batch))
    one = jax.tree.map(lambda x, i=i: x[i], found.state.params)
    chex.assert_trees_all_close(one, state.params, atol=1e-5)
    average = jax.tree.map(lambda x, i=i: x[i], found.state.ema['params'])
    chex.assert_trees_all_close(average, state.ema['params'], atol=1e-5)


@pytest.mark.parametrize('steps', [0, 3, 2])
def test_steps_that_cannot_be_timed_are_refused(steps):
  with pytest.raises(ValueError, match=f'multiple of 4, got {steps}'):
    seeds.train(small_gan(), draw, seeds=1, first_seed=0, steps=steps, dispatch=2)


def test_mean_and_error():
  values = np.array([1.0, 2.0, 3.0, 6.0])
  error = np.sqrt(((values - 3.0) ** 2).sum() / 3 / 4)
  assert seeds.mean_and_error(values, '.3f') == f'3.000 +- {error:.3f}'
  assert seeds.mean_and_error(np.array([1.0, np.inf]), '.2f') == 'inf'
  assert seeds.mean_and_error(np.array([4.0]), '.1f') == '4.0'


def test_every_paper_row_has_a_row_of_ours_beside_it():
  for papers in (
    mode_collapse.RING_PAPERS, mode_collapse.GRID_PAPERS, mode_collapse.STACKED_PAPERS
  ):  # fmt: skip
    assert papers.keys() <= mode_collapse.ROWS.keys()


def test_the_score_of_a_perfect_sampler_and_of_a_collapsed_one():
  task = mode_collapse.points(toy.grid(), mode_collapse.GRID_PAPERS)

  one = toy.grid().means[3]

  class Perfect:
    sample = staticmethod(lambda model, key, num: task.draw(key, num))

  class Collapsed:
    sample = staticmethod(lambda model, key, num: jnp.tile(one, (num, 1)))

  perfect = task.score(Perfect, None, jax.random.key(0))
  assert perfect['modes'] == 25 == task.num_modes
  assert perfect['high_quality'] > 0.98 and perfect['reverse_kl'] < 0.02
  collapsed = task.score(Collapsed, None, jax.random.key(0))
  assert collapsed['modes'] == 1 and collapsed['high_quality'] == 1
  np.testing.assert_allclose(collapsed['reverse_kl'], np.log(25), rtol=1e-5)


@pytest.mark.parametrize(
  'name', [n for n, row in mode_collapse.ROWS.items() if not row.images_only]
)
def test_every_row_makes_a_step_whose_batch_is_its_own(name):
  task = mode_collapse.points(toy.ring(), mode_collapse.RING_PAPERS)
  task = mode_collapse.with_optimizer(task, 100)
  row = mode_collapse.ROWS[name]
  method = row.make(task)
  key = jax.random.key(0)
  batch = {'x': jax.ShapeDtypeStruct((task.batch * row.batches, 2), jnp.float32)}
  state = jax.eval_shape(method.init, key, batch)
  after, _ = jax.eval_shape(method.step, state, key, batch)
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
  score = functools.partial(task.score, method)
  model = jax.eval_shape(lambda s: step_lib.model(s), state)
  assert jax.eval_shape(score, model, key).keys() == {
    'modes', 'high_quality', 'reverse_kl'
  }  # fmt: skip
