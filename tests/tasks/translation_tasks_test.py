"""Tasks of translation, with translators that are known: shifts of the brightness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import transforms
from gm_jax.methods import cycle_gan
from gm_jax.tasks import results, translation

WAY = transforms.scaling(256)
IMAGES = (4, 4, 1), jnp.dtype('f4'), 256
Y, DOMAIN = (
  base.Part(*IMAGES, WAY),
  base.Part((), jnp.dtype('i4'), 3, transforms.tokens()),
)
TWO = base.DataSpec(*IMAGES, None, None, WAY, {'y': Y})
MANY = base.DataSpec(*IMAGES, 2, None, WAY, {'domain': DOMAIN})
LEVEL = 2 / 255  # of a pixel, in model space
RAW = np.random.default_rng(0).integers(60, 100, (6, 4, 4, 1), np.uint8)


def method_of(translate):
  return base.Method(cycle_gan.CARD, None, None, queries={'translate': translate})


def shift(model, key, x, *, condition):
  """To y 50 levels up, to x 50 down; `model` is an error of every pixel."""
  return x + (50 * LEVEL if condition else -50 * LEVEL) + model


def numbers(found):
  return {name: float(value) for name, value in results.numbers(found).items()}


def test_errors_of_two_domains_are_those_of_the_translator():
  arrays = {'pairs': {'x': RAW, 'y': RAW + 50}}
  exact = numbers(translation.two_domains(method_of(shift), 0.0, None, arrays, TWO))
  np.testing.assert_allclose(exact.pop('unchanged'), 50 * LEVEL, rtol=1e-5)
  assert set(exact) == {'to_y', 'to_x', 'back_to_x', 'back_to_y'}
  np.testing.assert_allclose(list(exact.values()), 0, atol=1e-6)
  wrong = numbers(translation.two_domains(method_of(shift), 0.1, None, arrays, TWO))
  np.testing.assert_allclose([wrong['to_y'], wrong['to_x']], 0.1, rtol=1e-5)
  np.testing.assert_allclose(wrong['back_to_x'], 0.2, rtol=1e-5)
  # Without pairs nothing is said of the truth.
  test = {'test': arrays['pairs']}
  alone = translation.two_domains(method_of(shift), 0.1, None, test, TWO)
  assert set(numbers(alone)) == {'back_to_x', 'back_to_y'}


def to_domain(model, key, x, *, condition):
  """Domain k has a mean of 0.2 k; x is brought there."""
  mean = x.mean(axis=(1, 2, 3), keepdims=True)
  return x - mean + 0.2 * jnp.broadcast_to(condition, len(x))[:, None, None, None]


def read_domain(x):
  return -jnp.abs(x.mean(axis=(1, 2, 3))[:, None] - 0.2 * jnp.arange(3))


def read_label(x):
  """Class 1 where the first row is brighter than the last."""
  gap = (x[:, 0] - x[:, -1]).mean(axis=(1, 2))
  return jnp.stack([-gap, gap], axis=1)


def many():
  """Raw images that belong together, [N, 3, ...], and their labels."""
  rng, level = np.random.default_rng(1), 127.5
  slope = np.linspace(1, -1, 4)[:, None, None] * rng.choice([-1, 1], (5, 1, 1, 1))
  x = (
    0.3 * slope * np.ones((5, 4, 4, 1)) + 0.2 * np.arange(3)[:, None, None, None, None]
  )
  raw = np.round(level + level * x).astype(np.uint8).swapaxes(0, 1)
  return {'x': raw, 'label': (slope[:, 0, 0, 0] > 0).astype(np.int32)}


def test_translations_between_many_domains_are_read_and_measured():
  reads = {'domains': read_domain, 'labels': read_label}

  def found(translate, arrays):
    task = jax.jit(lambda: results.numbers(translation.many_domains(
      method_of(translate), None, None, arrays, MANY, **reads)))  # fmt: skip
    return {name: float(value) for name, value in task().items()}

  pairs = many()
  right = found(to_domain, {'pairs': pairs})
  assert right['domain_accuracy'] == right['label_kept'] == 1
  np.testing.assert_allclose([right['paired'], right['back']], 0, atol=LEVEL)
  # Domains are 0.2, 0.4 apart: of the six ways four are of the first kind.
  np.testing.assert_allclose(right['unchanged'], (4 * 0.2 + 2 * 0.4) / 6, atol=LEVEL)
  same = found(lambda m, k, x, *, condition: x, {'pairs': pairs})
  assert same['domain_accuracy'] == 0 and same['label_kept'] == 1
  np.testing.assert_allclose(same['paired'], same['unchanged'])
  over = found(lambda m, k, x, *, condition: -x, {'pairs': pairs})
  assert over['label_kept'] == 0
  # Of images that do not belong together there is no truth.
  test = {'x': pairs['x'].reshape(-1, 4, 4, 1), 'domain': np.tile(np.arange(3), 5)}
  alone = found(to_domain, {'test': test})
  assert set(alone) == {'domain_accuracy', 'back'} and alone['domain_accuracy'] == 1


def test_images_are_translated_into_the_other_space_and_back():
  arrays = {'test': {'x': RAW, 'y': RAW + 50}}
  call = translation.translate
  there = call(method_of(shift), 0.0, None, arrays, TWO, condition=1).arrays
  np.testing.assert_array_equal(there['inputs'], RAW)
  np.testing.assert_array_equal(there[results.OUTPUTS], RAW + 50)
  np.testing.assert_array_equal(there['back'], RAW)
  assert there[results.GRID].shape == (3, 6, 4, 4, 1)
  back = call(method_of(shift), 0.0, None, arrays, TWO, condition=0).arrays
  np.testing.assert_array_equal(back['inputs'], RAW + 50)
  np.testing.assert_array_equal(back[results.OUTPUTS], RAW)
  # Images of one's own have no domain, and no way back where there are many.
  own = call(method_of(to_domain), None, None, {'test': {'x': RAW}}, MANY, condition=2)
  assert 'back' not in own.arrays and own.arrays[results.GRID].shape[0] == 2


def styled(model, key, x, *, condition, reference=None):
  """To a domain's mean, as `to_domain`; the style is the upper left pixel."""
  if reference is None:
    corner = jax.random.uniform(key, (len(x),))
  else:
    corner = reference[:, 0, 0, 0]
  out = to_domain(model, key, x, condition=condition)
  return out.at[:, 0, 0, 0].set(corner)


