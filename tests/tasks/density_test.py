"""Likelihoods by closed forms, and their names by the method's card."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base, conditions
from gm_jax.data import transforms
from gm_jax.tasks import density, results

KEY = jax.random.key(0)
CARD = base.Card(
  density='exact', density_cost='one_pass', measure='mass', sampling='exact',
  sampling_cost='one_pass', training=('maximum_likelihood',), latents='none',
  architecture='any',
)  # fmt: skip


def method(log_prob=None, *, card=CARD, **queries):
  return base.Method(card, None, None, log_prob=log_prob, queries=queries)


def spec(shape, levels, transform):
  return base.DataSpec(
    shape, transforms.dtype(transform), levels, None, None, transform
  )


POINTS = base.DataSpec((2,), jnp.float32, None, None, None, transforms.identity())
DENSITY = CARD._replace(measure='density')


def normal(model, key, x, *, condition=None):
  """The density of N(mean, 1) of every number."""
  return -0.5 * ((x - model.params) ** 2 + jnp.log(2 * jnp.pi)).sum(1)


def scores(method, raw, spec, model=None, **options):
  """The numbers of the test split."""
  found = density.density(method, model, KEY, {'test': raw}, spec, **options)
  return results.numbers(found)


def test_a_gaussians_nll_is_its_entropy_and_more_elsewhere():
  x = np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
  found = scores(method(normal, card=DENSITY), {'x': x}, POINTS, base.Model(0.0, {}))
  entropy = np.log(2 * np.pi * np.e)  # of two numbers
  assert abs(found['nll_density'] - entropy) < 4 * found['nll_density_error']
  np.testing.assert_allclose(found['nll_density_error'], 1 / np.sqrt(20_000), rtol=0.05)
  away = scores(method(normal, card=DENSITY), {'x': x}, POINTS, base.Model(3.0, {}))
  more = away['nll_density'] - found['nll_density']  # KL(N(0, 1) || N(3, 1)), twice
  np.testing.assert_allclose(more, 2 * 9 / 2, atol=0.15)
  assert found.keys() == {'nll_density', 'nll_density_error'}  # points have no bits


def test_what_is_left_to_a_known_density_is_the_divergence():
  """Of N(0, 1) by N(1, 1), twice: KL = 1, at the same points."""
  x = np.random.default_rng(1).normal(size=(4000, 2)).astype(np.float32)

  def known(x):
    return normal(base.Model(0.0, {}), None, x)

  def task(mean):
    found = density.known_density(
      method(normal, card=DENSITY), base.Model(mean, {}), KEY, {'test': {'x': x}},
      POINTS, known=known,
    )  # fmt: skip
    return results.numbers(found)

  found = task(1.0)
  assert abs(found['kl_estimate'] - 1.0) < 4 * found['kl_estimate_error']
  np.testing.assert_allclose(
    found['kl_estimate_error'], np.sqrt(2) / np.sqrt(4000), rtol=0.05
  )
  assert abs(found['entropy_estimate'] - np.log(2 * np.pi * np.e)) < 0.1
  np.testing.assert_allclose(task(0.0)['kl_estimate'], 0.0, atol=1e-6)


def test_mean_and_error_are_those_of_the_examples():
  x = np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)
  found = scores(method(normal, card=DENSITY), {'x': x}, POINTS, base.Model(0.0, {}))
  values = 0.5 * (x**2).sum(1) + np.log(2 * np.pi)
  np.testing.assert_allclose(found['nll_density'], values.mean(), rtol=1e-5)
  error = values.std(ddof=1) / np.sqrt(300)
  np.testing.assert_allclose(found['nll_density_error'], error, rtol=1e-4)


def test_a_uniform_model_of_bytes_has_eight_bits_and_no_error():
  uniform = method(lambda m, k, x, *, condition: jnp.full(len(x), -6 * jnp.log(256.0)))
  raw = {'x': np.arange(300 * 6).reshape(300, 2, 3, 1) % 256}
  found = scores(uniform, raw, spec((2, 3, 1), 256, transforms.levels(256)))
  assert found.keys() == {'nll', 'nll_error', 'bits_per_dim', 'bits_per_dim_error'}
  np.testing.assert_allclose(found['nll'], 6 * np.log(256), rtol=1e-6)
  np.testing.assert_allclose(found['bits_per_dim'], 8, rtol=1e-6)
  np.testing.assert_allclose(found['bits_per_dim_error'], 0, atol=1e-6)


@pytest.mark.parametrize('make', [transforms.dequantization, transforms.logit])
def test_an_even_density_of_noisy_bytes_is_a_bound_of_eight_bits_by_the_record(make):
  def even(m, k, x, *, condition):
    """Uniform where the raw pixels with noise are uniform on (0, 256)^6."""
    each = jnp.full(x.shape, jnp.log(0.5))
    if make is transforms.logit:
      p = jax.nn.sigmoid(x)
      each = jnp.log(p) + jnp.log1p(-p) - jnp.log(0.9)
    return each.reshape(len(x), -1).sum(1)

  raw = {'x': np.random.default_rng(0).integers(0, 256, (300, 2, 3, 1))}
  found = scores(method(even, card=DENSITY), raw, spec((2, 3, 1), 256, make(256)))
  names = {f'{n}_bound{e}' for n in ('nll', 'bits_per_dim') for e in ('', '_error')}
  assert found.keys() == names
  np.testing.assert_allclose(found['bits_per_dim_bound'], 8, rtol=1e-4)


LEVELS = spec((2,), 4, transforms.levels(4))
RAW = {'x': np.arange(18).reshape(9, 2) % 4}
BOUND = CARD._replace(density='lower_bound')
ESTIMATE = CARD._replace(density='estimate')


def test_a_models_own_bound_is_one_and_more_samples_a_tighter_one():
  def iwae(m, k, x, *, num_samples, condition):
    return jnp.full(len(x), -1.0 / num_samples)

  elbo = lambda m, k, x, *, condition: jnp.full(len(x), -1.0)  # noqa: E731
  bounded = method(card=BOUND, elbo=elbo, iwae=iwae)
  found = scores(bounded, RAW, LEVELS)
  assert float(found['nll_bound']) == 1 and 'nll' not in found
  np.testing.assert_allclose(found['bits_per_dim_bound'], 0.5 / np.log(2), rtol=1e-6)
  assert float(scores(bounded, RAW, LEVELS, num_samples=4)['nll_bound']) == 0.25


def test_the_card_decides_and_not_what_else_the_method_has():
  exact = lambda m, k, x, *, condition: jnp.full(len(x), -1.0)  # noqa: E731
  elbo = lambda m, k, x, *, condition: jnp.full(len(x), -2.0)  # noqa: E731
  both = method(exact, elbo=elbo)
  assert float(scores(both, RAW, LEVELS)['nll']) == 1
  claims = both._replace(card=BOUND)
  assert float(scores(claims, RAW, LEVELS)['nll_bound']) == 2


def test_an_estimate_says_what_its_own_noise_adds():
  size, std = 4000, 3.0
  noise = std * jax.random.normal(KEY, (size,))

  def estimated(m, key, x, *, condition):
    return noise[x[:, 0]], jnp.full(len(x), std)

  # The truth is 0 of every example, so that all of the error is the estimates' own.
  raw = {'x': np.stack([np.arange(size), np.zeros(size, int)], axis=1)}
  found = scores(method(card=ESTIMATE, log_prob_estimate=estimated), raw, LEVELS)
  names = ('nll_estimate', 'bits_per_dim_estimate')
  assert found.keys() == {f'{n}{e}' for n in names for e in ('', '_error', '_noise')}
  own = found['nll_estimate_noise']
  np.testing.assert_allclose(own, std / np.sqrt(size), rtol=1e-5)
  np.testing.assert_allclose(found['nll_estimate_error'], own, rtol=0.05)
  assert abs(found['nll_estimate']) < 4 * own
  bits = own / (2 * np.log(2))
  np.testing.assert_allclose(found['bits_per_dim_estimate_noise'], bits, rtol=1e-5)


def test_the_noise_of_one_log_z_is_no_smaller_of_many_examples():
  own = 0.3

  def estimated(m, key, x, *, condition):
    return 1.0 * x[:, 0], jnp.full(len(x), own)

  queries = {'log_prob_estimate': estimated, 'log_partition': None}
  # Masses of x = 0 and 1 alike: their deviation is 1/2.
  raw = {'x': np.stack([np.arange(400) % 2, np.zeros(400, int)], axis=1)}
  found = scores(method(card=ESTIMATE, **queries), raw, LEVELS)
  np.testing.assert_allclose(found['nll_estimate_noise'], own, rtol=1e-5)
  examples = 0.5 / np.sqrt(399)
  expected = np.hypot(own, examples)
  np.testing.assert_allclose(found['nll_estimate_error'], expected, rtol=1e-4)
  # Beside a known density of 0 nats everywhere log p - log q is -x.
  values = density.known_density(
    method(card=ESTIMATE, **queries), None, jax.random.key(0), {'test': raw}, LEVELS,
    known=lambda x: jnp.zeros(len(x)),
  ).values  # fmt: skip
  np.testing.assert_allclose(values['kl_estimate_error'][0], expected, rtol=1e-4)
  np.testing.assert_allclose(values['entropy_estimate_error'][0], 0)


@pytest.mark.parametrize(
  ('card', 'options', 'word'),
  [
    (CARD._replace(density='none'), {}, "its density is 'none'"),
    (CARD._replace(density='unnormalized'), {}, "its density is 'unnormalized'"),
    (CARD, {}, "'exact', and so the method must have log_prob"),
    (BOUND, {}, "'lower_bound', and so the method must have elbo"),
    (BOUND, {'num_samples': 3}, 'must have iwae'),
    (ESTIMATE, {}, 'must have log_prob_estimate'),
  ],
)
def test_no_likelihood_is_refused_in_one_line(card, options, word):
  with pytest.raises(ValueError, match=word) as error:
    scores(method(card=card), RAW, LEVELS, **options)
  assert '\n' not in str(error.value)


def test_what_makes_no_sense_is_refused():
  exact = lambda m, k, x, *, condition: jnp.zeros(len(x))  # noqa: E731
  lattice = spec((2,), 4, transforms.scaling(4))
  with pytest.raises(ValueError, match='on a lattice of levels has no bound'):
    scores(method(exact, card=DENSITY), RAW, lattice)
  with pytest.raises(ValueError, match='the test split has 1 examples'):
    scores(method(exact), {'x': RAW['x'][:1]}, LEVELS)
  with pytest.raises(ValueError, match='num_samples is of a lower bound'):
    scores(method(exact), RAW, LEVELS, num_samples=2)
  with pytest.raises(ValueError, match='needs the test split'):
    density.density(method(exact), None, KEY, {'train': RAW}, LEVELS)


def kinds(method, spec, raw=None):
  raw = RAW if raw is None else raw
  found = density.density(method, base.Model(0.0, {}), KEY, {'test': raw}, spec)
  return {name: kind for name, (_, kind) in found.values.items()}


def test_kinds_are_the_cards_and_the_transforms():
  exact = lambda m, k, x, *, condition: x.sum(1).astype(float)  # noqa: E731
  found = kinds(method(exact), LEVELS)
  assert found['nll'] == found['bits_per_dim'] == 'exact, N = 9'
  assert found['nll_error'] == 'standard error over 9 examples'
  noisy = spec((2,), 4, transforms.dequantization(4))
  name = 'upper bound, by noise on the levels, N = 9'
  assert kinds(method(exact, card=DENSITY), noisy)['nll_bound'] == name
  bounded = method(card=BOUND, elbo=exact)
  assert kinds(bounded, LEVELS)['nll_bound'].startswith('upper bound, by the model')
  points = {'x': np.zeros((4, 2), np.float32)}
  found = kinds(method(normal, card=DENSITY), POINTS, points)
  assert found['nll_density'] == 'exact, of raw data, N = 4'


def test_chunks_are_of_the_rows_and_their_conditions_in_order():
  x = jnp.arange(2 * density.CHUNK + 7)
  found = density.in_chunks(lambda x, c: 10 * x + c, x, x % 3)
  np.testing.assert_array_equal(found, 10 * x + x % 3)
  alone = density.in_chunks(lambda x, c: x if c is None else c, x, None)
  assert alone.shape == x.shape
  two = density.in_chunks(lambda x, c: (x + c['a'], c['b']), x, {'a': x, 'b': -x})
  np.testing.assert_array_equal(two, (2 * x, -x))


@pytest.mark.parametrize('names', [('label',), ('label', 'mask')])
def test_what_the_card_names_reaches_the_score(names):
  def of_condition(m, k, x, *, condition):
    several = condition if isinstance(condition, dict) else {'label': condition}
    return -sum(c.astype(float) for c in several.values())

  raw = {**RAW, 'label': np.arange(9), 'mask': np.arange(9) % 2}
  conditional = method(of_condition, card=CARD._replace(condition=names))
  expected = sum(raw[name].mean() for name in names)
  np.testing.assert_allclose(scores(conditional, raw, LEVELS)['nll'], expected)
  with pytest.raises(ValueError, match="needs 'label' of every example"):
    scores(conditional, RAW, LEVELS)


def test_a_condition_is_taken_to_model_space():
  part = base.Part((), jnp.float32, None, transforms.scaling(3))
  halves = LEVELS._replace(parts={'condition': part})
  card = CARD._replace(condition=conditions.names(conditions.by_value()))
  conditional = method(lambda m, k, x, *, condition: condition, card=card)
  raw = {**RAW, 'condition': np.zeros(9, np.uint8)}
  np.testing.assert_allclose(scores(conditional, raw, halves)['nll'], 1.0)


def test_validation_is_scored_beside_the_test_split_and_train_is_not():
  exact = lambda m, k, x, *, condition: -x.sum(1).astype(float)  # noqa: E731
  arrays = {s: {'x': RAW['x'] + i} for i, s in enumerate(('test', 'train'))}
  arrays['validation'] = {'x': RAW['x'] + 5}
  found = results.numbers(density.density(method(exact), None, KEY, arrays, LEVELS))
  half = {'nll', 'nll_error', 'bits_per_dim', 'bits_per_dim_error'}
  assert found.keys() == half | {f'validation_{name}' for name in half}
  np.testing.assert_allclose(found['validation_nll'] - found['nll'], 10, rtol=1e-5)
  fewer = density.density(
    method(exact), None, KEY, arrays, LEVELS, splits=('train',), num=2
  )
  assert fewer.values['train_nll'][1] == 'exact, N = 2'
  # Raw numbers 0, 1 and 2, 3, one more each.
  np.testing.assert_allclose(fewer.values['train_nll'][0], (0 + 1 + 2 + 3 + 4) / 2)


def test_it_may_be_compiled_and_mapped_over_seeds():
  x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
  gaussian = method(normal, card=DENSITY)

  def numbers(model, key):
    task = density.density(gaussian, model, key, {'test': {'x': x}}, POINTS)
    return results.numbers(task)

  models = base.Model(jnp.array([0.0, 1.0]), {})
  mapped = jax.jit(jax.vmap(numbers))(models, jax.random.split(KEY))
  for i in range(2):
    one = numbers(base.Model(float(i), {}), KEY)
    np.testing.assert_allclose(mapped['nll_density'][i], one['nll_density'], rtol=1e-5)


def test_results_are_merged_unless_they_disagree_in_a_name():
  one = base.Result({'a': (1, 'exact')}, {'x': 1})
  both = results.merged(one, base.Result({'b': (2, 'exact')}))
  assert both == base.Result({'a': (1, 'exact'), 'b': (2, 'exact')}, {'x': 1})
  assert results.numbers(both) == {'a': 1, 'b': 2}
  with pytest.raises(ValueError, match="two results have 'a'"):
    results.merged(one, one)
