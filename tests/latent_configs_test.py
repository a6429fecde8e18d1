"""The config of latent diffusion: its phases, other runs' auto-encoders, bad input."""

import pathlib
import shutil
import sys

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import latent_diffusion_glyphs  # noqa: E402
from gm_jax import base, conditions  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.methods import latent_diffusion  # noqa: E402
from gm_jax.models import latent  # noqa: E402
from gm_jax.models import text as text_lib  # noqa: E402
from gm_jax.training import launch, setup, trained  # noqa: E402

KEY = jax.random.key(0)
SMALL = {
  'steps': 8, 'autoencoder_steps': 4, 'steps_per_dispatch': 2, 'checkpoint_every': 2,
  'log_every': 2, 'evaluate_every': 0, 'sample_every': 0, 'keep_checkpoints': 4,
  'batch_size': 16, 'features': 8, 'width': 16, 'num_blocks': 1,
}  # fmt: skip
BAD = [
  ({'autoencoder_steps': 0}, 'autoencoder_steps must be in (0, steps), got 0'),
  ({'halvings': 2}, 'patch 2^halvings = 8 does not divide images of 28 x 28'),
  ({'regularizer': 'ae'}, "regularizer = 'ae' is not one of kl, vq"),
  ({'network': 'vit'}, "network = 'vit' is not one of dit, mlp, unet"),
  ({'condition': 'words'}, "condition = 'words' is not one of label, text"),
  ({'data': 'toy:ring'}, 'are not images'),
  ({'drop': 1.0}, 'must be in (0, 1)'),
  ({'kl_weight': 0.0}, 'beta must be > 0'),
  ({'channels': 0}, 'channels must be >= 1, got 0'),
  ({'data': 'digits', 'patch': 1, 'condition': 'text'}, 'no captions'),
  ({'autoencoder': '/nowhere'}, 'is not the workdir of a run'),
]


@pytest.mark.parametrize(('changes', 'word'), BAD)
def test_what_does_not_fit_is_one_line(changes, word):
  config = latent_diffusion_glyphs.get_config()
  config.update(changes)
  spec = registry.load(config.data).spec
  with pytest.raises((ValueError, setup.UsageError)) as error:
    latent_diffusion_glyphs.make_method(config, spec)
  assert word in str(error.value) and '\n' not in str(error.value)


def test_a_denoiser_reads_words_wherever_padding_stands_and_none_is_its_own():
  weights = np.array([1.0, -2.0, 4.0])  # the sum of normalized features is 0

  class Weighted(nn.Module):
    def __call__(self, x, t, condition=None, *, train=False):
      return x + (condition @ weights * t)[:, None]

  net = text_lib.Denoiser(Weighted(), text_lib.TextEncoder(5, 3, width=4))
  condition = conditions.optional(conditions.by_tokens(3), 0.5)
  tokens = jnp.array([[1, 2, 0], [0, 1, 2], [2, 1, 0], [0, 0, 0]])
  x, t = jnp.ones((4, 2)), jnp.arange(1.0, 5.0)
  params = net.init(KEY, x, t, condition.embed(tokens))
  found = np.asarray(net.apply(params, x, t, condition.embed(tokens)) - x) / t[:, None]
  encoder = text_lib.TextEncoder(5, 3, width=4)
  own = encoder.apply({'params': params['params']['encoder']}, tokens)
  np.testing.assert_allclose(found[:, 0], own @ weights, rtol=1e-4)
  np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
  assert abs(found[2] - found[0]).min() > 1e-3  # the order of words counts
  assert abs(found[3] - found[0]).min() > 1e-3


def test_patches_are_pixels_side_by_side_on_both_ways():
  x = np.asarray(jax.random.normal(KEY, (2, 8, 8, 3)))
  squares = np.stack(
    [x[:, i::2, j::2] for i in range(2) for j in range(2)], axis=3
  ).reshape(2, 4, 4, 12)
  patched, plain = (latent.GridEncoder(5, 1, 4, patch=n) for n in (2, 1))
  params = patched.init(KEY, x)
  z = patched.apply(params, x)
  np.testing.assert_allclose(z, plain.apply(params, squares), rtol=1e-5, atol=1e-6)
  patched = latent.GridDecoder(3, 1, 4, patch=2)
  plain = latent.GridDecoder(12, 1, 4)  # of all numbers of a patch, as channels
  params = patched.init(KEY, z)
  found, flat = patched.apply(params, z), plain.apply(params, z)
  assert found.shape == x.shape
  for i in range(2):
    for j in range(2):
      part = flat[..., 3 * (2 * i + j) :][..., :3]
      np.testing.assert_array_equal(found[:, i::2, j::2], part)


def run(workdir, **changes):
  config = latent_diffusion_glyphs.get_config()
  config.update(SMALL | changes)
  return config, launch.train(latent_diffusion_glyphs, config, workdir)


@pytest.mark.slow
@pytest.mark.parametrize('regularizer', ['kl', 'vq'])
def test_a_run_goes_on_within_its_second_phase_and_lends_its_auto_encoder(
  regularizer, tmp_path
):
  changes = {'regularizer': regularizer, 'num_codes': 8}
  config, state = run(tmp_path / 'straight', **changes)
  other = shutil.copytree(tmp_path / 'straight', tmp_path / 'other')
  shutil.rmtree(other / 'checkpoints' / '8')
  again = launch.train(latent_diffusion_glyphs, config, other)
  chex.assert_trees_all_equal(jax.device_get(again), jax.device_get(state))
  frozen = state.extra[base.FROZEN][latent_diffusion.AUTOENCODER]
  # What the first phase came to, and what another run takes of this one.
  shutil.rmtree(other / 'checkpoints' / '8')
  shutil.rmtree(other / 'checkpoints' / '6')
  first = trained.load(other, averaged=False).model
  assert trained.load(other).step == 4
  for folder in (tmp_path / 'straight', other):
    _, taken = run(tmp_path / f'from_{folder.name}', autoencoder=str(folder), **changes)
    found = taken.extra[base.FROZEN][latent_diffusion.AUTOENCODER]
    for each in (found, first):
      chex.assert_trees_all_equal(jax.device_get(each), jax.device_get(frozen))
  assert taken.step == 8
  with pytest.raises(
    setup.UsageError, match='has other networks than this model is of'
  ):
    run(tmp_path / 'wrong', autoencoder=str(other), **changes, features=12)