def test_an_image_comes_back_in_its_own_style():
  pairs = many()
  x = pairs['x'].reshape(-1, 4, 4, 1)
  test = {'x': x, 'domain': np.tile(np.arange(3), 5)}

  @jax.jit
  def measured(key):
    return results.numbers(translation.many_domains(
      method_of(styled), None, key, {'pairs': pairs}, MANY, domains=read_domain
    ))  # fmt: skip

  # The corner moves the mean of the others by a sixteenth of it, and comes back itself.
  assert measured(jax.random.key(0))['back'] < 0.03
  found = translation.translate(
    method_of(styled), None, jax.random.key(0), {'test': test}, MANY, condition=1
  )
  corner = found.arrays['back'][:, 0, 0, 0].astype(int)
  np.testing.assert_allclose(corner, x[:, 0, 0, 0], atol=1)
  # All in the style of the image of an index.
  options = {'condition': 1, 'reference': 4}
  found = translation.translate(
    method_of(styled), None, None, {'test': test}, MANY, **options
  )
  corner = found.arrays[results.OUTPUTS][:, 0, 0, 0].astype(int)
  np.testing.assert_allclose(corner, x[4, 0, 0, 0], atol=1)
  for translator, reference, word in (
    (styled, 15, 'reference must be from 0 to 14, got 15'),
    (to_domain, 0, 'takes no reference'),
  ):
    with pytest.raises(ValueError, match=word):
      translation.translate(
        method_of(translator), None, None, {'test': test}, MANY, condition=1,
        reference=reference,
      )  # fmt: skip


def test_diversity_is_the_difference_of_two_styles():
  """Of images that are their corner alone, the rest being zero."""
  rng, key = np.random.default_rng(2), jax.random.key(0)
  raw = np.full((6, 4, 4, 1), 127, np.uint8)
  raw[:, 0, 0, 0] = rng.integers(0, 256, 6)
  test = {'x': raw, 'domain': np.array([0, 1, 1, 0, 1, 2])}

  def corner(model, key, x, *, condition, reference=None):
    drawn = jax.random.uniform(key, (len(x),))
    value = drawn if reference is None else reference[:, 0, 0, 0]
    return jnp.zeros_like(x).at[:, 0, 0, 0].set(value)

  def found(translate):
    task = jax.jit(lambda key: results.numbers(translation.styles(
      method_of(translate), None, key, {'test': test}, MANY)))  # fmt: skip
    return {name: float(value) for name, value in task(key).items()}

  one, other = (jax.random.uniform(k, (6,)) for k in jax.random.split(key))
  numbers = found(corner)
  np.testing.assert_allclose(
    numbers['diversity'], np.abs(one - other).mean() / 16, rtol=1e-5
  )
  # References are neighbors in their domain, which of 1 are three and of 2 one alone.
  gaps = []
  for members in ((0, 3), (1, 2, 4), (5,)):
    value = np.resize(raw[list(members), 0, 0, 0].astype(float), 7)
    gaps.append(np.abs(np.diff(value)).mean())
  expected = np.mean(gaps) * LEVEL / 16
  np.testing.assert_allclose(numbers['reference_diversity'], expected, rtol=1e-4)
  np.testing.assert_allclose(numbers['data_diversity'], expected, rtol=1e-4)
  with pytest.raises(ValueError, match='takes no reference'):
    found(to_domain)
  with pytest.raises(ValueError, match='no domains'):
    translation.styles(method_of(corner), None, key, {'test': test}, TWO)


@pytest.mark.parametrize(
  ('arrays', 'condition', 'word'),
  [
    ({'x': RAW}, None, '--condition=NAME'),
    ({'x': RAW[:, :3]}, 1, 'images of 3x4x1 .* this model takes 4x4x1'),
    ({'x': RAW.repeat(3, axis=3)}, 1, 'images of 4x4x3 .*size=4&mode=L'),
  ],
)
def test_what_cannot_be_translated_is_one_line(arrays, condition, word):
  with pytest.raises(ValueError, match=word) as error:
    translation.translate(
      method_of(shift), 0.0, None, {'test': arrays}, TWO, condition=condition
    )
  assert '\n' not in str(error.value)
  with pytest.raises(ValueError, match="needs the query 'translate'"):
    translation.translate(
      method_of(shift)._replace(queries={}), 0.0, None, {'test': arrays}, TWO,
      condition=1,
    )  # fmt: skip
