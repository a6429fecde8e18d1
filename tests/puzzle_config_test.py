"""The Puzzle-GAN's config: the paper's sizes, and and patches of anybody's own."""

import json
import pathlib
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import puzzle_gan_glyphs  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.training import conditioning, launch, pictures, setup  # noqa: E402

KEY = jax.random.key(0)
SMALL = {
  'data': 'patches:glyphs?num=64&size=16', 'steps': 4, 'steps_per_dispatch': 2,
  'log_every': 2, 'evaluate_every': 4, 'sample_every': 4, 'checkpoint_every': 4,
  'batch_size': 8, 'base_features': 4, 'd_features': 4, 'embedding': 8,
}  # fmt: skip


def of_the_paper():
  config = puzzle_gan_glyphs.get_config('paper')
  spec = registry.load(config.data).spec
  return config, spec, puzzle_gan_glyphs.make_method(config, spec)


def batch_of(spec, num):
  shapes = {'x': spec.shape, **{k: spec.parts[k].shape for k in ('condition', 'mask')}}
  return {k: jnp.zeros((num, *shape)) for k, shape in shapes.items()}


def test_the_papers_argument_has_its_sizes():
  config, spec, method = of_the_paper()
  assert spec.shape == (64, 64, 3) and config.latent_size == 128
  assert puzzle_gan_glyphs.batch_size(config) == 2 * 64
  assert config.g_learning_rate == config.d_learning_rate == 2e-4
  assert config.b1 == 0.5 and config.num_critic == 2
  # logspace(-2, -4) of sums over the batch of 64.
  for name in ('spatial_weights', 'appearance_weights'):
    weight = puzzle_gan_glyphs.falling(config, name)
    ends = [weight(0) / 64, weight(config.steps / 2) / 64, weight(config.steps) / 64]
    np.testing.assert_allclose(ends, [1e-2, 1e-3, 1e-4], rtol=1e-5)
  state = jax.eval_shape(method.init, KEY, batch_of(spec, 2))
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params['generator']))
  # By hand: kernels and biases of 4x4 convolutions, dense layers, normalizations.
  widths, z, vector, places = (64, 128, 256, 512), 128, 128, 16

  def conv(i, o):
    return 16 * i * o + o

  norms = 2 * sum(widths)
  encoder = sum(map(conv, (3, *widths[:-1]), widths)) + norms - 2 * 64
  encoder += places * 512 * vector + vector
  mask = (vector + 1) * places * 512 + norms + conv(2 * 64, 1)
  mask += sum(conv(2 * i, i // 2) for i in (512, 256, 128))
  image = (vector + z + 1) * places * 512 + norms + conv(3 * 64, 3)
  image += sum(conv(3 * i, i // 2) for i in (512, 256, 128))
  assert count == encoder + mask + image


@pytest.mark.slow
def test_the_papers_sizes_lower_at_its_batch_and_step_at_two():
  config, spec, method = of_the_paper()
  state = jax.eval_shape(method.init, KEY, batch_of(spec, 2))
  large = jax.eval_shape(lambda: batch_of(spec, puzzle_gan_glyphs.batch_size(config)))
  assert 'func' in jax.jit(method.step).lower(state, KEY, large).as_text()
  small = batch_of(spec, 2 * config.num_critic)
  state, metrics = jax.jit(method.step)(jax.jit(method.init)(KEY, small), KEY, small)
  chex.assert_tree_all_finite(metrics)


@pytest.mark.parametrize(
  ('changes', 'word'),
  [
    ({'data': 'glyphs'}, "data = 'glyphs' has no patches, .* as of patches:NAME"),
    ({'data': 'toy:ring'}, 'are not images'),
    ({'embedding': 0}, 'embedding must be >= 1'),
    ({'spatial_weights': (0.1, 0.2)}, 'spatial_weights must be a pair that falls'),
    ({'appearance_weights': (0.1, 0.0)}, 'appearance_weights must be a pair'),
    ({'num_critic': 0}, 'num_critic must be >= 1'),
    ({'r1_gamma': -1.0}, 'r1_gamma must be >= 0'),
    ({'data': 'patches:glyphs?size=20'}, 'image size 20 is not 4 or 7'),
  ],
)
def test_what_cannot_be_trained_is_one_line(changes, word):
  config = puzzle_gan_glyphs.get_config()
  config.update(changes)
  with pytest.raises(setup.UsageError, match=word) as error:
    setup.prepare(puzzle_gan_glyphs, config, evaluates=False)
  assert '\n' not in str(error.value)


CARD = of_the_paper()[2].card


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """Patches of somebody's own: right ones, and what is wrong about others."""
  folder = tmp_path_factory.mktemp('patches')
  right = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16, 1), np.uint8)
  np.save(folder / 'right.npy', right)
  np.savez(folder / 'right.npz', condition=right, other=np.zeros(3))
  np.savez(folder / 'unnamed.npz', x=right)
  np.save(folder / 'two.npy', right[:, :2])
  np.save(folder / 'size.npy', right[:, :, :8])
  np.save(folder / 'color.npy', right.repeat(3, axis=-1))
  np.save(folder / 'floats.npy', right / 255)
  (folder / 'text.npz').write_text('no arrays')
  return folder, right


def asked(files, name):
  data = registry.load(SMALL['data'])
  return conditioning.from_words(CARD, data, [str(files[0] / name)])


@pytest.mark.parametrize('name', ['right.npy', 'right.npz'])
def test_patches_of_a_file_come_to_model_space(files, name):
  found = asked(files, name)(7)
  expected = files[1][np.arange(7) % 5] / 127.5 - 1
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_patches_of_the_test_split_come_to_model_space():
  data = registry.load(SMALL['data'])
  found = conditioning.defaults(CARD, data)(3)
  raw = data.arrays('test', 3)['condition']
  np.testing.assert_allclose(found, raw / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
  ('name', 'word'),
  [
    ('two.npy', r'holds \[5, 2, 16, 16, 1\]; condition of patches:glyphs is \[3, 16'),
    ('size.npy', r'holds \[5, 3, 8, 16, 1\]'),
    ('color.npy', r'holds \[5, 3, 16, 16, 3\]'),
    ('floats.npy', 'holds float64 from 0 to 1; .* is integers from 0 to 255'),
    ('unnamed.npz', "no array 'condition' in it; there is x"),
    ('text.npz', 'cannot be read'),
    ('missing.npz', 'No such file'),
  ],
)
def test_other_patches_than_the_model_takes_are_one_line(files, name, word):
  with pytest.raises(ValueError, match=word) as error:
    asked(files, name)
  assert '\n' not in str(error.value)


@pytest.mark.slow
def test_the_launcher_trains_scores_and_paints_from_a_file(files, tmp_path):
  config = puzzle_gan_glyphs.get_config()
  config.update(SMALL)
  launch.train(puzzle_gan_glyphs, config, tmp_path)
  found = launch.evaluate(puzzle_gan_glyphs, config, tmp_path)
  for name in ('mask_iou', 'mask_iou_of_mean', 'margin_positive'):
    assert 0 <= found[name] <= 1
  kinds = json.loads((tmp_path / 'evaluation.json').read_text())['kinds']
  assert 'pixels' in kinds['place_error']

  def size(path):
    with Image.open(path) as image:
      return image.size

  width, height = size(tmp_path / 'samples' / '00000004.png')
  # Columns of examples; rows of three patches, mask, painted and real image.
  assert height / width == pytest.approx(6 / pictures.PAIRS, rel=0.05)
  drawing = launch.Request().drawing
  drawing = drawing._replace(condition=[str(files[0] / 'right.npz')])
  request = launch.Request(num=5, drawing=drawing)
  x = launch.sample(puzzle_gan_glyphs, config, tmp_path, request=request)
  assert x.shape == (5, 16, 16, 1) and x.dtype == np.int32
  width, height = size(tmp_path / 'samples.png')
  assert height / width == pytest.approx(5 / pictures.PAIRS, rel=0.05)
