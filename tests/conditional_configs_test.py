"""Configs of classes and codes: papers' sizes, and the launcher's ways to ask."""

import functools
import importlib
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import r3gan_images, sngan_images  # noqa: E402
from experiments.configs.parts import evaluations, networks  # noqa: E402
from gm_jax import base  # noqa: E402
from gm_jax.data import registry, transforms  # noqa: E402
from gm_jax.training import conditioning, launch, setup  # noqa: E402

PAPERS = {
  'sngan_images': (32, 32, 3),
  'sngan_images:label': (32, 32, 3),
  'r3gan_images': (32, 32, 3),
  'ac_gan_digits': (32, 32, 3),
  'infogan_images': (28, 28, 1),
}


def of_the_paper(name):
  """The config and the method at the paper's sizes, and the sizes of a batch."""
  module, _, condition = name.partition(':')
  experiment = importlib.import_module(f'experiments.configs.{module}')
  config = experiment.get_config('paper')
  if condition:
    config.condition = condition
  way = transforms.scaling(256)
  spec = base.DataSpec(PAPERS[name], jnp.float32, 256, 10, None, way)
  num = getattr(experiment, 'batch_size', lambda c: c.batch_size)(config)
  return config, experiment.make_method(config, spec), num


def batch_of(name, num):
  x = jax.random.uniform(jax.random.key(0), (num, *PAPERS[name]), minval=-1.0)
  return {'x': x, 'label': jnp.arange(num) % 10}


# Weights by hand: a dense layer, convolutions, two numbers a channel of a normalization
# (of a class each where it is conditional), biases where nothing normalizes.
BLOCK = 2 * (9 * 256 * 256 + 256) + 256 * 256 + 256 + 2 * (2 * 256)
OF_CLASSES = 3 * 2 * 9 * 2 * 256  # of the three blocks, of nine more classes
ENDS = 129 * 16 * 256 + 2 * 256 + 9 * 256 * 3 + 3
R3GAN_BLOCK = 2 * 768 * 1536 + 2 * 1536 + 9 * 16 * 1536
WEIGHTS = {
  'sngan_images': (5 * 64, 3 * BLOCK + ENDS),
  'sngan_images:label': (5 * 64, 3 * BLOCK + OF_CLASSES + ENDS),
  'r3gan_images': (512, (16 + 64 + 3) * 768 + 4 * 2 * R3GAN_BLOCK),
  'ac_gan_digits': (
    100,
    110 * 16 * 384 + 16 * (384 * 192 + 192 * 96 + 96 * 3) + 2 * (384 + 192 + 96) + 3,
  ),
  'infogan_images': (
    128,
    74 * 1024 + 1024 * 49 * 128 + 16 * (128 * 64 + 64) + 2 * (1024 + 128 + 64) + 1,
  ),
}


@pytest.mark.parametrize('name', WEIGHTS)
def test_a_papers_argument_has_its_batch_and_its_generator(name):
  _, method, num = of_the_paper(name)
  state = jax.eval_shape(method.init, jax.random.key(0), batch_of(name, 2))
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params['generator']))
  assert (num, count) == WEIGHTS[name]


@pytest.mark.slow
@pytest.mark.parametrize('name', PAPERS)
def test_a_papers_sizes_lower_at_its_batch(name):
  config, method, num = of_the_paper(name)
  small = batch_of(name, 2 * config.get('num_critic', 1))
  state = jax.eval_shape(method.init, jax.random.key(0), small)
  large = jax.eval_shape(lambda: batch_of(name, num))
  assert 'func' in jax.jit(method.step).lower(state, jax.random.key(1), large).as_text()


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', ['ac_gan_digits', 'infogan_images', 'sngan_images:label', 'r3gan_images']
)
def test_a_papers_sizes_step_at_two(name):
  config, method, _ = of_the_paper(name)
  small = batch_of(name, 2 * config.get('num_critic', 1))
  state = jax.jit(method.init)(jax.random.key(0), small)
  after, metrics = jax.jit(method.step)(state, jax.random.key(1), small)
  assert all(np.isfinite(m) for m in metrics.values()) and after.step == 1
  model = base.Model(after.params, after.extra)
  asked = jnp.array([3, 7]) if method.card.condition else None
  x = method.sample(model, jax.random.key(2), 2, condition=asked)
  assert x.shape == (2, *PAPERS[name]) and np.isfinite(x).all()


def test_classes_are_evaluated_where_they_are_asked_for(monkeypatch):
  for name in ('images', 'images_of_classes'):
    monkeypatch.setattr(evaluations, name, lambda config, data, name=name: name)
  config = sngan_images.get_config()
  assert evaluations.images_or_classes(config, None) == 'images'
  config = sngan_images.get_config('label')
  assert evaluations.images_or_classes(config, None) == 'images_of_classes'


