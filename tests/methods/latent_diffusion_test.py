"""Latent diffusion: moments through a linear auto-encoder, the unit, what is frozen."""

import functools
import inspect

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows import diffusion as rows

from gm_jax import (
  amortized,
  base,
  conditions,
  latent_priors,
  latent_spaces,
  observations,
)
from gm_jax.methods import autoencoder, edm, latent_diffusion, vae, vq_vae
from gm_jax.models import latent, mlp

KEY = jax.random.key(0)
SHAPE = (1, 2)
# x = M + u W of latents u ~ N(U, L L^T) in a plane of three dimensions; the encoder
# finds u exactly, in another unit.
M, U = np.array([0.5, -1.0, 2.0]), np.array([3.0, -2.0])
W = np.array([[1.0, 0.5, 0.0], [-0.3, 0.2, 0.8]])
L = np.array([[2.0, 0.0], [1.2, 0.7]])
COV = L @ L.T
SCALE = np.sqrt(np.trace(COV) / 2)  # the deviation of all numbers about their means


def linear():
  """The auto-encoder of these: latents u `[B, 1, 2]`."""
  back = jnp.asarray(np.linalg.pinv(W))
  model = base.State(jnp.zeros((), jnp.int32), {'back': back}, {}, (), ())
  flat = latent_spaces.Autoencoder(
    lambda key, batch: model,
    lambda model, key, x: (x - M) @ model.params['back'],
    lambda model, u: u @ W + M,
    lambda model, key, x: (x - M) @ model.params['back'],
  )
  return latent_spaces.on_grid(flat, SHAPE)


def plane(key, num):
  u = U + jax.random.normal(key, (num, 2)) @ L.T
  return {'x': u @ W + M}


