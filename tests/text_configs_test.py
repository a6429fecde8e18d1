"""Text-to-image configs: any sentence is drawn, the paper's sizes, embeddings."""

import importlib
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import registry

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs.parts import specs  # noqa: E402

NAMES = ('gan_cls_glyphs', 'stack_gan_glyphs')
KEY = jax.random.key(0)


def phases_of(name, arg=None, **changes):
  module = importlib.import_module(f'experiments.configs.{name}')
  config = module.get_config(arg)
  config.update(changes)
  spec = registry.load(config.data).spec
  return config, spec, module.make_method(config, spec)


def batch_of(phase, spec, num):
  x = jnp.zeros((num, *phase.spec.shape), phase.spec.dtype)
  length = spec.parts['text'].shape
  return {'x': x, 'text': jnp.ones((num, *length), jnp.int32).at[0].set(2)}


# A step of StackGAN's second stage, 77 million weights at 256 pixels, takes 6 GiB: it
# is made where these sizes change, by its name in this list.
STEPPED = ('gan_cls_glyphs',)


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_the_papers_sizes_lower_at_its_batch_and_step_at_two(name):
  config, spec, phases = phases_of(name, 'paper')
  assert config.batch_size == 64 and config.latent_size == 100
  assert spec.shape[0] == {'gan_cls_glyphs': 64, 'stack_gan_glyphs': 256}[name]
  large = small = None
  for phase in phases:
    batch = jax.eval_shape(lambda p=phase: batch_of(p, spec, 64))
    enter = phase.enter or (lambda k, s, b, m=phase.method: m.init(k, b))
    large = jax.eval_shape(enter, KEY, large, batch)
    jax.jit(phase.method.step).lower(large, KEY, batch)
    if name not in STEPPED:
      continue
    batch = batch_of(phase, spec, 2)
    small = enter(KEY, small, batch)
    small, metrics = jax.jit(phase.method.step)(small, KEY, batch)
    chex.assert_tree_all_finite(metrics)


def test_embeddings_of_the_data_stand_for_texts(tmp_path):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (40, 16, 16, 3), np.uint8)
  sentences = rng.normal(size=(40, 5)).astype(np.float32)
  np.savez(tmp_path / 'a.npz', x=x, condition=sentences)
  data = f'npz:{tmp_path / "a.npz"}'
  _, spec, phases = phases_of('gan_cls_glyphs', data=data, condition='condition')
  assert len(phases) == 1 and phases[0].method.card.condition == ('condition',)
  batch = {'x': jnp.zeros((4, 16, 16, 3)), 'condition': jnp.asarray(sentences[:4])}
  state = jax.eval_shape(phases[0].method.init, KEY, batch)
  samples = jax.eval_shape(
    lambda m, k: phases[0].method.sample(m, k, 4, condition=batch['condition']),
    base.Model(state.params, state.extra), KEY,
  )  # fmt: skip
  assert samples.shape == (4, *spec.shape)


def test_images_of_stage_one_are_means_of_squares():
  rng = np.random.default_rng(0)
  spec = registry.load('glyphs?size=16&mode=RGB&num=9').spec
  small = specs.pooled(spec, 4)
  assert small.shape == (4, 4, 3)
  raw = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
  found = small.transform.forward(KEY, raw)
  means = raw.reshape(2, 4, 4, 4, 4, 3).mean(axis=(2, 4))
  np.testing.assert_allclose(found, means / 127.5 - 1, atol=1e-5)


def launched(*flags):
  command = [sys.executable, ROOT / 'experiments' / 'main.py', *flags]
  return subprocess.run(command, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
def test_any_sentence_is_drawn_by_the_launcher_and_an_empty_one_is_a_line(tmp_path):
  path = ROOT / 'experiments' / 'configs' / 'gan_cls_glyphs.py'
  common = (f'--config={path}', f'--workdir={tmp_path / "run"}')
  changes = {'steps': 4, 'encoder_steps': 2, 'steps_per_dispatch': 1, 'batch_size': 8,
             'evaluate_every': 0, 'sample_every': 0, 'checkpoint_every': 4}  # fmt: skip
  sizes = [f'--config.{name}={value}' for name, value in changes.items()]
  done = launched(*common, *sizes, '--config.base_features=4', '--config.d_features=4')
  assert done.returncode == 0, done.stderr
  run = f'--workdir={tmp_path / "run"}'
  sentence = 'a bold red serif 7 my friend, upper left'
  done = launched(run, '--mode=sample', f'--condition={sentence}')
  assert done.returncode == 0, done.stderr
  assert "no word 'friend'" in done.stderr
  done = launched(run, '--mode=sample', '--condition= ')
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert 'text must have at least one word' in done.stderr
