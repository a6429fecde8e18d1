"""Adversarial auto-encoders step by step, as the paper's phases are."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import priors
from gm_jax.methods import adversarial_autoencoder as aae
from gm_jax.methods import semi_supervised_aae as semi
from gm_jax.models import mlp
from gm_jax.training import step as step_lib

RATES = {'r': 0.01, 'd': 0.2, 'e': 0.3}
X = 1.0 + jax.random.normal(jax.random.key(8), (6, 3))
Z = jax.random.normal(jax.random.key(9), (6, 2))
LABEL = jnp.array([0, 1, -1, 1, 0, -1])


def linear(weights, x):
  return x @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']


def down(rate, loss, weights):
  def moved(weights):
    return jax.tree.map(lambda p, d: p - rate * d, weights, jax.grad(loss)(weights))

  return jax.jit(moved)(weights)


def error(pair):
  again = linear(pair['decoder'], linear(pair['encoder'], X))
  return ((X - again) ** 2).sum(1).mean()


def make(classes=None, prior=lambda key, num: Z[:num]):
  txs = {f'{name}_tx': optax.sgd(rate) for name, rate in RATES.items()}
  parts = mlp.MLP((2,)), mlp.MLP((3,)), mlp.MLP((1,))
  return aae.adversarial_autoencoder(*parts, **txs, prior=prior, classes=classes)


def log_sigmoid(v):
  return jnp.log(jax.nn.sigmoid(v))


def by_hand(params, seen, real):
  """The three phases, one gradient step each; `seen` is what D is shown of z."""
  pair = {name: params[name] for name in ('encoder', 'decoder')}
  pair = down(RATES['r'], error, pair)
  fake = seen(linear(pair['encoder'], X))

  def d_loss(d):  # the prior is real
    return -(log_sigmoid(linear(d, real)).mean() + log_sigmoid(-linear(d, fake)).mean())

  d = down(RATES['d'], d_loss, params['discriminator'])

  def e_loss(e):
    return -log_sigmoid(linear(d, seen(linear(e, X)))).mean()

  encoder = down(RATES['e'], e_loss, pair['encoder'])
  return {'encoder': encoder, 'decoder': pair['decoder'], 'discriminator': d}


def test_a_step_is_the_papers_phases_one_after_another():
  method = compiled(make())
  state = method.init(jax.random.key(0), {'x': X})
  after, metrics = method.step(state, jax.random.key(1), {'x': X})
  expected = by_hand(state.params, lambda z: z, Z)
  chex.assert_trees_all_close(after.params, expected, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(metrics['reconstruction'], error(state.params), rtol=1e-5)
  # Exchanged roles, or one weighted sum, would be other steps.
  exchanged = by_hand(state.params, lambda z: -z, -Z)
  gap = jnp.abs(after.params['encoder']['Dense_0']['bias'] -
                  exchanged['encoder']['Dense_0']['bias'])  # fmt: skip
  assert float(gap.max()) > 1e-4


def test_the_discriminator_sees_the_class_or_that_there_is_none():
  shown = []

  def prior(key, label):
    del key
    shown.append(label)
    return Z[: len(label)]

  method = make(aae.Classes(prior, 2))
  state = jax.jit(method.init)(jax.random.key(0), {'x': X, 'label': LABEL})
  shown.clear()
  after, _ = method.step(state, jax.random.key(1), {'x': X, 'label': LABEL})
  one_hot = jnp.eye(3)[jnp.where(LABEL < 0, 2, LABEL)]
  seen = lambda z: jnp.concatenate([z, one_hot], 1)  # noqa: E731
  expected = by_hand(state.params, seen, seen(Z))
  chex.assert_trees_all_close(after.params, expected, rtol=1e-4, atol=1e-6)
  (drawn,) = shown  # the prior's component is the label where there is one
  np.testing.assert_array_equal(drawn[LABEL >= 0], LABEL[LABEL >= 0])
  assert set(np.asarray(drawn)) <= {0, 1}
  model = step_lib.model(after)
  x = method.sample(model, jax.random.key(2), 2, condition=jnp.array([1, 0]))
  np.testing.assert_allclose(x, linear(after.params['decoder'], Z[:2]), rtol=1e-6)
  np.testing.assert_array_equal(shown[-1], [1, 0])


def test_condition_needs_classes():
  method = make()
  model = step_lib.model(method.init(jax.random.key(0), {'x': X}))
  with pytest.raises(ValueError, match='unconditional'):
    method.sample(model, jax.random.key(0), 2, condition=jnp.zeros(2))


def semi_supervised(rates):
  txs = {name: optax.sgd(rate) for name, rate in rates.items()}
  return semi.semi_supervised_aae(
    mlp.MLP((4,)), mlp.MLP((3,)), mlp.MLP((1,)), mlp.MLP((1,)), txs,
    prior=lambda key, num: Z[:num], num_classes=2,
  )  # fmt: skip


OBJECTIVES = (
  'reconstruction', 'class_discriminator', 'style_discriminator', 'encoder',
  'supervised',
)  # fmt: skip


def step_of(objective):
  """Takes a step in which one objective alone has a rate: params before and after."""
  rates = {name: 0.1 * (name == objective) for name in OBJECTIVES}
  method = compiled(semi_supervised(rates))
  batch = {'x': X, 'label': LABEL}
  state = method.init(jax.random.key(0), batch)
  return state.params, method.step(state, jax.random.key(1), batch)[0].params


def code(weights, x):
  out = linear(weights['body'], x)
  return jax.nn.softmax(out[:, :2]), out[:, 2:]


def test_only_labelled_examples_teach_the_class():
  before, after = step_of('supervised')

  def cross_entropy(e):
    y, _ = code(e, X)
    each = [-jnp.log(y[i, LABEL[i]]) for i in (0, 1, 3, 4)]
    return sum(each) / 4

  expected = {**before, 'encoder': down(0.1, cross_entropy, before['encoder'])}
  chex.assert_trees_all_close(after, expected, rtol=1e-4, atol=1e-6)


def test_the_encoder_fools_both_discriminators():
  before, after = step_of('encoder')

  def fooled(e):
    y, s = code(e, X)
    of_class = log_sigmoid(linear(before['class_discriminator'], y)).mean()
    return -of_class - log_sigmoid(linear(before['style_discriminator'], s)).mean()

  expected = {**before, 'encoder': down(0.1, fooled, before['encoder'])}
  chex.assert_trees_all_close(after, expected, rtol=1e-4, atol=1e-6)


def test_the_style_is_held_to_the_prior_and_the_error_to_the_data():
  before, after = step_of('style_discriminator')

  def d_loss(d):
    fake = log_sigmoid(-linear(d, code(before['encoder'], X)[1])).mean()
    return -log_sigmoid(linear(d, Z)).mean() - fake

  new = down(0.1, d_loss, before['style_discriminator'])
  expected = {**before, 'style_discriminator': new}
  chex.assert_trees_all_close(after, expected, rtol=1e-4, atol=1e-6)

  before, after = step_of('reconstruction')

  def error(pair):
    again = linear(pair['decoder'], jnp.concatenate(code(pair['encoder'], X), 1))
    return ((X - again) ** 2).sum(1).mean()

  pair = {name: before[name] for name in ('encoder', 'decoder')}
  expected = {**before, **down(0.1, error, pair)}
  chex.assert_trees_all_close(after, expected, rtol=1e-4, atol=1e-6)


def test_without_a_label_in_the_batch_there_is_no_gradient_and_no_nan():
  logits = jnp.ones((3, 4))
  none = functools.partial(semi.cross_entropy, label=jnp.full(3, -1))
  assert none(logits) == 0
  np.testing.assert_array_equal(jax.grad(none)(logits), 0 * logits)
  one = semi.cross_entropy(logits, jnp.array([-1, 2, -1]))
  np.testing.assert_allclose(one, np.log(4), rtol=1e-6)


def test_missing_optimizers_and_classes_are_refused():
  with pytest.raises(ValueError, match='txs must be of'):
    semi_supervised({'encoder': 0.1})
  with pytest.raises(ValueError, match='num_classes must be >= 2'):
    semi.semi_supervised_aae(*[None] * 4, {}, prior=None, num_classes=1)


def test_ring_mixture_has_the_moments_of_its_components():
  ring = priors.ring_mixture(4, radius=3.0, radial_std=0.5, tangential_std=0.1)
  label = jnp.repeat(jnp.arange(4), 4000)
  z = ring(jax.random.key(0), label).reshape(4, 4000, 2)
  means = 3.0 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
  np.testing.assert_allclose(z.mean(1), means, atol=0.03)
  stds = np.array([[0.5, 0.1], [0.1, 0.5]] * 2)
  np.testing.assert_allclose(z.std(1), stds, rtol=0.05)
  whole = priors.mixture(ring, 4)(jax.random.key(1), 8000)
  nearest = np.argmin(((whole[:, None] - means) ** 2).sum(-1), 1)
  assert np.abs(np.bincount(nearest) - 2000).max() < 4 * np.sqrt(8000 * 3 / 16)
  with pytest.raises(ValueError, match='must be > 0'):
    priors.ring_mixture(4, radius=0.0, radial_std=0.5, tangential_std=0.1)
