"""The unrolled GAN's gradient, against finite differences of f_k itself."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import priors, unroll
from gm_jax.losses import adversarial
from gm_jax.methods import gan, unrolled_gan
from gm_jax.models import mlp

GENERATOR, CRITIC = mlp.MLP((5, 2), nn.tanh), mlp.MLP((6, 1), nn.tanh)
PRIOR = priors.normal(3)
RATE = 0.5  # of the discriminator
KEY = jax.random.key(2)


def make(k, *, g_tx=None, d_tx=None, **kwargs):
  return unrolled_gan.unrolled_gan(
    GENERATOR,
    CRITIC,
    g_tx or optax.sgd(1.0),
    d_tx or optax.sgd(RATE),
    prior=PRIOR,
    num_unroll=k,
    **kwargs,
  )


def start(method, num=8):
  x = jax.random.normal(jax.random.key(0), (num, 2)) + 1.0
  state = method.init(jax.random.key(1), {'x': x})
  if jax.config.jax_enable_x64:
    to64 = functools.partial(jax.tree.map, lambda a: jnp.asarray(a, jnp.float64))
    state = state._replace(params=to64(state.params))
  return x, state


def generator_gradient(method, x, state):
  """The gradient that the step used: with rate 1, minus the change."""
  new, metrics = jax.jit(method.step)(state, KEY, {'x': x})
  change = jax.tree.map(
    lambda a, b: a - b, state.params['generator'], new.params['generator']
  )
  return change, new, metrics


def flat(tree):
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def objective_by_loops(k, fresh, x, state, with_real=True):
  """f_k as a function of the generator, in a plain Python loop."""
  critic_key, z_key, _ = jax.random.split(KEY, 3)
  keys = jax.random.split(critic_key, 1 + k)
  num = len(x) // (1 + k) if fresh else len(x)

  def f(g_params, d_params, real, z, with_real=True):
    def logit(x):
      return CRITIC.apply({'params': d_params}, x)[:, 0]

    fake = GENERATOR.apply({'params': g_params}, z)
    real_term = jnp.mean(jnp.log(jax.nn.sigmoid(logit(real)))) if with_real else 0.0
    return real_term + jnp.mean(jnp.log(1 - jax.nn.sigmoid(logit(fake))))

  def ascend(d_params, g_params, real, z):
    grads = jax.grad(f, argnums=1)(g_params, d_params, real, z)
    return jax.tree.map(lambda p, g: p + RATE * g, d_params, grads)

  def noise(key):
    return PRIOR(jax.random.split(key)[0], num)

  real = x[:: 1 + k] if fresh else x
  start = state.params['generator']
  d_start = ascend(state.params['discriminator'], start, real, noise(keys[0]))

  def f_k(g_params):
    d_params, z = d_start, PRIOR(z_key, num)
    for i in range(1, k + 1):
      batch = (x[i :: 1 + k], noise(keys[i])) if fresh else (real, z)
      d_params = ascend(d_params, g_params, *batch)
    return f(g_params, d_params, real, z, with_real)

  return f_k, d_start


@pytest.mark.parametrize('fresh', [False, True])
@pytest.mark.parametrize('k', [0, 3])
def test_gradient_is_that_of_f_k_by_finite_differences(k, fresh):
  with jax.enable_x64(True):
    method = make(k, fresh=fresh)
    x, state = start(method, 8 * (1 + k) if fresh else 8)
    gradient, new, _ = generator_gradient(method, x, state)
    f_k, d_start = objective_by_loops(k, fresh, x, state)
    f_k = jax.jit(f_k)
    direction = jax.tree.map(
      lambda p: jax.random.normal(jax.random.key(5), p.shape, p.dtype),
      state.params['generator'],
    )

    def shift(h):
      return jax.tree.map(lambda p, d: p + h * d, state.params['generator'], direction)

    numeric = (f_k(shift(1e-5)) - f_k(shift(-1e-5))) / 2e-5
    exact = flat(gradient) @ flat(direction)
    np.testing.assert_allclose(exact, numeric, rtol=1e-6)
    # The discriminator took one ordinary step: looking ahead left no trace.
    np.testing.assert_allclose(
      flat(new.params['discriminator']), flat(d_start), rtol=1e-9
    )


@pytest.mark.parametrize('fresh', [False, True])
@pytest.mark.parametrize('k', [0, 2])
def test_accumulated_gradient_is_the_gradient(k, fresh):
  with jax.enable_x64(True):
    found = []
    for num in (1, 4):
      method = make(k, fresh=fresh, num_accumulate=num)
      x, state = start(method, 8 * (1 + k) if fresh else 8)
      gradient, new, _ = generator_gradient(method, x, state)
      found.append((flat(gradient), flat(new.params['discriminator'])))
  for one, four in zip(*found, strict=True):
    np.testing.assert_allclose(four, one, rtol=1e-10, atol=1e-14)


def test_real_term_belongs_to_the_gradient():
  with jax.enable_x64(True):
    method = make(5)
    x, state = start(method)
    gradient, _, _ = generator_gradient(method, x, state)
    without, _ = objective_by_loops(5, False, x, state, with_real=False)
    other = jax.grad(without)(state.params['generator'])
    gap = np.linalg.norm(flat(gradient) - flat(other))
    assert gap > 0.1 * np.linalg.norm(flat(gradient))


def test_no_unrolling_is_the_minimax_gan():
  tx = optax.adam(1e-2, b1=0.5)
  method = make(0, g_tx=tx, d_tx=tx)
  plain = gan.gan(GENERATOR, CRITIC, tx, tx, prior=PRIOR, game=adversarial.MINIMAX)
  x, state = start(method)
  step, plain_step = jax.jit(method.step), jax.jit(plain.step)
  other = state
  for i in range(5):
    key = jax.random.fold_in(KEY, i)
    state, other = step(state, key, {'x': x})[0], plain_step(other, key, {'x': x})[0]
  np.testing.assert_allclose(flat(state.params), flat(other.params), atol=2e-6)


def test_inner_optimizer_begins_at_the_outer_state_and_leaves_it():
  tx = optax.adam(1e-2, b1=0.5, eps_root=1e-8)
  x, state = start(make(0, d_tx=tx))
  states = {k: jax.jit(make(k, d_tx=tx).step)(state, KEY, {'x': x})[0] for k in (0, 4)}
  again = {
    k: jax.jit(make(k, d_tx=tx).step)(states[k], KEY, {'x': x})[0] for k in (0, 4)
  }
  assert states[4].opt_state['discriminator'][0].count == 1
  for a, b in zip(
    jax.tree.leaves(states[0].opt_state['discriminator']),
    jax.tree.leaves(states[4].opt_state['discriminator']),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  # From a warm state the four inner steps are Adam's next four, bias correction
  # and moments included: a plain loop over optax finds the same value of f_k.
  warm = states[0]._replace(params=states[4].params)
  _, metrics = make(4, d_tx=tx).step(warm, KEY, {'x': x})
  critic_key, z_key, _ = jax.random.split(KEY, 3)

  def d_loss(params, real, fake):
    logits = [CRITIC.apply({'params': params}, v)[:, 0] for v in (real, fake)]
    return adversarial.MINIMAX.discriminator(*logits).mean()

  z_first = PRIOR(jax.random.split(jax.random.split(critic_key, 5)[0])[0], len(x))
  params, opt_state = warm.params['discriminator'], warm.opt_state['discriminator']
  for z in [z_first] + 4 * [PRIOR(z_key, len(x))]:
    fake = GENERATOR.apply({'params': warm.params['generator']}, z)
    updates, opt_state = tx.update(jax.grad(d_loss)(params, x, fake), opt_state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(
    metrics['generator_loss'], -d_loss(params, x, fake), rtol=1e-5
  )
  assert again[4].opt_state['discriminator'][0].count == 2


def test_metrics_are_the_gap_between_full_and_partial():
  full, partial = make(3), make(3, unroll_fn=unroll.partial)
  x, state = start(full)
  full_gradient, _, metrics = generator_gradient(full, x, state)
  partial_gradient, _, none = generator_gradient(partial, x, state)
  gap = flat(full_gradient) - flat(partial_gradient)
  cosine = (
    gap
    @ flat(partial_gradient)
    / np.linalg.norm(gap)
    / np.linalg.norm(flat(partial_gradient))
  )
  np.testing.assert_allclose(metrics['unroll_gap'], np.linalg.norm(gap), rtol=1e-4)
  np.testing.assert_allclose(metrics['unroll_cosine'], cosine, atol=1e-4)
  assert none['unroll_gap'] < 1e-6 and np.linalg.norm(gap) > 1e-3


def test_implicit_unrolling_meets_long_unrolling_where_the_critic_is_concave():
  class Concave(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
      w = self.param('w', nn.initializers.normal(0.1), (2,))
      return jnp.tanh(x) @ w

  def concave_d(real_logits, fake_logits):  # the squares keep the optimum finite
    plain = adversarial.WASSERSTEIN.discriminator(real_logits, fake_logits)
    return plain + 0.5 * (real_logits**2 + fake_logits**2)

  pair = adversarial.WASSERSTEIN._replace(discriminator=concave_d)
  x = jax.random.normal(jax.random.key(0), (64, 2)) + 1.0
  gradients = {}
  for name, unroll_fn, k in (
    ('long', unroll.full, 400),
    ('implicit', unroll.implicit(num_terms=400), 400),
    ('short', unroll.full, 3),
  ):
    method = unrolled_gan.unrolled_gan(
      GENERATOR, Concave(), optax.sgd(1.0), optax.sgd(0.2), prior=PRIOR,
      num_unroll=k, game=pair, unroll_fn=unroll_fn,
    )  # fmt: skip
    state = method.init(jax.random.key(1), {'x': x})
    gradients[name] = flat(generator_gradient(method, x, state)[0])
  scale = np.linalg.norm(gradients['long'])
  assert np.linalg.norm(gradients['implicit'] - gradients['long']) < 1e-3 * scale
  assert np.linalg.norm(gradients['short'] - gradients['long']) > 1e-2 * scale


def test_refusals():
  with pytest.raises(ValueError, match='num_unroll must be >= 0, got -2'):
    make(-2)
  with pytest.raises(ValueError, match='eps_root'):
    make(1, d_tx=optax.adam(1e-3))
  make(0, d_tx=optax.adam(1e-3))  # nothing is differentiated through
  with pytest.raises(ValueError, match='batch of 8 .*multiple of 3'):
    method = make(2, fresh=True)
    x, state = start(method)
    method.step(state, KEY, {'x': x})
