"""The query `impute` of diffusion models: completions, conditions, guidance."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base, conditions, denoisers, diffusion, imputation, processes, times

C = np.array([[1.0, 0.9], [0.9, 1.0]])
VP, KEY = processes.variance_preserving(), jax.random.key(0)


def of_gaussian(num_steps):
  """`impute` of the exact denoiser of N(0, C)."""

  def denoise(x, t):
    alpha, sigma = VP.alpha(t[0]), VP.sigma(t[0])
    gain = alpha * C @ jnp.linalg.inv(alpha**2 * C + sigma**2 * jnp.eye(2))
    return x @ gain.T

  grid = times.even_log_snr(VP)
  return imputation.query(VP, grid, (2,), lambda *_: denoise, num_steps=num_steps)


@pytest.mark.slow
def test_completions_of_each_example_are_draws_given_what_is_known_of_it():
  """E = 0.9 y and V = 0.19, up to what 40 steps of the smaller variance leave out."""
  known = jnp.array([-1.0, 0.0, 1.0])
  x = jnp.stack([known, jnp.full(3, 9.0)], axis=1).at[1].set(jnp.array([9.0, 0.5]))
  observed = jnp.array([[True, False], [False, True], [True, False]])
  run = jax.jit(lambda key: of_gaussian(40)(
    None, key, x, observed, num=300, inpainter='particles', num_particles=32
  ))  # fmt: skip
  out = np.asarray(run(KEY))
  assert out.shape == (300, 3, 2)
  np.testing.assert_array_equal(out[:, observed], np.tile(x[observed], (300, 1)))
  hidden = out[:, ~np.asarray(observed)]
  expected = 0.9 * np.array([-1.0, 0.5, 1.0])
  assert (np.abs(hidden.mean(axis=0) - expected) < 4 * np.sqrt(0.19 / 300) + 0.02).all()
  assert (np.abs(hidden.var(axis=0) / 0.19 - 1) < 0.4).all()
  # Filters of different completions have nothing in common.
  correlation = np.corrcoef((hidden - expected).T)
  assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 0.25


class Shift(nn.Module):
  """A denoiser that tells the class as the data, 0 without one."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    unused = self.param('unused', nn.initializers.zeros, ())
    return 0 * x + condition @ jnp.array([[0.2, 0.2], [0.4, 0.4]]) + unused


slow = pytest.mark.slow
NAMES = (
  'particles',
  *(pytest.param(n, marks=slow) for n in ('repaint', 'replacement')),
)


@pytest.mark.slow
@pytest.mark.parametrize('inpainter', NAMES)
def test_conditions_belong_to_their_examples_and_guidance_goes_beyond_them(inpainter):
  """As far as the data's bound, which is 1."""
  condition = conditions.optional(conditions.by_class(2), 0.5)
  parts = diffusion.Denoising(
    Shift(), VP, denoisers.DATA, (2,), times.even(VP), condition, bound=1.0
  )
  x, label = jnp.full((2, 2), 5.0), jnp.array([0, 1])
  params, extra = diffusion.init(parts)(KEY, {'x': x, 'label': label})
  model, queries = base.Model(params, extra), diffusion.sampling(parts, num_steps=3)[1]
  observed = jnp.array([[True, False], [True, False]])
  options = {'inpainter': inpainter, 'jump': 1, 'resamplings': 2, 'num_particles': 2}

  @jax.jit
  def run(key, label):
    def impute(**more):
      return queries['impute'](model, key, x, observed, num=4, **options, **more)

    return impute(condition=label), impute(condition=label, guidance=4.0), impute()

  for out, values in zip(
    run(KEY, label), ([0.2, 0.4], [0.8, 1.0], [0.0, 0.0]), strict=True
  ):
    np.testing.assert_array_equal(out[..., 0], 5.0)
    np.testing.assert_allclose(out[..., 1], np.tile(values, (4, 1)), atol=1e-5)


@pytest.mark.parametrize(
  ('options', 'word'),
  [
    ({'inpainter': 'magic'}, "no inpainter 'magic'; there are: repaint, replacement"),
    ({'num_steps': 0}, 'num_steps must be >= 1, got 0'),
    ({'num_particles': 0}, 'num_particles must be >= 1, got 0'),
    ({'resamplings': 0}, 'resamplings must be >= 1'),
    ({'jump': -1}, 'jump must be >= 1, got -1'),
    ({'num': 0}, 'num must be >= 1'),
  ],
)
def test_options_that_do_not_fit_are_one_line(options, word):
  x = jnp.zeros((3, 2))
  with pytest.raises(ValueError, match=word) as error:
    of_gaussian(4)(None, KEY, x, x > 0, **{'num': 2, **options})
  assert '\n' not in str(error.value)


def test_other_shapes_are_one_line():
  x = jnp.zeros((3, 2))
  with pytest.raises(ValueError, match=r'shape of x, \[3, 2\], got \[2\]'):
    of_gaussian(4)(None, KEY, x, jnp.ones(2, bool), num=1)
  with pytest.raises(ValueError, match=r'x must be \[B, 2\], got \(3, 4\)'):
    of_gaussian(4)(None, KEY, jnp.zeros((3, 4)), jnp.ones((3, 4), bool), num=1)
