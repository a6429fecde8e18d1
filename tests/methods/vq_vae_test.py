"""VQ-VAE and the prior of its codes: a step in numpy, the bound by enumeration."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import base, observations
from gm_jax.data import transforms
from gm_jax.losses import likelihood, quantization
from gm_jax.methods import autoregressive, code_prior, vq_vae
from gm_jax.models import latent, mlp, transformer
from gm_jax.samplers import autoregressive as sampler
from gm_jax.tasks import codes, results

RATE, WEIGHT, DECAY, STD = 0.1, 0.3, 0.9, 0.7
NET = vq_vae.Networks(  # linear: two vectors of two numbers, from three and back
  latent.Decoder(mlp.MLP((4,)), (2, 2)),
  latent.Decoder(mlp.MLP((3,)), (3,)),
  observations.fixed_gaussian(STD),
  num_codes=5,
)


def data(num, key=0):
  return {'x': jax.random.normal(jax.random.key(key), (num, 3))}


@functools.cache
def method(least=0.0):
  options = {'commitment': WEIGHT, 'decay': DECAY, 'least': least}
  return compiled(vq_vae.vq_vae(NET, optax.sgd(RATE), **options))


def with_far_code(state):
  """The last code where no vector of the data comes."""
  book = state.extra['codebook']
  book = book._replace(codes=book.codes.at[-1].set(jnp.array([300.1, -77.7])))
  return state._replace(extra={**state.extra, 'codebook': book})


def dense(params, player):
  layer = params[player]['body']['Dense_0']
  return np.float64(layer['kernel']), np.float64(layer['bias'])


def test_two_steps_are_those_of_numpy():
  state = with_far_code(method().init(jax.random.key(1), data(8)))
  book = state.extra['codebook']
  far = book.codes[-1]
  counts, sums, e = np.zeros(5), np.zeros((5, 2)), np.float64(book.codes)
  for i in range(2):
    batch = data(8, i)
    x = np.float64(batch['x'])
    (w, b), (v, c) = (dense(state.params, name) for name in ('encoder', 'decoder'))
    state, metrics = method().step(state, jax.random.key(2), batch)

    z = (x @ w + b).reshape(8, 2, 2)
    index = ((z[:, :, None] - e) ** 2).sum(-1).argmin(-1)
    q = e[index]
    error = q.reshape(8, 4) @ v + c - x
    nats = -(error**2).sum(1) / (2 * STD**2) - 3 * np.log(STD * np.sqrt(2 * np.pi))
    distance = ((z - q) ** 2).sum((1, 2))
    np.testing.assert_allclose(metrics['reconstruction'], nats.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics['commitment'], distance.mean(), rtol=1e-4)
    loss = (WEIGHT * distance - nats).mean()
    np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)
    p = np.bincount(index.ravel(), minlength=5) / 16
    entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
    np.testing.assert_allclose(metrics['perplexity'], np.exp(entropy), rtol=1e-5)

    # The decoder's gradient at the codes goes on to z, and the commitment's is added.
    at_codes = error / STD**2
    to_z = at_codes @ v.T + 2 * WEIGHT * (z - q).reshape(8, 4)
    moved = [dense(state.params, name) for name in ('encoder', 'decoder')]
    expected = [
      (w - RATE * x.T @ to_z / 8, b - RATE * to_z.mean(0)),
      (v - RATE * q.reshape(8, 4).T @ at_codes / 8, c - RATE * at_codes.mean(0)),
    ]
    chex.assert_trees_all_close(moved, expected, rtol=1e-4, atol=1e-6)

    for k in range(5):
      counts[k] = DECAY * counts[k] + (1 - DECAY) * (index == k).sum()
      sums[k] = DECAY * sums[k] + (1 - DECAY) * z[index == k].sum(0)
      e[k] = sums[k] / counts[k] if (index == k).any() else e[k]
    after = state.extra['codebook']
    chex.assert_trees_all_close(
      after, quantization.Codebook(e, counts, sums), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(after.codes[-1], far)  # which no vector chose


def test_a_code_that_nobody_chooses_begins_anew_at_a_vector_of_the_batch():
  batch = data(8)
  state = with_far_code(method().init(jax.random.key(1), batch))
  stays, _ = method().step(state, jax.random.key(2), batch)
  moves, _ = method(1e-3).step(state, jax.random.key(2), batch)
  old, new = (s.extra['codebook'] for s in (stays, moves))
  used = np.asarray(old.counts) > 0
  assert not used[-1] and used.any()
  chex.assert_trees_all_equal(*(jax.tree.map(lambda a: a[used], b) for b in (old, new)))
  w, b = dense(state.params, 'encoder')
  z = (np.asarray(batch['x']) @ w + b).reshape(16, 2)
  for k in np.flatnonzero(~used):
    assert np.abs(z - np.asarray(new.codes)[k]).max(1).min() < 1e-5
    assert new.counts[k] == 0 and not new.sums[k].any()


def test_the_first_codes_are_vectors_of_the_first_batch_all_different():
  state = method().init(jax.random.key(1), data(8))
  w, b = dense(state.params, 'encoder')
  z = (np.asarray(data(8)['x']) @ w + b).reshape(16, 2)
  found = np.asarray(state.extra['codebook'].codes)
  which = np.abs(z[:, None] - found).max(2)
  assert which.min(0).max() < 1e-5 and len(set(which.argmin(0))) == 5
  init = vq_vae.vq_vae(NET, optax.sgd(RATE)).init
  with pytest.raises(ValueError, match='4 vectors cannot fill 5 codes: use'):
    jax.eval_shape(init, jax.random.key(0), data(2))
  wide = NET._replace(observation=observations.gaussian())
  with pytest.raises(ValueError, match=r'the decoder must give \[B, 3, 2\]'):
    jax.eval_shape(
      vq_vae.vq_vae(wide, optax.sgd(RATE)).init, jax.random.key(0), data(8)
    )


@pytest.mark.parametrize(
  'wrong', [{'decay': 1.0}, {'commitment': -1.0}, {'least': float('nan')}]
)
def test_numbers_out_of_range_are_refused(wrong):
  with pytest.raises(ValueError, match='must be'):
    vq_vae.vq_vae(NET, optax.sgd(RATE), **wrong)


# Pixels x in {0, 1}^3, two codes of three values: all there is can be enumerated.
BINARY = vq_vae.Networks(
  latent.Encoder(latent.Decoder(mlp.MLP((8, 4)), (2, 2)), num_levels=2),
  latent.Decoder(mlp.MLP((8, 3)), (3,)),
  observations.bernoulli(),
  num_codes=3,
)
EVERY_X = np.array(list(itertools.product(range(2), repeat=3)), np.int32)
EVERY_CODE = np.array(list(itertools.product(range(3), repeat=2)), np.int32)


def prior_of_codes():
  return autoregressive.autoregressive(
    transformer.Transformer(2, 3, width=8, num_layers=1, heads=2),
    optax.adam(0.02),
    shape=(2,),
    likelihood=likelihood.categorical,
    draw=sampler.categorical,
  )


@functools.cache
def fitted():
  """The VQ-VAE's state, the method after it, its states before and after 80 steps."""
  first = compiled(vq_vae.vq_vae(BINARY, optax.adam(0.03)))
  batch = {'x': jnp.asarray(EVERY_X)}
  state = first.init(jax.random.key(0), batch)
  for i in range(100):
    state, _ = first.step(state, jax.random.key(i), batch)
  second = code_prior.code_prior(BINARY, prior_of_codes())
  before = jax.jit(code_prior.after_vq_vae(second))(jax.random.key(1), state, batch)
  step, after = jax.jit(second.step), before
  for i in range(80):
    after, metrics = step(after, jax.random.key(i), batch)
  return state, second, before, after, metrics