class Optimal(nn.Module):
  """F of EDM whose denoiser is that of N(0, COV / SCALE^2), data of deviation 1."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    unused = self.param('unused', nn.initializers.zeros, ())
    values, vectors = np.linalg.eigh(COV / SCALE**2)
    sigma = jnp.exp(4 * t).reshape(-1, 1, 1)
    root = jnp.sqrt(1 + sigma**2)
    gain = values / (values + sigma**2)
    best = (x * root @ vectors * gain) @ vectors.T
    return (best - x / root) * root / sigma + unused


def of_plane(network):
  space = linear()
  prior = edm.edm(network, optax.sgd(0.1), shape=SHAPE, data_std=1.0)
  return latent_diffusion.latent_diffusion(space, prior, shape=SHAPE), space, prior


def model_of(state):
  return base.Model(state.params, state.extra)


def test_the_unit_is_the_closed_form_and_what_is_diffused_has_deviation_one():
  """Exactly so on the batch that it is measured on, and nearly on another."""
  method, space, _ = of_plane(Optimal())
  batch, other = (plane(jax.random.key(i), 40_000) for i in (1, 2))
  before = space.init(KEY, batch)._replace(step=jnp.asarray(7))
  state = latent_diffusion.after_autoencoder(method, space)(KEY, before, batch)
  unit = state.extra[latent_diffusion.UNIT]
  assert state.step == 7
  np.testing.assert_allclose(unit.mean, U, atol=5 * SCALE / 200)
  np.testing.assert_allclose(unit.scale, SCALE, rtol=5 / 200)
  encode = method.queries['encode']
  for data, error in ((batch, 1e-5), (other, 5 / 200)):
    z = encode(model_of(state), KEY, data['x'])
    np.testing.assert_allclose(z.mean(axis=(0, 1)), np.zeros(2), atol=error * 2)
    np.testing.assert_allclose(jnp.sqrt(jnp.square(z).mean()), 1.0, rtol=error)


def test_the_exact_denoiser_gives_the_moments_of_the_data():
  method, _, prior = of_plane(Optimal())
  state = method.init(KEY, plane(KEY, 4))
  unit = latent_spaces.Unit(jnp.asarray(U), jnp.asarray(SCALE))
  model = base.Model(state.params, {**state.extra, latent_diffusion.UNIT: unit})
  num = 20_000

  @jax.jit
  def draw(key):
    z = prior.sample(base.Model(model.params, {}), key, num, num_steps=60)
    return method.sample(model, key, num, num_steps=60), z

  x, z = (np.asarray(a, np.float64) for a in draw(jax.random.key(3)))
  # Samples are decoded latents of the same key, back in their unit.
  np.testing.assert_allclose(x, (U + SCALE * z[:, 0]) @ W + M, atol=1e-4)
  cov = W.T @ COV @ W
  error = np.sqrt(np.diag(cov) / num)
  assert (np.abs(x.mean(axis=0) - (U @ W + M)) < 5 * error).all()
  wick = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / num)
  assert (np.abs(np.cov(x.T) - cov) < 5 * wick + 0.01 * np.abs(cov)).all()


def test_a_step_is_the_diffusion_models_own_on_latents_made_by_hand():
  """Told a class, which the prior is given as it is, and which it drops by its key."""
  first = autoencoder.autoencoder(mlp.MLP((2,)), mlp.MLP((2,)), optax.sgd(0.1))
  space = latent_spaces.by_codes(first)
  prior = edm.edm(
    rows.NETWORK, optax.adam(1e-2), shape=(2,), data_std=1.0,
    condition=conditions.optional(conditions.by_class(2), 0.3),
  )  # fmt: skip
  method = latent_diffusion.latent_diffusion(space, prior, shape=(2,))
  batch = rows.of_two_classes(jax.random.key(1))
  trained = first.init(jax.random.key(2), batch)
  trained, _ = jax.jit(first.step)(trained, KEY, batch)
  state = latent_diffusion.after_autoencoder(method, space)(KEY, trained, batch)
  step, prior_step = jax.jit(method.step), jax.jit(prior.step)
  parameters = trained.params['encoder']['Dense_0']
  z = np.asarray(batch['x']) @ parameters['kernel'] + parameters['bias']
  z = (z - z.mean(axis=0)) / np.sqrt(np.mean((z - z.mean(axis=0)) ** 2))
  own = state._replace(extra={})
  key, after = jax.random.key(5), state
  for i in range(3):
    after, metrics = step(after, jax.random.fold_in(key, i), batch)
    prior_key = jax.random.split(jax.random.fold_in(key, i))[1]
    own, expected = prior_step(own, prior_key, {**batch, 'x': jnp.asarray(z)})
    np.testing.assert_allclose(metrics['loss'], expected['loss'], rtol=1e-4)
  chex.assert_trees_all_close(after.params, own.params, rtol=1e-3, atol=1e-5)
  assert metrics['scale'] == state.extra[latent_diffusion.UNIT].scale
  # What is frozen and measured is the same bit for bit, what is trained has moved.
  chex.assert_trees_all_equal(after.extra, state.extra)
  frozen = after.extra[base.FROZEN][latent_diffusion.AUTOENCODER]
  chex.assert_trees_all_equal(frozen.params, trained.params)
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, state.params)
  assert any(jax.tree.leaves(moved))
  # Samples take the prior's options; guidance is known to them.
  assert inspect.signature(method.sample) == inspect.signature(prior.sample)
  model, label = model_of(after), jnp.zeros(3, jnp.int32)
  draw = functools.partial(method.sample, model, KEY, 3, condition=label, num_steps=1)
  plain, guided = jax.jit(lambda: (draw(), draw(guidance=3.0)))()
  assert (plain != guided).any()


class Wrapped(nn.Module):
  """A layer that takes `train`."""

  body: nn.Module

  def __call__(self, x, *, train=False):
    return self.body(x)


def test_latents_of_a_vae_are_draws_from_its_posterior_means_when_encoded():
  net = amortized.Networks(
    latent.FlatPosterior(Wrapped(nn.Dense(4))),
    latent.Unflattened(Wrapped(nn.Dense(5)), (3, 2)),
    latent_priors.normal(6),
    observations.fixed_gaussian(0.5),
  )
  method = vae.vae(net, optax.sgd(0.1))
  x = jax.random.normal(KEY, (2, 3, 5))
  state = method.init(KEY, {'x': x})
  space = latent_spaces.on_grid(latent_spaces.by_codes(method), (3, 2))
  model = model_of(state)
  layer = state.params['encoder']['body']['body']
  out = np.asarray(x) @ layer['kernel'] + layer['bias']  # [2, 3, 4]
  mean, std = out[..., :2], np.exp(out[..., 2:])
  np.testing.assert_allclose(space.encode(model, KEY, x), mean, atol=1e-5)
  many = jax.jit(jax.vmap(lambda key: space.draw(model, key, x)))
  z = np.asarray(many(jax.random.split(KEY, 4000)))
  assert (np.abs(z.mean(axis=0) - mean) < 5 * std / np.sqrt(4000)).all()
  np.testing.assert_allclose(z.std(axis=0), std, rtol=5 / np.sqrt(8000))
  layer = state.params['decoder']['body']['body']
  expected = mean @ layer['kernel'] + layer['bias']
  np.testing.assert_allclose(
    space.decode(model, jnp.asarray(mean)), expected, atol=1e-5
  )


@pytest.mark.slow
def test_latents_of_a_vq_vae_are_vectors_which_decoding_quantizes():
  """Two vectors nearer to one code than to another are decoded alike."""
  net = vq_vae.Networks(
    Wrapped(nn.Dense(2)), Wrapped(nn.Dense(5)), observations.fixed_gaussian(0.5), 4
  )
  method = vq_vae.vq_vae(net, optax.sgd(0.1))
  x = jax.random.normal(KEY, (6, 3, 5))
  state = method.init(KEY, {'x': x})
  model, space = model_of(state), latent_diffusion.by_vectors(net, method)
  z = space.draw(model, KEY, x)
  layer = state.params['encoder']['body']
  np.testing.assert_allclose(z, x @ layer['kernel'] + layer['bias'], atol=1e-5)
  found = space.decode(model, z)
  np.testing.assert_array_equal(found, method.queries['reconstruct'](model, None, x))
  codes = np.asarray(model.extra['codebook'].codes)
  near = codes[np.square(np.asarray(z)[..., None, :] - codes).sum(-1).argmin(-1)]
  np.testing.assert_allclose(space.decode(model, jnp.asarray(near)), found, atol=1e-5)


def test_what_does_not_fit_is_one_line():
  space = linear()
  batch = plane(KEY, 4)
  prior = edm.edm(Optimal(), optax.sgd(0.1), shape=(3,), data_std=1.0)
  method = latent_diffusion.latent_diffusion(space, prior, shape=(3,))
  with pytest.raises(ValueError, match=r'gives latents \(4, 1, 2\).* of \[B, 3\]$'):
    method.init(KEY, batch)
  narrow = latent_spaces.on_grid(space, (3, 2))
  with pytest.raises(ValueError, match=r'codes \(4, 1, 2\) .* latents \[B, 3, 2\]$'):
    narrow.encode(space.init(KEY, batch), KEY, batch['x'])
  method, space, prior = of_plane(Optimal())
  enter = latent_diffusion.after_autoencoder(method, space)
  other = base.Model({'back': jnp.zeros((3, 3))}, {})
  with pytest.raises(ValueError, match='has other networks than this model is of$'):
    enter(KEY, other, batch)
  with pytest.raises(ValueError, match='must have samples'):
    latent_diffusion.latent_diffusion(space, prior._replace(sample=None), shape=SHAPE)


def test_the_auto_encoder_of_another_run_begins_at_step_zero():
  method, space, _ = of_plane(Optimal())
  enter = latent_diffusion.after_autoencoder(method, space)
  previous = base.Model({'back': jnp.asarray(2 * np.linalg.pinv(W))}, {})
  state = enter(KEY, previous, plane(KEY, 1000))
  assert state.step == 0
  np.testing.assert_allclose(
    state.extra[latent_diffusion.UNIT].scale, 2 * SCALE, rtol=5 / np.sqrt(1000)
  )


R, NUM = 0.9, 800  # correlation of two latents, and completions


class Pair(nn.Module):
  """F of EDM whose denoiser is that of two correlated numbers `[B, 1, 2, 1]`."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    unused = self.param('unused', nn.initializers.zeros, ())
    sigma = jnp.exp(4 * t).reshape(-1, 1, 1, 1)
    # Of the mean and of what is apart from it, whose variances are 1 + r and 1 - r.
    root, mean = jnp.sqrt(1 + sigma**2), x.mean(axis=2, keepdims=True)
    gains = [v / (v + sigma**2) for v in (1 + R, 1 - R)]
    best = (gains[0] * mean + gains[1] * (x - mean)) * root
    return (best - x / root) * root / sigma + unused


