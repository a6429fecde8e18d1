"""The unrolled GAN's gradient, against finite differences of f_k itself."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import priors, unroll
from gm_jax.losses import adversarial
from gm_jax.methods import gan, unrolled_gan
from gm_jax.models import mlp

GENERATOR, CRITIC = mlp.MLP((5, 2), nn.tanh), mlp.MLP((6, 1), nn.tanh)
PRIOR = priors.normal(3)
RATE = 0.5  # of the discriminator
KEY = jax.random.key(2)


def make(k, *, g_tx=None, d_tx=None, **kwargs):
  return compiled(unrolled_gan.unrolled_gan(
    GENERATOR, CRITIC, g_tx or optax.sgd(1.0), d_tx or optax.sgd(RATE), prior=PRIOR,
    num_unroll=k, **kwargs,
  ))  # fmt: skip


def start(method, num=8):
  x = np.random.default_rng(0).normal(size=(num, 2)) + 1.0
  if not jax.config.jax_enable_x64:
    x = x.astype(np.float32)
  state = method.init(jax.random.key(1), {'x': x})
  # Of the dtype of x; drawn in numpy, so that what is compared is about steps alone.
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda p: (0.5 * rng.normal(size=p.shape)).astype(x.dtype), state.params
  )
  return x, state._replace(params=params)


def generator_gradient(method, x, state):
  """The gradient that the step used: with rate 1, minus the change."""
  new, metrics = method.step(state, KEY, {'x': x})
  old, moved = jax.device_get((state.params['generator'], new.params['generator']))
  return jax.tree.map(np.subtract, old, moved), new, metrics


def flat(tree):
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def objective_by_loops(k, fresh, x, state, with_real=True):
  """f_k as a function of the generator, in a plain Python loop.

  Its second value is the discriminator after its ordinary step.
  """
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

  def f_k(g_params):
    critic_key, z_key, _ = jax.random.split(KEY, 3)
    keys = jax.random.split(critic_key, 1 + k)
    real = x[:: 1 + k] if fresh else x
    start = state.params['generator']
    d_start = ascend(state.params['discriminator'], start, real, noise(keys[0]))
    d_params, z = d_start, PRIOR(z_key, num)
    for i in range(1, k + 1):
      batch = (x[i :: 1 + k], noise(keys[i])) if fresh else (real, z)
      d_params = ascend(d_params, g_params, *batch)
    return f(g_params, d_params, real, z, with_real), d_start

  return f_k


SLOW = pytest.mark.slow  # where another test is nearly the same


@pytest.mark.parametrize(
  ('k', 'fresh'), [(0, False), pytest.param(0, True, marks=SLOW), (3, False), (3, True)]
)
def test_gradient_is_that_of_f_k_by_finite_differences(k, fresh):
  with jax.enable_x64(True):
    method = make(k, fresh=fresh)
    x, state = start(method, 8 * (1 + k) if fresh else 8)
    gradient, new, _ = generator_gradient(method, x, state)
    f_k = jax.jit(objective_by_loops(k, fresh, x, state))
    rng = np.random.default_rng(5)
    direction = jax.tree.map(
      lambda p: rng.normal(size=p.shape), state.params['generator']
    )

    def shift(h):
      return jax.tree.map(lambda p, d: p + h * d, state.params['generator'], direction)

    (above, d_start), (below, _) = f_k(shift(1e-5)), f_k(shift(-1e-5))
    numeric = (above - below) / 2e-5
    exact = flat(gradient) @ flat(direction)
    np.testing.assert_allclose(exact, numeric, rtol=1e-6)
    # The discriminator took one ordinary step: looking ahead left no trace.
    np.testing.assert_allclose(
      flat(new.params['discriminator']), flat(d_start), rtol=1e-9
    )


@pytest.mark.parametrize(
  ('k', 'fresh'),
  [
    pytest.param(0, False, marks=SLOW),
    pytest.param(0, True, marks=SLOW),
    (2, False),
    pytest.param(2, True, marks=SLOW),
  ],
)
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
    without = objective_by_loops(5, False, x, state, with_real=False)
    other, _ = jax.jit(jax.grad(without, has_aux=True))(state.params['generator'])
    gap = np.linalg.norm(flat(gradient) - flat(other))
    assert gap > 0.1 * np.linalg.norm(flat(gradient))


def test_no_unrolling_is_the_minimax_gan():
  tx = optax.adam(1e-2, b1=0.5)
  method = make(0, g_tx=tx, d_tx=tx)
  plain = compiled(
    gan.gan(GENERATOR, CRITIC, tx, tx, prior=PRIOR, game=adversarial.MINIMAX)
  )
  x, state = start(method)
  other = state
  for i in range(5):
    key = jax.random.fold_in(KEY, i)
    state = method.step(state, key, {'x': x})[0]
    other = plain.step(other, key, {'x': x})[0]
  np.testing.assert_allclose(flat(state.params), flat(other.params), atol=2e-6)


def test_inner_optimizer_begins_at_the_outer_state_and_leaves_it():
  tx = optax.adam(1e-2, b1=0.5, eps_root=1e-8)
  methods = {k: make(k, d_tx=tx) for k in (0, 4)}
  x, state = start(methods[0])
  states = {k: methods[k].step(state, KEY, {'x': x})[0] for k in (0, 4)}
  again = methods[4].step(states[4], KEY, {'x': x})[0]
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
  _, metrics = methods[4].step(warm, KEY, {'x': x})

  def d_loss(params, real, fake):
    logits = [CRITIC.apply({'params': params}, v)[:, 0] for v in (real, fake)]
    return adversarial.MINIMAX.discriminator(*logits).mean()

  @jax.jit
  def by_hand(params, opt_state):
    critic_key, z_key, _ = jax.random.split(KEY, 3)
    z_first = PRIOR(jax.random.split(jax.random.split(critic_key, 5)[0])[0], len(x))
    for z in [z_first] + 4 * [PRIOR(z_key, len(x))]:
      fake = GENERATOR.apply({'params': warm.params['generator']}, z)
      slope = jax.grad(d_loss)(params, x, fake)
      updates, opt_state = tx.update(slope, opt_state, params)
      params = optax.apply_updates(params, updates)
    return -d_loss(params, x, fake)

  expected = by_hand(warm.params['discriminator'], warm.opt_state['discriminator'])
  np.testing.assert_allclose(metrics['generator_loss'], expected, rtol=1e-5)
  assert again.opt_state['discriminator'][0].count == 2


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


@pytest.mark.slow
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
    method = compiled(unrolled_gan.unrolled_gan(
      GENERATOR, Concave(), optax.sgd(1.0), optax.sgd(0.2), prior=PRIOR,
      num_unroll=k, game=pair, unroll_fn=unroll_fn,
    ))  # fmt: skip
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
