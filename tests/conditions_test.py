"""Conditions against their closed forms: values, nulls, dropping, guidance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import conditions

LABEL = jnp.array([2, 0, -1])
KEY = jax.random.key(0)


def test_a_class_is_its_unit_vector_and_no_class_is_the_origin():
  condition = conditions.by_class(3)
  expected = np.array([[0, 0, 1], [1, 0, 0], [0, 0, 0]], np.float32)
  np.testing.assert_array_equal(conditions.embedded(condition, LABEL), expected)
  null = jnp.full(3, condition.null)
  np.testing.assert_array_equal(conditions.embedded(condition, null), 0 * expected)


def test_numbers_and_tokens_are_themselves():
  numbers = np.array([[0.5, -2.0], [3.0, 0.0]])
  found = conditions.embedded(conditions.by_value(2), numbers)
  np.testing.assert_array_equal(found, numbers)
  assert found.dtype == jnp.float32
  tokens = np.array([[3, 1, 0]], np.uint8)
  found = conditions.embedded(conditions.by_tokens(3), tokens)
  np.testing.assert_array_equal(found, tokens)
  assert found.dtype == jnp.int32


def test_a_batch_has_the_condition_under_its_name():
  batch = {'x': jnp.zeros((3, 2)), 'label': LABEL, 'condition': jnp.ones((3, 1))}
  by_class, by_value = conditions.by_class(3), conditions.by_value(1)
  assert conditions.from_batch(None, batch) is None
  assert conditions.from_batch(by_class, batch) is LABEL
  both = conditions.several(by_class, by_value)
  assert conditions.from_batch(both, batch) == {
    'label': LABEL, 'condition': batch['condition'],
  }  # fmt: skip
  assert [conditions.names(c) for c in (None, by_class, both)] == [
    (), ('label',), ('label', 'condition'),
  ]  # fmt: skip


def test_several_embed_each_its_own_and_side_by_side():
  both = conditions.several(conditions.by_class(3), conditions.by_value(2))
  value = {'label': LABEL, 'condition': jnp.arange(6.0).reshape(3, 2)}
  embedding = conditions.embedded(both, value)
  np.testing.assert_array_equal(embedding['label'], jnp.eye(3)[LABEL].at[2].set(0))
  np.testing.assert_array_equal(embedding['condition'], value['condition'])
  flat = conditions.embedded(conditions.concatenated(both), value)
  expected = np.concatenate([embedding['label'], embedding['condition']], axis=1)
  np.testing.assert_array_equal(flat, expected)  # as declared


def test_an_optional_condition_left_out_is_the_nulls_embedding():
  one = conditions.optional(conditions.by_class(3), 0.1)
  left_out = conditions.embedded(one, None, 4)
  np.testing.assert_array_equal(left_out, conditions.embedded(one, jnp.full(4, -1)))
  both = conditions.several(conditions.by_class(3), conditions.by_value(2))
  left_out = conditions.embedded(conditions.optional(both, 0.1), None, 4)
  np.testing.assert_array_equal(left_out['label'], np.zeros((4, 3)))
  np.testing.assert_array_equal(left_out['condition'], np.zeros((4, 2)))


def test_examples_lose_their_condition_at_the_rate_and_nothing_else_changes():
  num, rate = 20_000, 0.3
  label = jax.random.randint(KEY, (num,), 0, 3)
  condition = conditions.optional(conditions.by_class(3), rate)
  found = np.asarray(conditions.dropped(condition, jax.random.key(1), label))
  lost = found == -1
  np.testing.assert_array_equal(found[~lost], label[~lost])
  error = np.sqrt(rate * (1 - rate) / num)
  assert abs(lost.mean() - rate) < 4 * error
  for k in range(3):  # whatever the class
    of_class = np.asarray(label) == k
    assert abs(lost[of_class].mean() - rate) < 4 * error * np.sqrt(3.2)
  other = conditions.dropped(condition, jax.random.key(2), label)
  assert ((other == -1) != lost).any()


def test_a_lost_class_of_bytes_is_none_of_the_256():
  condition = conditions.optional(conditions.by_class(256), 0.5)
  batch = {'label': jnp.full(40, 7, jnp.uint8)}
  embedding = np.asarray(conditions.training_embedding(condition, KEY, batch))
  kept = embedding[:, 7] == 1
  assert 0 < kept.sum() < 40 and not embedding[~kept].any()


def test_several_are_lost_together_or_kept_together():
  both = conditions.several(conditions.by_class(3), conditions.by_value(2))
  both = conditions.optional(both, 0.5)
  value = {'label': jnp.ones(400, int), 'condition': 7.0 * jnp.ones((400, 2))}
  found = conditions.dropped(both, KEY, value)
  lost = np.asarray(found['label']) == -1
  assert 140 < lost.sum() < 260  # six standard deviations of a fair coin
  np.testing.assert_array_equal(found['condition'], np.where(lost[:, None], 0.0, 7.0)
                                * np.ones((1, 2)))  # fmt: skip
  assert found['label'].dtype == value['label'].dtype


@pytest.mark.parametrize('make', [lambda: None, lambda: conditions.by_class(3)])
def test_without_a_rate_nothing_is_lost_and_no_key_is_used(make):
  condition, batch = make(), {'x': jnp.zeros(3), 'label': LABEL}
  value = conditions.from_batch(condition, batch)
  assert conditions.dropped(condition, None, value) is value
  found = conditions.training_embedding(condition, None, batch)
  expected = conditions.embedded(condition, value)
  if condition is None:
    assert found is expected is None
  else:
    np.testing.assert_array_equal(found, expected)


def test_training_drops_by_a_stream_of_its_own():
  condition = conditions.optional(conditions.by_class(3), 0.5)
  batch = {'label': jnp.ones(200, int)}
  one, again = (conditions.training_embedding(condition, KEY, batch) for _ in range(2))
  np.testing.assert_array_equal(one, again)
  assert 50 < np.asarray(one).sum() < 150
  # Not what a method draws from the same key's parts.
  for key in (KEY, *jax.random.split(KEY, 8)):
    value = conditions.dropped(condition, key, batch['label'])
    assert (conditions.embedded(condition, value) != one).any()


@pytest.mark.parametrize('scale', [0.0, 1.0, 2.0])
def test_guidance_is_a_line_through_both_outputs(scale):
  conditional = {'a': jnp.array([[1.0, -3.0]]), 'b': jnp.array([4.0])}
  unconditional = {'a': jnp.array([[0.5, 1.0]]), 'b': jnp.array([-2.0])}
  found = conditions.guided(conditional, unconditional, scale)
  expected = {
    0.0: unconditional,
    1.0: conditional,
    2.0: {'a': [[1.5, -7.0]], 'b': [10.0]},
  }[scale]
  for name in found:
    np.testing.assert_allclose(found[name], expected[name])


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda: conditions.embedded(None, LABEL), 'unconditional: condition must be None'),
    (lambda: conditions.embedded(conditions.by_class(3), None, 2),
     r'needs a condition, label \[B, ...\]'),
    (lambda: conditions.embedded(
      conditions.optional(conditions.by_class(3), 0.1), None),
     r'needs a condition, label'),
    (lambda: conditions.embedded(conditions.by_class(3), LABEL, 2),
     r'for 2 examples must be \[2, ...\], got \[3\]'),
    (lambda: conditions.check_num(1, 2), r'must be \[2, ...\], got \[\]'),
    (lambda: conditions.from_batch(conditions.by_class(3), {'x': 0, 'text': 0}),
     r"needs 'label' in its batches, which have \['text', 'x'\]"),
    (lambda: conditions.optional(conditions.by_class(3), 1.0), r'in \(0, 1\), got 1.0'),
    (lambda: conditions.optional(conditions.by_value(), 0.5), 'has no null'),
    (lambda: conditions.several(conditions.by_class(3), conditions.by_class(2)),
     'one batch key each'),
    (lambda: conditions.several(conditions.several(conditions.by_class(3))),
     'one batch key each'),
  ],
)  # fmt: skip
def test_refusals_are_one_line(call, words):
  with pytest.raises(ValueError, match=words) as found:
    call()
  assert '\n' not in str(found.value)