def log_probs(prior_model, vq_model):
  """log p(c) [9] and log p(x | c) [8, 9] of all codes and data, from the parts."""
  of_codes = prior_of_codes().log_prob(prior_model, None, EVERY_CODE)
  vectors = vq_model.extra['codebook'].codes[EVERY_CODE]
  logits = BINARY.decoder.apply({'params': vq_model.params['decoder']}, vectors)
  each = jnp.where(EVERY_X[:, None] == 1, logits, -logits)
  return of_codes, jax.nn.log_sigmoid(each).sum(-1)


@pytest.mark.slow
def test_the_bound_is_that_of_the_one_code_and_below_the_sum_over_all():
  vq_state, second, _, after, _ = fitted()
  model = base.Model(after.params, after.extra)
  vq_model = base.Model(vq_state.params, vq_state.extra)
  bound = jax.jit(second.queries['elbo'])(model, jax.random.key(0), EVERY_X)

  of_codes, of_data = log_probs(base.Model(after.params, {}), vq_model)
  np.testing.assert_allclose(jax.nn.logsumexp(of_codes), 0, atol=1e-5)
  z = BINARY.encoder.apply({'params': vq_model.params['encoder']}, EVERY_X)
  book = np.asarray(vq_model.extra['codebook'].codes)
  chosen = ((np.asarray(z)[:, :, None] - book) ** 2).sum(-1).argmin(-1) @ [3, 1]
  assert len(set(chosen)) > 2  # the codes say something of the data
  expected = of_data[np.arange(8), chosen] + of_codes[chosen]
  np.testing.assert_allclose(bound, expected, rtol=1e-5)
  log_prob = jax.nn.logsumexp(of_data + of_codes, axis=1)
  np.testing.assert_allclose(jnp.exp(log_prob).sum(), 1, rtol=1e-5)
  assert (bound < log_prob).all()

  samples = jax.jit(second.sample, static_argnums=2)(model, jax.random.key(3), 4000)
  frequency = np.bincount(np.asarray(samples) @ [4, 2, 1], minlength=8) / 4000
  assert np.abs(frequency - jnp.exp(log_prob)).max() < 5 * np.sqrt(0.25 / 4000)
  means = second.sample(model, jax.random.key(3), 50, mean=True)
  of_codes = np.unique(np.argmax(of_data, 0))  # the likeliest x of each code
  assert set(np.asarray(means) @ [4, 2, 1]) <= set(of_codes)


