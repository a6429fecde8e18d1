"""Puzzle-GAN's step by the paper's formulas, its weights, and orders of patches."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import conditions
from gm_jax.methods import puzzle_gan
from gm_jax.models import dcgan, mlp, puzzle
from gm_jax.training import step as step_lib

N, P, H, RATE = 8, 3, 4, 0.1
SHAPE = (P, H, H, 1)
Z = jax.random.normal(jax.random.key(5), (N, 2))
WEIGHTS = {
  'spatial_weight': optax.exponential_decay(0.5, 4, 0.01),
  'appearance_weight': optax.exponential_decay(0.25, 4, 0.1),
}


class Linear(nn.Module):
  """A painter whose image and mask are linear in z and the sum of the patches."""

  @nn.compact
  def __call__(self, z, patches, *, train=False):
    flat = jnp.concatenate([z, patches.sum(axis=1).reshape(len(z), -1)], axis=1)
    out = nn.Dense(2 * H * H)(flat).reshape(len(z), H, H, 2)
    return jnp.tanh(out[..., :1]), nn.sigmoid(out[..., 1:])


class Flat(nn.Module):
  """A linear critic."""

  @nn.compact
  def __call__(self, x, *, train=False):
    return mlp.MLP((1,))(x.reshape(len(x), -1))


def make(painter=None, critic=None, shape=SHAPE, **changes):
  settings = {
    'prior': lambda key, num: Z[:num], 'condition': conditions.by_patches(shape),
    **WEIGHTS, **changes,
  }  # fmt: skip
  return puzzle_gan.puzzle_gan(
    painter or Linear(), critic or Flat(), optax.sgd(RATE), optax.sgd(RATE), **settings
  )


def batch(num=N, size=H):
  rng = np.random.default_rng(0)
  shape = size, size
  return {
    'x': rng.uniform(-1, 1, (num, *shape, 1)).astype(np.float32),
    'condition': rng.uniform(-1, 1, (num, P, *shape, 1)).astype(np.float32),
    'mask': rng.random((num, *shape, P)) < 0.2,
  }


def one_step(method, state, data):
  return jax.jit(method.step)(state, jax.random.key(1), data)


def paint(g, patches):
  flat = jnp.concatenate(
    [Z[: len(patches)], patches.sum(1).reshape(len(patches), -1)], 1
  )
  out = flat @ g['Dense_0']['kernel'] + g['Dense_0']['bias']
  out = out.reshape(-1, H, H, 2)
  return jnp.tanh(out[..., :1]), 1 / (1 + jnp.exp(-out[..., 1:]))


def judge(d, x):
  dense = d['MLP_0']['Dense_0']
  return (x.reshape(len(x), -1) @ dense['kernel'] + dense['bias'])[:, 0]


def down(loss, params):
  slope = jax.jit(jax.grad(loss))(params)
  return jax.tree.map(lambda p, s: p - RATE * s, params, slope)


@pytest.mark.parametrize('num_critic', [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_step_is_down_the_gradients_of_the_papers_objectives(num_critic):
  method, data = make(num_critic=num_critic), batch()
  state = jax.jit(method.init)(jax.random.key(0), data)
  state = state._replace(step=jnp.int32(3))
  after, metrics = one_step(method, state, data)
  g, d = state.params['generator'], state.params['discriminator']

  def log_odds_loss(d, x, real):  # binary cross entropy of probabilities
    p = 1 / (1 + jnp.exp(-judge(d, x)))
    return -jnp.log(p if real else 1 - p).mean()

  for i in range(num_critic):  # the slices, every num_critic-th example
    x, patches = data['x'][i::num_critic], data['condition'][i::num_critic]
    mask = data['mask'][i::num_critic].any(axis=-1, keepdims=True)
    other = np.roll(x, 1, axis=0)
    fake, _ = paint(g, patches)
    kinds = fake, np.where(mask, other, x), np.where(mask, x, other)

    def d_loss(d, x=x, kinds=kinds):
      return log_odds_loss(d, x, True) + sum(log_odds_loss(d, k, False) for k in kinds)

    before, d = d, down(d_loss, d)

  def g_loss(g):  # on the last slice, against the discriminator's last state
    fake, placed = paint(g, patches)
    places = jnp.abs(placed - mask).sum(axis=(1, 2, 3)).mean()
    looks = jnp.abs(placed * fake - mask * x).sum(axis=(1, 2, 3)).mean()
    spatial, appearance = 0.5 * 0.01**0.75, 0.25 * 0.1**0.75  # at step 3 of 4
    return log_odds_loss(d, fake, True) + spatial * places + appearance * looks

  chex.assert_trees_all_close(after.params['discriminator'], d, rtol=1e-4, atol=1e-6)
  new_g = down(g_loss, g)
  chex.assert_trees_all_close(after.params['generator'], new_g, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(metrics['discriminator_loss'], d_loss(before), rtol=1e-5)
  found = metrics['generator_loss']
  np.testing.assert_allclose(found, log_odds_loss(d, paint(g, patches)[0], True), 1e-5)
  assert after.step == 4


def test_weights_are_functions_of_the_step_so_that_a_resumed_run_goes_on_with_them():
  method, data = make(), batch()
  state = jax.jit(method.init)(jax.random.key(0), data)
  first, late = (
    one_step(method, state._replace(step=jnp.int32(s)), data)[0] for s in (0, 40)
  )
  none = make(spatial_weight=lambda t: 0.0, appearance_weight=lambda t: 0.0)
  alone = one_step(none, state, data)[0]

  def gap(a, b):
    return optax.tree.norm(
      jax.tree.map(jnp.subtract, a.params['generator'], b.params['generator'])
    )

  assert gap(late, alone) < 0.01 * gap(first, alone)
  chex.assert_trees_all_close(
    first.params['discriminator'], late.params['discriminator']
  )


def networks():
  return puzzle.Painter(8, 1, 4, 8), dcgan.Discriminator(4)


@pytest.mark.slow  # of the networks alone: tests/models/puzzle_test.py
def test_a_step_and_a_sample_are_the_same_for_every_order_of_patches():
  method = make(*networks(), shape=(P, 8, 8, 1))
  data = batch(size=8)
  rng, other = np.random.default_rng(1), dict(data)
  orders = np.stack([rng.permutation(P) for _ in range(N)])  # each example its own
  other['condition'] = np.take_along_axis(
    data['condition'], orders[:, :, None, None, None], axis=1
  )
  other['mask'] = np.take_along_axis(data['mask'], orders[:, None, None], axis=3)
  state = jax.jit(method.init)(jax.random.key(0), data)
  run = jax.jit(method.step)
  found = [run(state, jax.random.key(1), d) for d in (data, other)]
  chex.assert_trees_all_close(*jax.device_get(found), atol=2e-6)
  model = step_lib.model(found[0][0])
  draw = jax.jit(functools.partial(method.sample, num=N))
  samples = [
    draw(model, jax.random.key(2), condition=d['condition']) for d in (data, other)
  ]
  np.testing.assert_allclose(*samples, atol=1e-6)
  changed = np.abs(samples[0] - draw(model, jax.random.key(2),
                                     condition=-data['condition']))  # fmt: skip
  assert changed.max() > 1e-4


def test_masks_come_with_samples_and_the_critic_sees_no_patches():
  method, data = make(), batch()
  state = jax.jit(method.init)(jax.random.key(0), data)
  model, key = step_lib.model(state), jax.random.key(2)
  image, found = method.queries['sample_info'](
    model, key, N, condition=data['condition']
  )
  expected = paint(state.params['generator'], data['condition'])
  chex.assert_trees_all_close((image, found['mask']), expected, atol=1e-5)
  same = method.sample(model, key, N, condition=data['condition'])
  np.testing.assert_allclose(same, image, atol=1e-6)
  logits = method.queries['critic'](model, key, data['x'])
  np.testing.assert_allclose(
    logits, judge(state.params['discriminator'], data['x']), rtol=1e-4, atol=1e-6
  )


def test_a_penalty_is_added_to_the_discriminators_loss():
  def gap(critic, key, real, fake):
    return jnp.square(critic(real) - critic(fake))

  data, losses = batch(), []
  for penalty in (None, gap):
    method = make(penalty=penalty, num_critic=1)
    state = jax.jit(method.init)(jax.random.key(0), data)
    losses.append(one_step(method, state, data)[1]['discriminator_loss'])
  g, d = state.params['generator'], state.params['discriminator']
  fake = paint(g, data['condition'])[0]
  expected = np.square(judge(d, data['x']) - judge(d, fake)).mean()
  np.testing.assert_allclose(losses[1] - losses[0], expected, rtol=1e-4)


@pytest.mark.parametrize(
  ('shape', 'word'),
  [
    ((N, 2, H, H, 1), r'takes 3 patches an example, \[B, 3, H, W, C\], got \[8, 2, 4'),
    ((N, P, H, H), 'takes 3 patches an example'),
    ((N, P, 5, H, 1), r'height, width and channels \[4, 4, 1\], got \[5, 4, 1\]'),
    ((N, P, H, H, 3), r'got \[4, 4, 3\]'),
    ((2, P, H, H, 1), r'a condition for 8 examples must be \[8, ...\]'),
  ],
)
def test_other_patches_than_trained_for_are_one_line(shape, word):
  method = make()
  state = jax.eval_shape(method.init, jax.random.key(0), batch())
  draw = functools.partial(method.sample, num=N, condition=jnp.zeros(shape))
  with pytest.raises(ValueError, match=word) as error:
    jax.eval_shape(draw, step_lib.model(state), jax.random.key(0))
  assert '\n' not in str(error.value)


def test_what_cannot_be_trained_is_one_line():
  with pytest.raises(ValueError, match='num_critic must be >= 1, got 0'):
    make(num_critic=0)
  method = make()
  with pytest.raises(ValueError, match="needs 'condition' in its batches"):
    jax.eval_shape(method.init, jax.random.key(0), {'x': batch()['x']})
  state = jax.eval_shape(method.init, jax.random.key(0), batch())
  with pytest.raises(ValueError, match='between two images or more'):
    jax.eval_shape(method.step, state, jax.random.key(0), batch(2))
  with pytest.raises(ValueError, match='this model needs a condition'):
    jax.eval_shape(
      lambda m, k: method.sample(m, k, 2), step_lib.model(state), jax.random.key(0)
    )
