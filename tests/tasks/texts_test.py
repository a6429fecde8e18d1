"""Agreement, margin and retrieval of methods that know all, half, or nothing."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import transforms
from gm_jax.tasks import results, texts

KEY = jax.random.key(0)
N = 600
rng = np.random.default_rng(0)
# Two attributes: words 1, 2, 3 at place 0 and 4, 5 at place 2; x shows both as numbers.
TEXT = np.stack(
  [rng.integers(1, 4, N), np.zeros(N, int), rng.integers(4, 6, N)], axis=1
).astype(np.int32)
X = TEXT[:, [0, 2]].astype(np.float32)
PART = base.Part((3,), np.dtype(np.int32), 6, transforms.tokens())
SPEC = base.DataSpec(
  (2,), np.dtype(np.float32), None, None, None, transforms.identity(), {'text': PART}
)
# Held out: the first word is 1 nine times in ten, so that captions agree more often.
SKEWED = TEXT[:400].copy()
SKEWED[:, 0] = np.where(np.arange(400) % 10, 1, 2)
ARRAYS = {
  'test': {'x': X, 'text': TEXT},
  'held_out': {'x': SKEWED[:, [0, 2]].astype(np.float32), 'text': SKEWED},
}


def reader(column, tokens):
  return lambda x: -jnp.abs(x[:, column, None] - jnp.asarray(tokens, jnp.float32))


ATTRIBUTES = {
  'first': texts.Attribute(0, np.array([1, 2, 3]), reader(0, [1, 2, 3]), 1.0),
  'last': texts.Attribute(2, np.array([4, 5]), reader(1, [4, 5]), 0.984),
}


def method(sample=None, **queries):
  card = types.SimpleNamespace(condition=('text',))
  return types.SimpleNamespace(card=card, sample=sample, queries=queries)


def numbers(task, *args, **more):
  return results.numbers(task(*args, None, KEY, ARRAYS, SPEC, **more))


@pytest.mark.slow
@pytest.mark.slow
def test_a_model_that_draws_what_it_is_told_agrees_and_others_by_chance():
  def obedient(model, key, num, *, condition):
    return condition[:, jnp.array([0, 2])].astype(jnp.float32)

  def half(model, key, num, *, condition):
    drawn = jax.random.randint(key, (num,), 1, 4)
    return obedient(model, key, num, condition=condition).at[:, 0].set(drawn)

  found = numbers(texts.agreement, method(obedient), attributes=ATTRIBUTES)
  for split in ARRAYS:
    for name in ('first', 'last', 'all'):
      assert found[f'{split}_{name}'] == 1
    # Chance is what a model has that draws what it is told, of captions of others.
    assert found[f'{split}_mismatched'] == found[f'{split}_chance']
  # Another's caption differs in a word at least: below the chance of 1/3 and 1/2.
  assert 0.2 < found['test_chance'] < 5 / 12 + 0.05
  # By the next that differs: 0.8 of the first words agree where the last do not, ...
  assert found['held_out_chance'] > found['test_chance'] + 0.1
  found = numbers(texts.agreement, method(half), attributes=ATTRIBUTES)
  assert found['test_last'] == 1 and found['test_all'] == found['test_first']
  assert abs(float(found['test_first']) - 1 / 3) < 5 * np.sqrt(2 / 9 / N)
  kinds = texts.agreement(
    method(half), None, KEY, ARRAYS, SPEC, attributes=ATTRIBUTES
  ).values
  assert 'N = 600' in kinds['test_first'][1]
  assert 'right on 98.4% of real images' in kinds['test_last'][1]
  blind = method(obedient)
  blind.card.condition = ()
  with pytest.raises(ValueError, match='agreement needs captions'):
    numbers(texts.agreement, blind, attributes=ATTRIBUTES)


def test_classes_are_places_among_the_words_and_other_words_are_none():
  found = texts.classes_of(jnp.asarray([[3, 0, 4], [7, 0, 5]]), ATTRIBUTES['first'])
  assert found.tolist() == [2, -1]


def test_margin_is_the_mean_difference_of_logits():
  def critic(model, key, x, *, condition):
    return -jnp.abs(x - condition[:, jnp.array([0, 2])]).sum(axis=1)

  found = numbers(texts.margin, method(critic=critic))
  assert found['margin'] > 0.5 and found['margin_positive'] == 1
  blind = method(critic=lambda model, key, x, *, condition: x[:, 0])
  found = numbers(texts.margin, blind)
  assert found['margin'] == 0 and found['margin_positive'] == 0
  unconditional = method(critic=critic)
  unconditional.card.condition = ()
  with pytest.raises(ValueError, match='needs a model with a condition'):
    numbers(texts.margin, unconditional)


def test_retrieval_is_right_of_features_that_know_and_chance_of_those_that_do_not():
  def known(model, key, x, *, condition):
    asked = condition[:, 0] * 10 + condition[:, 2]
    seen = x[:, 0] * 10 + x[:, 1]
    return {'image': jax.nn.one_hot(seen, 50), 'text': jax.nn.one_hot(asked, 50)}

  def unknown(model, key, x, *, condition):
    each = jax.random.normal(KEY, (2, len(x), 8))
    return {'image': each[0], 'text': each[1]}

  def turned(model, key, num, *, condition):  # the first word is drawn, the last not
    return condition[:, jnp.array([0, 2])].at[:, 1].set(4).astype(jnp.float32)

  found = numbers(texts.retrieval, method(turned, encode=known))
  assert found['retrieval'] == 1
  assert abs(float(found['retrieval_of_samples']) - 1 / 2) < 0.1  # of one last word
  found = numbers(texts.retrieval, method(encode=unknown))
  # Of six captions, each many times.
  assert abs(float(found['retrieval']) - 1 / 6) < 0.08
  assert abs(float(found['retrieval_chance']) - 1 / 6) < 0.02
  with pytest.raises(ValueError, match='block must be from 2 to 600, got 700'):
    numbers(texts.retrieval, method(encode=known), block=700)
  with pytest.raises(ValueError, match="needs the query 'encode'"):
    numbers(texts.retrieval, method())