@pytest.mark.slow
def test_the_prior_learns_and_what_is_frozen_stays():
  vq_state, second, before, after, metrics = fitted()
  frozen = base.Model(vq_state.params, vq_state.extra)
  assert before.step == 100 and after.step == 180
  for state in (before, after):
    chex.assert_trees_all_equal(state.extra, {'frozen': {'vq_vae': frozen}})
  encode = jax.jit(second.queries['encode'])
  index = np.asarray(encode(base.Model(*after[1:3]), None, EVERY_X)) @ [3, 1]
  p = np.bincount(index, minlength=9) / 8
  entropy = -(p[p > 0] * np.log(p[p > 0])).sum()  # what the loss can reach
  assert entropy < float(metrics['loss']) < entropy + 0.1
  another_run = code_prior.after_vq_vae(second)(
    jax.random.key(1), frozen, {'x': jnp.asarray(EVERY_X)}
  )
  assert another_run.step == 0
  chex.assert_trees_all_equal(another_run.extra, after.extra)


@pytest.mark.slow
@pytest.mark.slow
def test_reconstructions_are_decoded_codes():
  vq_state, second, _, after, _ = fitted()
  alone = vq_vae.queries(BINARY)
  for queries, state in ((alone, vq_state), (second.queries, after)):
    model = base.Model(state.params, state.extra)
    index = queries['encode'](model, None, EVERY_X)
    assert index.dtype == jnp.int32 and index.shape == (8, 2)
    again = queries['decode'](model, None, index)
    np.testing.assert_array_equal(queries['reconstruct'](model, None, EVERY_X), again)


def test_a_prior_must_have_a_likelihood():
  without = prior_of_codes()._replace(log_prob=None)
  with pytest.raises(ValueError, match='must have samples and log_prob'):
    code_prior.code_prior(BINARY, without)


def test_use_of_codes_is_counted_over_whole_splits():
  def encode(model, key, x, *, condition=None):
    return jnp.stack([x[:, 0], 0 * x[:, 0]], 1)

  spec = base.DataSpec((1,), jnp.int32, 4, None, None, transforms.levels(4))
  counted = prior_of_codes()._replace(queries={'encode': encode})
  x = np.arange(300, dtype=np.uint8)[:, None]
  arrays = {'train': {'x': x % 4}, 'test': {'x': 0 * x}}
  found = codes.usage(counted, None, None, arrays, spec, num_codes=4)
  numbers = results.numbers(found)
  p = np.array([5, 1, 1, 1]) / 8  # half of the codes are 0 always
  expected = np.exp(-(p * np.log(p)).sum())
  np.testing.assert_allclose(numbers['train_perplexity'], expected, rtol=1e-5)
  np.testing.assert_allclose(numbers['test_perplexity'], 1, rtol=1e-6)
  assert quantization.perplexity(jnp.ones(4)) > numbers['train_perplexity']


def test_a_vector_of_the_grid_sees_its_window_and_levels_are_scaled():
  encoder = latent.GridEncoder(3, 1, 8, num_levels=17)
  x = jax.random.randint(jax.random.key(0), (1, 8, 8, 1), 0, 17)
  variables = encoder.init(jax.random.key(1), x)
  z = encoder.apply(variables, x)
  assert z.shape == (1, 4, 4, 3)
  plain = latent.GridEncoder(3, 1, 8)
  np.testing.assert_allclose(plain.apply(variables, x / 8 - 1), z, atol=1e-5)
  changed = encoder.apply(variables, x.at[0, 0, 0].add(3)) != z
  assert (
    changed[0, 0, 0].any() and not changed[0, 1:].any() and not changed[0, :, 1:].any()
  )
  decoder = latent.GridDecoder(5, 1, 8)
  assert decoder.init_with_output(jax.random.key(2), z)[0].shape == (1, 8, 8, 5)
