"""StarGAN's step by the paper's formulas, its labels of two data sets, its targets."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import domains
from gm_jax.losses import penalties
from gm_jax.methods import star_gan
from gm_jax.models import mlp
from gm_jax.training import step as step_lib

B, RATE, PATCHES, SIZES = 6, 0.05, 4, (2, 3)
K = sum(SIZES)
DOMAIN = jnp.array([0, 1, 2, 3, 4, 2])
WEIGHTS = {'domain_weight': 0.7, 'cycle_weight': 10.0}


class Linear(nn.Module):
  """A translator: a dense layer of x beside the label."""

  @nn.compact
  def __call__(self, x, condition, *, train=False):
    return nn.Dense(2)(jnp.concatenate([x, condition], axis=1))


class Critic(nn.Module):
  """Logits of patches, not linear in x, and of domains."""

  @nn.compact
  def __call__(self, x, *, train=False):
    out = mlp.MLP((5, PATCHES + K))(x)
    return out[:, :PATCHES], out[:, PATCHES:]


def make(penalty=None, sizes=SIZES, **changes):
  settings = {'num_critic': 1, **WEIGHTS, **changes}
  return star_gan.star_gan(
    Linear(), Critic(), optax.sgd(RATE), optax.sgd(RATE), sizes=sizes,
    penalty=penalty, **settings,
  )  # fmt: skip


def batch(num=B):
  x = jax.random.normal(jax.random.key(0), (num, 2))
  return {'x': x, 'domain': jnp.resize(DOMAIN, num)}


def vector(domain):
  """[c_1, c_2, mask], by hand."""
  out = np.zeros((len(domain), K + 2), np.float32)
  for i, c in enumerate(np.asarray(domain)):
    out[i, c] = 1
    out[i, K + (c >= 2)] = 1
  return out


def test_the_label_is_that_of_its_own_data_set_and_the_mask():
  np.testing.assert_array_equal(domains.label_vector(DOMAIN, SIZES), vector(DOMAIN))
  one = domains.label_vector(jnp.array([2, 0], jnp.uint8), (3,))  # no mask of one set
  np.testing.assert_array_equal(one, [[0, 0, 1], [1, 0, 0]])


def test_targets_are_uniform_in_the_examples_own_data_set():
  domain = jnp.repeat(jnp.arange(K), 4000)
  target = np.asarray(domains.draw_targets(jax.random.key(0), domain, SIZES))
  for c in range(K):
    counts = np.bincount(target[4000 * c : 4000 * (c + 1)], minlength=K)
    own = range(2) if c < 2 else range(2, K)
    expected = np.where(np.isin(np.arange(K), own), 4000 / len(own), 0)
    assert np.abs(counts - expected).max() <= 4 * np.sqrt(4000 / 4)
    assert (counts[expected == 0] == 0).all()


def nats(logits, domain):
  """The cross entropy within the two data sets, by hand."""
  total = 0.0
  for i, c in enumerate(np.asarray(domain)):
    block = logits[i, :2] if c < 2 else logits[i, 2:]
    total += jnp.log(jnp.exp(block).sum()) - logits[i, c]
  return total / len(domain)


def test_a_step_is_down_the_gradients_of_the_papers_objectives(monkeypatch):
  targets = iter([jnp.array([1, 0, 3, 2, 2, 4]), jnp.array([1, 1, 4, 4, 3, 3])] * 3)
  monkeypatch.setattr(domains, 'draw_targets', lambda *_: next(targets))
  first, second = (jnp.array([1, 0, 3, 2, 2, 4]), jnp.array([1, 1, 4, 4, 3, 3]))

  def at_middle(critic, key, real, fake):  # the penalty with every fraction 1/2
    points = (real + fake) / 2
    slope = jax.grad(lambda x: critic(x).sum())(points)
    return 10 * jnp.square(jnp.sqrt(jnp.square(slope).sum(axis=1)) - 1)

  method = make(at_middle)
  state = jax.jit(method.init)(jax.random.key(0), batch())
  after, metrics = jax.jit(method.step)(state, jax.random.key(1), batch())
  g, d, x = state.params['generator'], state.params['discriminator'], batch()['x']

  def through(g, x, domain):
    inputs = jnp.concatenate([x, vector(domain)], axis=1)
    return inputs @ g['Dense_0']['kernel'] + g['Dense_0']['bias']

  def heads(d, x):
    return Critic().apply({'params': d}, x)

  def d_loss(d):
    fake = through(g, x, first)
    (real_patches, domains), (fake_patches, _) = heads(d, x), heads(d, fake)
    loss = -real_patches.mean() + fake_patches.mean()

    def summed(x):  # over the patches
      return heads(d, x)[0].sum(axis=1)

    loss += at_middle(summed, None, x, fake).mean()
    return loss + WEIGHTS['domain_weight'] * nats(domains, DOMAIN)

  def down(loss, params):
    slope = jax.jit(jax.grad(loss))(params)
    return jax.tree.map(lambda p, s: p - RATE * s, params, slope)

  new_d = down(d_loss, d)
  chex.assert_trees_all_close(after.params['discriminator'], new_d, rtol=1e-4)
  np.testing.assert_allclose(metrics['discriminator_loss'], d_loss(d), rtol=1e-5)

  def g_loss(g):
    fake = through(g, x, second)
    patches, domains = heads(new_d, fake)
    back = through(g, fake, DOMAIN)
    loss = -patches.mean() + WEIGHTS['domain_weight'] * nats(domains, second)
    return loss + WEIGHTS['cycle_weight'] * jnp.abs(back - x).mean()

  chex.assert_trees_all_close(after.params['generator'], down(g_loss, g), rtol=1e-4)
  np.testing.assert_allclose(metrics['generator_loss'], g_loss(g), rtol=1e-5)


def test_the_penalty_is_of_the_sum_over_patches_and_not_of_their_mean():
  """With P patches of one slope the squared norm is P^2 times theirs."""

  def squared(critic, key, real, fake):
    return penalties.r1(critic, real)

  losses = []
  for penalty in (None, squared):
    method = make(penalty)
    state = jax.jit(method.init)(jax.random.key(0), batch())
    _, metrics = jax.jit(method.step)(state, jax.random.key(1), batch())
    losses.append(metrics['discriminator_loss'])
  params = {'params': state.params['discriminator']}
  patches = jax.vmap(jax.jacobian(lambda x: Critic().apply(params, x[None])[0][0]))
  slopes = np.asarray(patches(batch()['x']))  # [B, P, 2]
  expected = np.square(slopes.sum(axis=1)).sum(axis=1).mean()
  np.testing.assert_allclose(losses[1] - losses[0], expected, rtol=1e-3)
  assert expected > 2 * np.square(slopes.mean(axis=1)).sum(axis=1).mean()


def test_critic_steps_have_data_of_their_own():
  method = make(num_critic=2)
  state = jax.jit(method.init)(jax.random.key(0), batch(2 * B))
  step = jax.jit(method.step)
  one = step(state, jax.random.key(1), batch(2 * B))[0]
  other = batch(2 * B)
  other['x'] = other['x'].at[0].add(1.0)  # of the first critic step alone
  two = step(state, jax.random.key(1), other)[0]
  changed = [
    optax.tree.norm(jax.tree.map(jnp.subtract, one.params[n], two.params[n]))
    for n in ('discriminator', 'generator')
  ]
  assert changed[0] > 1e-4


def test_translations_are_to_the_domain_asked_for_and_others_are_refused():
  method = make()
  state = jax.jit(method.init)(jax.random.key(0), batch())
  translate = functools.partial(
    method.queries['translate'], step_lib.model(state), None
  )
  g, x = state.params['generator']['Dense_0'], batch()['x']
  for domain in (3, jnp.full(B, 3), np.uint8(3)):
    inputs = np.concatenate([x, vector(np.full(B, 3))], axis=1)
    expected = inputs @ g['kernel'] + g['bias']
    np.testing.assert_allclose(translate(x, condition=domain), expected, rtol=1e-5)
  for wrong in (5, -1):
    with pytest.raises(ValueError, match='domain must be from 0 to 4'):
      translate(x, condition=wrong)
  with pytest.raises(ValueError, match='the domain to translate to'):
    translate(x)


@pytest.mark.parametrize(
  ('changes', 'word'),
  [({'sizes': (1,)}, 'at least two domains'), ({'sizes': (2, 0)}, 'two domains'),
   ({'cycle_weight': -1.0}, '>= 0'), ({'num_critic': 0}, 'num_critic >= 1')],
)  # fmt: skip
def test_what_does_not_fit_is_refused(changes, word):
  with pytest.raises(ValueError, match=word):
    make(**changes)