def test_channels_of_r3gan_double_with_each_halving():
  spec = base.DataSpec((28, 28, 1), jnp.float32, 256, 10, None, transforms.scaling(256))
  config = r3gan_images.get_config('label')
  config.update({'base_features': 8, 'max_features': 20})
  parts = networks.r3gan_networks(config, spec)
  assert parts['generator'].body.features == (20, 16, 8)
  assert parts['discriminator'].body.features == (8, 16, 20)
  # The condition is beside z, and the critic's features are as many as its last.
  z, x, y = jnp.ones((2, 64)), jnp.ones((2, 28, 28, 1)), jnp.eye(10)[:2]
  config.max_features = 16
  parts = networks.r3gan_networks(config, spec)
  shapes = jax.eval_shape(parts['generator'].init, jax.random.key(0), z, y)
  assert shapes['params']['body']['Dense_0']['kernel'].shape == (64 + 10, 16)
  shapes = jax.eval_shape(parts['discriminator'].init, jax.random.key(0), x, y)
  assert shapes['params']['condition']['kernel'].shape == (10, 16)


@pytest.mark.slow
@pytest.mark.parametrize('size', [32, 56, 64])
@pytest.mark.parametrize('module', [sngan_images, r3gan_images])
def test_baselines_take_images_up_to_64_pixels(module, size):
  way = transforms.scaling(256)
  spec = base.DataSpec((size, size, 3), jnp.float32, 256, 10, None, way)
  method = module.make_method(module.get_config('label'), spec)
  batch = {'x': jnp.zeros((2, *spec.shape)), 'label': jnp.array([3, 7])}
  state = jax.eval_shape(method.init, jax.random.key(0), batch)
  after, _ = jax.eval_shape(method.step, state, jax.random.key(1), batch)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  model = base.Model(state.params, state.extra)
  draw = functools.partial(method.sample, num=2, condition=batch['label'])
  x = jax.eval_shape(draw, model, jax.random.key(2))
  assert x.shape == (2, *spec.shape)


CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='exact',
  sampling_cost='one_pass', training=('adversarial',), latents='continuous',
  architecture='any', condition=('label',),
)  # fmt: skip


def test_a_class_is_asked_for_by_number_or_by_name():
  digits, letters = (registry.load(n) for n in ('digits', 'glyphs?alphabet=capitals'))
  np.testing.assert_array_equal(
    conditioning.from_words(CARD, digits, ['7', '3'])(3), [7, 3, 7]
  )
  np.testing.assert_array_equal(
    conditioning.from_words(CARD, letters, ['C'])(2), [2, 2]
  )
  np.testing.assert_array_equal(
    conditioning.from_words(CARD, digits, [])(4), [0, 1, 2, 3]
  )


@pytest.mark.parametrize('word', ['10', '-1', 'A', 'seven', ''])
def test_a_class_out_of_range_or_of_another_set_is_one_line(word):
  with pytest.raises(ValueError) as error:
    conditioning.from_words(CARD, registry.load('digits'), [word])
  text = str(error.value)
  assert '\n' not in text and 'label' in text and '9' in text


@pytest.mark.slow
@pytest.mark.parametrize(
  'name',
  ['conditional_gan_digits:projection', 'ac_gan_digits', 'infogan_images:digits'],
)
def test_the_launcher_trains_samples_by_class_and_traverses(name, tmp_path):
  name, _, arg = name.partition(':')
  experiment = importlib.import_module(f'experiments.configs.{name}')
  config = experiment.get_config(arg or None)
  config.update({
    'steps': 20, 'steps_per_dispatch': 10, 'log_every': 10, 'evaluate_every': 20,
    'checkpoint_every': 20, 'sample_every': 20,
  })  # fmt: skip
  if name == 'infogan_images':
    config.hidden = 16
  launch.train(experiment, config, tmp_path)
  drawing = launch.Request().drawing._replace(condition=['7'])
  request = launch.Request()._replace(num=4, drawing=drawing)
  assert launch.sample(experiment, config, tmp_path, request=request).shape[0] == 4
  for word in ('10', 'A'):
    wrong = request._replace(drawing=drawing._replace(condition=[word]))
    with pytest.raises(setup.UsageError) as error:
      launch.sample(experiment, config, tmp_path, request=wrong)
    assert '\n' not in str(error.value)
  launch.evaluate(experiment, config, tmp_path)
  found = json.loads((tmp_path / 'evaluation.json').read_text())
  if name != 'infogan_images':
    assert 0 <= found['agreement'][0] <= 1 and found['accuracy_on_real'][0] > 0.95
    assert found['diversity'][0] > 0
  else:
    assert found['information'][0] <= np.log(10) + 1e-5
    assert 0 <= found['class_error'][0] <= 1
    launch.MODES['traverse'](experiment, config, tmp_path)
    assert (tmp_path / 'traverse.png').exists()
    rows = json.loads((tmp_path / 'traverse.json').read_text())
    assert rows['rows'] == [3] and 'label 0 to 9' in rows['kinds']['rows']
