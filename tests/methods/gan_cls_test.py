"""GAN-CLS by hand, what is mismatched, interpolation, frozen encoders, StackGAN."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows import texts as rows
from scipy import special

from gm_jax import base, conditions, players, priors, text_features
from gm_jax.methods import contrastive, gan_cls, stack_gan
from gm_jax.models import text as text_lib

KEY = jax.random.key(0)


class Line(nn.Module):
  """G(z, t) = z + w t, of one number each."""

  @nn.compact
  def __call__(self, z, text, *, train=False):
    return z + self.param('w', nn.initializers.constant(0.5), ()) * text


class Product(nn.Module):
  """D(x, t) = a x + b x t."""

  @nn.compact
  def __call__(self, x, text, *, train=False):
    a = self.param('a', nn.initializers.constant(0.3), ())
    b = self.param('b', nn.initializers.constant(-0.7), ())
    return (a * x + b * x * text)[:, 0]


def fixed(key, num):
  del key
  return jnp.linspace(-1.0, 1.0, num)[:, None]


X = np.array([[0.2], [1.0], [-0.5], [2.0]], np.float32)
T = np.array([[1.0], [1.0], [2.0], [-1.0]], np.float32)
OTHER = [2, 2, 3, 0]  # the next text that differs: not a roll by one


def by_hand(method_options, w):
  method = gan_cls.gan_cls(
    Line(), Product(), optax.sgd(0.1), optax.sgd(0.1), prior=fixed,
    source=text_features.embeddings(1), mismatch=w, **method_options,
  )  # fmt: skip
  batch = {'x': jnp.asarray(X), 'condition': jnp.asarray(T)}
  state = method.init(KEY, batch)
  return state, *jax.jit(method.step)(state, KEY, batch)


def logit(a, b, x, t):
  return (a * x + b * x * t)[:, 0]


@pytest.mark.parametrize('interpolate', [False, True])
def test_one_step_is_that_of_numpy(interpolate):
  w = 0.3
  state, after, metrics = by_hand({'interpolate': interpolate}, w)
  a, b, g = 0.3, -0.7, 0.5
  z = np.linspace(-1, 1, 4)[:, None]
  real, wrong = logit(a, b, X, T), logit(a, b, X, T[OTHER])
  fake_x = z + g * T
  fake = logit(a, b, fake_x, T)
  softplus = lambda x: np.logaddexp(0, x)  # noqa: E731
  loss = softplus(-real) + w * softplus(wrong) + (1 - w) * softplus(fake)
  np.testing.assert_allclose(metrics['discriminator_loss'], loss.mean(), rtol=1e-5)
  slopes = (
    -special.expit(-real),
    w * special.expit(wrong),
    (1 - w) * special.expit(fake),
  )
  xs, ts = (X, X, fake_x), (T, T[OTHER], T)
  da = sum((s * x[:, 0]).mean() for s, x in zip(slopes, xs, strict=True))
  db = sum(
    (s * x[:, 0] * t[:, 0]).mean() for s, x, t in zip(slopes, xs, ts, strict=True)
  )
  a, b = a - 0.1 * da, b - 0.1 * db
  new = after.params[players.DISCRIMINATOR]
  np.testing.assert_allclose([new['a'], new['b']], [a, b], rtol=1e-5)

  # The generator, against the new discriminator; 2/3 and 1/3 where texts lie between.
  t = np.concatenate([T, (T[:2] + T[2:]) / 2]) if interpolate else T
  z = np.linspace(-1, 1, len(t))[:, None]
  fake = logit(a, b, z + g * t, t)
  each = softplus(-fake)
  expected = each.mean()
  if interpolate:
    expected = 2 / 3 * each[:4].mean() + 1 / 3 * each[4:].mean()
  np.testing.assert_allclose(metrics['generator_loss'], expected, rtol=1e-5)
  dg = (-special.expit(-fake) * (a + b * t[:, 0]) * t[:, 0]).mean()
  found = after.params[players.GENERATOR]['w']
  np.testing.assert_allclose(found, g - 0.1 * dg, rtol=1e-5)


def test_mismatched_texts_differ_where_any_do_and_cost_nothing_where_none_does():
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, 2, (40, 2))
  index, found = conditions.mismatched(jnp.asarray(tokens))
  assert found.all() and (tokens[np.asarray(index)] != tokens).any(axis=1).all()
  for i, j in enumerate(np.asarray(index)):  # all between are the same
    between = [(i + k) % 40 for k in range(1, (j - i) % 40)]
    assert (tokens[between] == tokens[i]).all()
  index, found = conditions.mismatched(jnp.ones((3, 2), int))
  assert not found.any() and index.tolist() == [0, 1, 2]
  method = rows.from_embeddings(lambda tx: tx, priors.normal(4))
  batch = {'x': jnp.ones((4, 2)), 'condition': jnp.ones((4, 2))}
  state, metrics = jax.jit(method.step)(method.init(KEY, batch), KEY, batch)
  chex.assert_tree_all_finite((state.params, metrics))


class Blank(nn.Module):
  """D(x, t) = 1 where t is zero, else 0."""

  @nn.compact
  def __call__(self, x, text, *, train=False):
    a = self.param('a', nn.initializers.zeros, ())
    return jnp.where(text[:, 0] == 0, 1.0, 0.0) + a * x[:, 0]


def test_a_text_that_is_left_out_is_never_a_wrong_one():
  condition = conditions.optional(conditions.by_value(1), 0.5)
  method = gan_cls.gan_cls(
    Line(), Blank(), optax.sgd(0.0), optax.sgd(0.0), prior=fixed,
    source=text_features.by_condition(condition),
  )  # fmt: skip
  batch = {'x': jnp.ones((64, 1)), 'condition': 1.0 + jnp.arange(64.0)[:, None]}
  _, metrics = jax.jit(method.step)(method.init(KEY, batch), KEY, batch)
  assert metrics['wrong_logits'] == 0
  assert abs(metrics['real_logits'] - 0.5) < 5 * np.sqrt(0.25 / 64)


def test_classes_are_conditions_too():
  source = text_features.by_condition(conditions.by_class(3))

  class Table(nn.Module):
    @nn.compact
    def __call__(self, z, label, *, train=False):
      table = self.param('table', lambda key: jnp.array([5.0, 6.0, 7.0]))
      return 0 * z + (label @ table)[:, None]

  method = gan_cls.gan_cls(
    Table(), Blank(), optax.sgd(0.0), optax.sgd(0.0), prior=fixed, source=source
  )
  batch = {'x': jnp.ones((4, 1)), 'label': jnp.array([0, 0, 2, 1])}
  state, _ = jax.jit(method.step)(method.init(KEY, batch), KEY, batch)
  model = base.Model(state.params, state.extra)
  found = method.sample(model, KEY, 3, condition=jnp.array([2, 0, 1]))
  assert found.ravel().tolist() == [7, 5, 6]


def test_words_are_left_out_at_their_rate_and_embeddings_are_not():
  tokens = jnp.ones((200, 50), jnp.int32)
  found = conditions.without_words(KEY, tokens, 0.2)
  assert abs(float((found == 0).mean()) - 0.2) < 5 * np.sqrt(0.16 / 10_000)
  assert conditions.without_words(KEY, tokens, 0.0) is tokens
  short = conditions.without_words(KEY, tokens[:, :2], 0.6)
  assert (short == 0).any() and (short != 0).any(axis=1).all()  # a word stays
  numbers = jnp.ones((2, 3))
  assert conditions.without_words(KEY, numbers, 0.2) is numbers
  with pytest.raises(ValueError, match=r'word_dropout must be in \[0, 1\)'):
    rows.gan_cls.gan_cls(
      Line(), Product(), None, None, prior=fixed, source=None, word_dropout=1.0
    )


def test_the_contrastive_loss_is_both_cross_entropies_less_the_logarithm_of_b():
  method = rows.pair(lambda tx: tx, None)
  batch = rows.described(6)(KEY)
  state = method.init(KEY, batch)
  plain = contrastive.contrastive(
    rows.encoders(), optax.sgd(0.1), condition=rows.CONDITION
  )
  _, metrics = jax.jit(plain.step)(plain.init(KEY, batch), KEY, batch)
  model = base.Model(state.params, state.extra)
  found = method.queries['encode'](model, None, batch['x'], condition=batch['text'])
  unit = {k: v / np.linalg.norm(v, axis=1, keepdims=True) for k, v in found.items()}
  s = np.asarray(unit['image'] @ unit['text'].T) / 0.07
  both = [s - special.logsumexp(s, axis=i, keepdims=True) for i in (0, 1)]
  bound = np.mean([np.diag(each).mean() for each in both]) + np.log(6)
  np.testing.assert_allclose(metrics['information'], bound, rtol=1e-4)
  np.testing.assert_allclose(metrics['loss'], -bound, rtol=1e-4)


@pytest.mark.slow
def test_the_encoder_is_that_of_the_phase_before_and_stays_as_it_is():
  first = rows.pair(lambda tx: tx, None)
  method = rows.from_tokens(lambda tx: tx, priors.normal(4))
  batch = rows.described(6)(KEY)
  before = first.init(jax.random.key(5), batch)._replace(step=jnp.int32(7))
  state = contrastive.after_encoder(method)(KEY, before, batch)
  assert state.step == 7
  step = jax.jit(method.step)
  after, _ = step(step(state, KEY, batch)[0], KEY, batch)
  frozen = after.extra[base.FROZEN][contrastive.ENCODERS]
  chex.assert_trees_all_equal(frozen, base.Model(before.params, before.extra))
  both = (before, first.queries), (after, method.queries)
  found = [
    queries['encode'](
      base.Model(state.params, state.extra), None, batch['x'], condition=batch['text']
    )
    for state, queries in both
  ]
  chex.assert_trees_all_equal(*found)


@pytest.mark.slow
def test_stage_two_refines_what_the_frozen_stage_one_draws():
  first = rows.first_stage(lambda tx: tx)
  second = rows.second_stage(lambda tx: tx, None)
  batch = rows.embedded(6)(KEY)
  before = jax.jit(first.step)(first.init(KEY, batch), KEY, batch)[0]
  state = stack_gan.after_stage_one(second)(KEY, before, batch)
  step = jax.jit(second.step)
  after, metrics = step(step(state, KEY, batch)[0], KEY, batch)
  frozen = after.extra[base.FROZEN][stack_gan.STAGE_ONE]
  chex.assert_trees_all_equal(
    frozen, base.Model(before.params, before.extra)
  )  # bitwise
  assert metrics['regularizer'] >= 0
  model, z = base.Model(after.params, after.extra), jax.random.normal(KEY, (6, 6))
  text = batch['condition']
  found = second.queries['decode'](model, None, z, condition=text)
  old = base.Model(before.params, before.extra)
  small = first.queries['decode'](old, None, z[:, :4], condition=text)
  generator = rows.augmented()['generator']
  expected = generator.apply(
    {'params': after.params[players.GENERATOR]}, (small, z[:, 4:]), text
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_conditions_cost_is_twice_the_mean_over_dimensions_and_batch():
  generator = rows.augmented()['generator']
  text = jnp.array([[1.0, -2.0], [0.5, 3.0], [0.0, 0.0]])
  params = generator.init(KEY, jnp.zeros((3, 4)), text)['params']
  mean, log_std = generator.apply({'params': params}, text, text, method='moments')
  each = (np.exp(2 * np.asarray(log_std)) - 1 + np.asarray(mean) ** 2) / 2 - log_std
  found = stack_gan.conditioning(generator)(params, {}, text)
  np.testing.assert_allclose(found.mean(), 2 * each.mean(), rtol=1e-5)
  with pytest.raises(ValueError, match='weight of the KL must be >= 0'):
    stack_gan.conditioning(generator, -1.0)
  with pytest.raises(ValueError, match=r'mismatch must be in \[0, 1\]'):
    by_hand({}, 2.0)


def test_a_text_of_unit_features_scores_itself_highest():
  model = base.Model({contrastive.SCALE: jnp.float32(10.0)}, {})
  x = jnp.eye(3)
  found = contrastive.scores(model, 5 * x, x)
  np.testing.assert_allclose(found, 100 * np.eye(3), rtol=1e-5)  # at most ln 100
  assert text_lib.as_unit(x).shape == (3, 3)
