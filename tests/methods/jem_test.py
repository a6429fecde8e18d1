"""JEM: log p(x, y) through the queries, its loss written out, samples of a class."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from gm_jax import base, contrasts, priors, replay
from gm_jax import chains as chains_lib
from gm_jax.methods import jem

MEANS = np.array([-2.0, 0.5, 2.0])
COLD = 1e-12
KEY = jax.random.key(0)
X = np.array([[0.3], [-1.0], [2.5], [0.9]])
LABEL = np.array([1, -1, 2, 0])


class Classes(nn.Module):
  """Logits of Gaussians of variance 1, equally likely: -(x - m)^2 / 2."""

  @nn.compact
  def __call__(self, x, *, train=False):
    means = self.param('means', lambda key: jnp.float32(MEANS))
    return -0.5 * jnp.square(x - means)


def method_of(*, options=None, **changes):
  plain = {'num_steps': 1, 'step_size': 1e-9, 'temperature': COLD, 'size': 4}
  chains = chains_lib.Chains(
    **{'noise': priors.normal(1), 'rate': 0.0} | plain | changes
  )
  options = {'num_classes': 3, **(options or {})}
  return jem.jem(Classes(), chains, optax.sgd(1.0), shape=(1,), **options)


def started(method):
  state = jax.jit(method.init)(KEY, {'x': jnp.float32(X)})
  return state, base.Model(state.params, state.extra)


def test_log_p_of_both_is_that_of_the_class_and_that_of_x_to_one_constant():
  method = method_of()
  _, model = started(method)
  x = jnp.linspace(-4.0, 4.0, 9)[:, None]
  energy, classify = (jax.jit(method.queries[name]) for name in ('energy', 'classify'))
  of_x, logs = -energy(model, None, x), classify(model, None, x)
  np.testing.assert_allclose(special.logsumexp(logs, axis=1), 0.0, atol=1e-6)
  densities = -0.5 * np.square(np.asarray(x) - MEANS)  # to the constant of each class
  np.testing.assert_allclose(of_x, special.logsumexp(densities, axis=1), rtol=1e-5)
  for y in range(3):
    both = -energy(model, None, x, condition=jnp.full(9, y))
    np.testing.assert_allclose(both, logs[:, y] + of_x, atol=1e-5)
    np.testing.assert_allclose(both, densities[:, y], atol=1e-5)


def terms(means, x, label, negatives, weight, energy_weight):
  """The loss of JEM in numpy, with its gradient by central differences elsewhere."""
  f, g = (-0.5 * np.square(z - means) for z in (x, negatives))
  logs, known = special.log_softmax(f, axis=1), label >= 0
  entropy = -logs[known, label[known]].mean() if known.any() else 0.0
  data, other = -special.logsumexp(f, axis=1), -special.logsumexp(g, axis=1)
  squares = np.square(data).mean() + np.square(other).mean()
  return entropy, entropy + energy_weight * (
    data.mean() - other.mean() + weight * squares
  )


@pytest.mark.parametrize('label', [LABEL, np.full(4, -1)])
def test_a_step_has_the_loss_written_out_of_some_labels_or_none(label):
  numbers = {'weight': 0.2, 'energy_weight': 0.7}
  method = method_of(options=numbers)
  state, _ = started(method)
  batch = {'x': jnp.float32(X), 'label': jnp.int32(label)}
  after, metrics = jax.jit(method.step)(state, KEY, batch)
  negatives = np.asarray(state.extra[base.LOCAL][contrasts.REPLAY].chains, float)
  loss = functools.partial(terms, x=X, label=label, negatives=negatives, **numbers)
  entropy, value = loss(MEANS)
  np.testing.assert_allclose(metrics['cross_entropy'], entropy, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(metrics['loss'], value, rtol=1e-4)
  right = special.softmax(-0.5 * np.square(X - MEANS), axis=1).argmax(1) == label
  known = label >= 0
  expected = right[known].mean() if known.any() else 0.0
  np.testing.assert_allclose(metrics['labelled_accuracy'], expected, rtol=1e-6)
  moved = np.asarray(after.params['classifier']['means'], float) - MEANS
  for i, step in enumerate(1e-4 * np.eye(3)):
    slope = (loss(MEANS + step)[1] - loss(MEANS - step)[1]) / 2e-4
    np.testing.assert_allclose(moved[i], -slope, atol=1e-4)


def test_samples_of_a_class_are_the_chains_that_are_likely_it():
  num = 1500
  method = method_of(size=num, temperature=1.0, step_size=0.05)
  state, _ = started(method)
  rng = np.random.default_rng(1)
  mixture = rng.choice(MEANS, (num, 1)) + rng.normal(size=(num, 1))
  held = replay.Buffer(jnp.float32(mixture))
  model = base.Model(state.params, {base.LOCAL: {contrasts.REPLAY: held}})
  draw = jax.jit(functools.partial(method.sample, num_steps=1), static_argnums=2)
  # Weighted by p(y | x), draws from p(x) are draws from p(x | y), a Gaussian; N chains
  # stand for some fewer, of which each is drawn again, and a step widens them a little.
  for y, mean in enumerate(MEANS):
    x = np.asarray(draw(model, KEY, num, condition=np.full(num, y)), float)
    error = 4 * np.sqrt(2 * 3 / num)
    assert abs(x.mean() - mean) < error
    assert abs(x.var() - 1) < 0.05 + np.sqrt(2) * error
  x = np.asarray(draw(model, KEY, num), float)
  assert abs(x.mean() - MEANS.mean()) < 0.1 and abs(x.var() - 1 - MEANS.var()) < 0.25


def test_what_does_not_fit_is_one_line():
  with pytest.raises(ValueError, match='energy_weight must be >= 0, got -1'):
    method_of(options={'energy_weight': -1.0})
  method = method_of(options={'num_classes': 4})
  with pytest.raises(ValueError, match=r'the classifier must return \[B, 4\]'):
    jax.eval_shape(
      lambda x: method.step(
        method.init(KEY, {'x': x}), KEY, {'x': x, 'label': jnp.zeros(4, int)}
      ),
      jnp.float32(X),
    )
  _, model = started(method_of())
  with pytest.raises(ValueError, match='label'):
    method_of().queries['energy'](model, None, jnp.float32(X), condition=LABEL)
