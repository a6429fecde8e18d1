"""The transformer sees nothing that comes later, and its cache forgets nothing."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import weights

from gm_jax.losses import likelihood
from gm_jax.methods import autoregressive
from gm_jax.models import transformer
from gm_jax.samplers import autoregressive as sampler
from gm_jax.training import step as step_lib

T, LEVELS = 5, 3
MODULE = transformer.Transformer(T, LEVELS, width=8, heads=2)
EVERY = jnp.array(list(itertools.product(range(LEVELS), repeat=T)))


def variables(features=0):
  """Of the module on so many conditioning numbers."""
  condition = np.zeros((2, features)) if features else None
  return weights.drawn(MODULE, EVERY[:2], condition, std=0.6)


def test_outputs_depend_on_all_before_and_on_nothing_else():
  x = np.array([0, 2, 1, 0, 2])
  changed = np.where(np.eye(T, dtype=bool), (x + 1) % LEVELS, x)
  logits = jax.jit(MODULE.apply)(variables(), np.concatenate([x[None], changed]))
  plain, *found = np.asarray(logits)
  for i in range(T):
    moved = np.abs(found[i] - plain).max(1) > 1e-6
    np.testing.assert_array_equal(moved, np.arange(T) > i)


def test_masses_sum_to_one():
  logits = jax.jit(MODULE.apply)(variables(), EVERY)
  p = jnp.exp(likelihood.categorical(logits, EVERY))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize('conditional', [False, True])
def test_the_cache_gives_the_full_passes_logits_and_the_same_samples(conditional):
  condition = jax.random.normal(jax.random.key(5), (40, 2)) if conditional else None
  bound = functools.partial(MODULE.apply, variables(2 * conditional))
  x = EVERY[jax.random.randint(jax.random.key(2), (40,), 0, len(EVERY))]
  full = jax.jit(bound)(x, condition)

  @jax.jit
  def one_by_one(x):
    def one(memory, i):
      logits = bound(memory, i, method='conditional')
      return bound(memory, i, x[:, i], method='update'), logits

    memory = bound(40, condition, method='start')
    return jax.lax.scan(one, memory, jnp.arange(T))[1]

  found = jnp.moveaxis(one_by_one(x), 0, 1)
  np.testing.assert_allclose(found, full, rtol=1e-4, atol=1e-4)

  @jax.jit
  def both_samples(key):
    fast = sampler.cached(
      functools.partial(bound, method='conditional'),
      functools.partial(bound, method='update'),
      bound(40, condition, method='start'), key, T, draw=sampler.categorical,
    )  # fmt: skip
    return fast, sampler.naive(
      lambda x: bound(x, condition), key, T, 40, draw=sampler.categorical
    )

  np.testing.assert_array_equal(*both_samples(jax.random.key(3)))


@pytest.mark.parametrize('length', [64, 150, 600])
def test_attention_by_parts_is_softmax_over_all_that_is_not_later(length):
  shape = (2, 2, length, 3)
  queries, keys, values = 3 * jax.random.normal(jax.random.key(0), (3, *shape))
  cotangent = jax.random.normal(jax.random.key(1), shape)

  def whole(queries, keys, values):
    scores = jnp.einsum('bhtd,bhsd->bhts', queries, keys) / np.sqrt(3)
    later = np.arange(length)[None] > np.arange(length)[:, None]
    return jax.nn.softmax(jnp.where(later, -jnp.inf, scores)) @ values

  @functools.partial(jax.jit, static_argnums=0)
  def with_gradients(attention, queries, keys, values):
    found, pull = jax.vjp(attention, queries, keys, values)
    return found, pull(cotangent)

  found, slopes = with_gradients(transformer._causal_attention, queries, keys, values)
  expected, true_slopes = with_gradients(whole, queries, keys, values)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=5e-5)
  for ours, theirs in zip(slopes, true_slopes, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_block_is_the_formula():
  block = transformer.Block(4, 2)
  x = jax.random.normal(jax.random.key(0), (1, 3, 4))
  params = weights.drawn(block, x)['params']

  def norm(v, w):
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-6)
    return v * w['scale'] + w['bias']

  h = np.asarray(x[0], float)
  q, k, v = np.split(norm(h, params['norms_0']) @ params['to_qkv']['kernel'], 3, 1)
  heads = []
  for j in (slice(0, 2), slice(2, 4)):
    out = []
    for t in range(3):
      scores = np.exp(q[t, j] @ k[: t + 1, j].T / np.sqrt(2))
      out.append(scores / scores.sum() @ v[: t + 1, j])
    heads.append(out)
  merged = np.concatenate(heads, 1)
  h = h + merged @ params['from_heads']['kernel'] + params['from_heads']['bias']
  up = norm(h, params['norms_1']) @ params['up']['kernel'] + params['up']['bias']
  h = (
    h + np.asarray(jax.nn.gelu(up)) @ params['down']['kernel'] + params['down']['bias']
  )
  np.testing.assert_allclose(
    jax.jit(block.apply)({'params': params}, x)[0], h, rtol=1e-3, atol=1e-3
  )


@pytest.mark.slow
def test_it_learns_a_rule_that_a_short_memory_cannot_hold():
  """The last token is the first: a Markov chain of order 3 knows nothing of it."""
  x = jax.random.randint(jax.random.key(0), (500, 64, T), 0, LEVELS)
  x = x.at[..., -1].set(x[..., 0])
  method = autoregressive.autoregressive(
    transformer.Transformer(T, LEVELS, width=32, num_layers=2, heads=2),
    optax.adam(3e-3), shape=(T,), likelihood=likelihood.categorical,
    draw=sampler.categorical,
  )  # fmt: skip
  state = jax.jit(method.init)(jax.random.key(1), {'x': x[0]})
  train = jax.jit(step_lib.train_step(method))
  state, metrics = train(state, jax.random.key(2), {'x': x})
  entropy = (T - 1) * np.log(LEVELS)
  assert abs(float(metrics['loss'][-20:].mean()) - entropy) < 0.1
  sample = jax.jit(method.sample, static_argnums=2)
  samples = sample(step_lib.model(state), jax.random.key(3), 400)
  assert float((samples[:, 0] == samples[:, -1]).mean()) > 0.97


def test_refusals():
  with pytest.raises(ValueError, match='not divisible by heads'):
    transformer.Transformer(T, LEVELS, width=7, heads=2).init(jax.random.key(0), EVERY)
  with pytest.raises(ValueError, match=r'x must be \[B, 5\]'):
    MODULE.init(jax.random.key(0), EVERY[:, :3])