def squares(x):
  """The means of an image's two squares, `[B, 2, 4, 1]` -> `[B, 1, 2, 1]`."""
  return x.reshape(-1, 1, 2, 2, 2, 1).mean(axis=(2, 4))


@pytest.mark.slow
def test_completions_are_those_of_latents_whose_pixels_are_all_known():
  """Images of two squares, each of one latent: the other is N(r z, 1 - r^2)."""
  encode = lambda model, key, x: squares(x)  # noqa: E731
  space = latent_spaces.Autoencoder(
    lambda key, batch: base.State(jnp.zeros((), jnp.int32), {}, {}, (), ()),
    encode,
    lambda model, z: z.repeat(2, axis=1).repeat(2, axis=2),
    encode,
  )
  shape, middle, scale, z = (1, 2, 1), 3.0, 2.0, 0.8
  prior = edm.edm(Pair(), optax.sgd(0.1), shape=shape, data_std=1.0)
  method = latent_diffusion.latent_diffusion(space, prior, shape=shape)
  pixels = jnp.array([-1.0, 1.0, 0.5, -0.5]).reshape(2, 2)  # about the square's mean
  x = jnp.full((1, 2, 4, 1), 99.0).at[0, :, :2, 0].set(middle + scale * z + pixels)
  observed = jnp.zeros(x.shape, bool).at[:, :, :2].set(True).at[:, 0, 2].set(True)
  state = method.init(KEY, {'x': jnp.zeros((4, 2, 4, 1))})
  unit = latent_spaces.Unit(jnp.array([middle]), jnp.asarray(scale))
  model = base.Model(state.params, {**state.extra, latent_diffusion.UNIT: unit})
  run = jax.jit(lambda key: method.queries['impute'](
    model, key, x, observed, num=NUM, inpainter='particles', num_particles=16,
    num_steps=200,
  ))  # fmt: skip
  out = np.asarray(run(KEY), np.float64)[:, 0, :, :, 0]
  # Known pixels are kept, the single one of the other square too.
  np.testing.assert_array_equal(out[:, :, :2], np.tile(x[0, :, :2, 0], (NUM, 1, 1)))
  assert (out[:, 0, 2] == 99.0).all()
  # What is hidden there is one latent, of which only the other square tells.
  np.testing.assert_array_equal(out[:, 1, 2], out[:, 1, 3])
  other = (out[:, 1, 3] - middle) / scale
  assert abs(other.mean() - R * z) < 4 * np.sqrt((1 - R**2) / NUM) + 0.01
  np.testing.assert_allclose(other.var(), 1 - R**2, rtol=4 * np.sqrt(2 / NUM))


def test_an_encoder_sees_nothing_of_hidden_pixels():
  x = jax.random.normal(KEY, (2, 2, 4, 1))
  observed = jnp.zeros(x.shape, bool).at[0, :, :3].set(True)
  filled = latent_spaces.filled(x, observed)
  np.testing.assert_allclose(filled[0, :, 3, 0], [x[0, :, :3].mean()] * 2, rtol=1e-5)
  np.testing.assert_array_equal(filled[0, :, :3], x[0, :, :3])
  np.testing.assert_array_equal(filled[1], jnp.zeros((2, 4, 1)))
  known = latent_spaces.observed_latents(observed, (1, 2, 3))
  np.testing.assert_array_equal(known[..., 0], [[[True, False]], [[False, False]]])
  with pytest.raises(ValueError, match='latents .B, 1, 3, 3. are no grid over 2 x 4'):
    latent_spaces.observed_latents(observed, (1, 3, 3))
