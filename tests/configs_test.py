"""Configs build and say what they cost; what they share is right."""

import ast
import importlib
import pathlib
import re
import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base
from gm_jax.data import dataset, registry, stacked, transforms
from gm_jax.tasks import results
from gm_jax.training import setup

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import gan_ring  # noqa: E402
from experiments.configs.parts import evaluations, optimizers, runs  # noqa: E402

CONFIGS = sorted(path.stem for path in (ROOT / 'experiments' / 'configs').glob('*.py'))
PARTS = sorted((ROOT / 'experiments' / 'configs' / 'parts').glob('*.py'))
SHAPES = {'digits': (8, 8, 1), 'stacked:digits': (8, 8, 3), 'toy:ring': (2,),
          'tfds:fashion_mnist': (28, 28, 1), 'toy:grid': (2,)}  # fmt: skip
every_config = pytest.mark.parametrize('name', CONFIGS)

RATE, B1, B2, EPS, EPS_ROOT = 0.03, 0.4, 0.999, 1e-8, 1e-8
PARAMS = {'large': np.zeros(3), 'small': np.zeros((2, 2))}


def config_of(**changes):
  config = gan_ring.get_config()
  plain = {'b1': B1, 'warmup_steps': 0, 'decay_steps': 0, 'clip': 0.0, 'steps': 5}
  config.update({**plain, **changes})
  return config


def gradients(num):
  """Of very different sizes over time; those of one leaf are near eps_root."""
  rng = np.random.default_rng(0)
  return [
    {
      'large': 10.0 ** rng.uniform(-1, 1) * rng.normal(size=3),
      'small': 1e-4 * rng.normal(size=(2, 2)),
    }
    for _ in range(num)
  ]


def updates_of(tx, grads):
  state, updates = tx.init(PARAMS), []
  for grad in grads:
    update, state = tx.update(grad, state, PARAMS)
    updates.append(update)
  return updates, state


def adam_by_hand(grads, rate, clip=np.inf):
  """Kingma and Ba's algorithm 1, with eps_root, on clipped gradients."""
  first = {name: 0 * p for name, p in PARAMS.items()}
  second, updates = first, []
  for t, grad in enumerate(grads):
    norm = np.sqrt(sum(np.sum(g**2) for g in grad.values()))  # of all leaves
    grad = {name: g * min(1, clip / norm) for name, g in grad.items()}
    first = {n: B1 * first[n] + (1 - B1) * g for n, g in grad.items()}
    second = {n: B2 * second[n] + (1 - B2) * g**2 for n, g in grad.items()}
    updates.append(
      {
        n: -rate(t)
        * (first[n] / (1 - B1 ** (t + 1)))
        / (np.sqrt(second[n] / (1 - B2 ** (t + 1)) + EPS_ROOT) + EPS)
        for n in PARAMS
      }
    )
  return updates


def cosine(t, start, end):
  fraction = np.clip((t - start) / (end - start), 0, 1)
  return RATE * 0.5 * (1 + np.cos(np.pi * fraction))


@pytest.mark.parametrize(
  ('changes', 'rate'),
  [
    ({}, lambda t: RATE),
    ({'warmup_steps': 5}, lambda t: RATE * min(t / 5, 1)),
    ({'decay_steps': 12}, lambda t: cosine(t, 0, 12)),
    ({'decay_steps': -1, 'steps': 12}, lambda t: cosine(t, 0, 12)),
    (
      {'warmup_steps': 4, 'decay_steps': 12},
      lambda t: RATE * t / 4 if t < 4 else cosine(t, 4, 12),
    ),
  ],
)
@pytest.mark.parametrize('clip', [0.0, 0.7])
def test_adam_warms_up_decays_and_clips_as_written(changes, rate, clip):
  tx = optimizers.adam(config_of(clip=clip, **changes), RATE)
  grads = gradients(16)
  expected = adam_by_hand(grads, rate, clip or np.inf)
  with jax.enable_x64(True):
    updates, _ = updates_of(tx, grads)
  chex.assert_trees_all_close(updates, expected, rtol=1e-5, atol=1e-9)


def test_a_critic_of_several_updates_a_step_decays_over_all_of_them():
  config = config_of(warmup_steps=2, decay_steps=6)
  tx = optimizers.adam(config, RATE, updates=3)
  grads = gradients(20)

  def rate(t):
    return RATE * t / 6 if t < 6 else cosine(t, 6, 18)

  with jax.enable_x64(True):
    updates, _ = updates_of(tx, grads)
  expected = adam_by_hand(grads, rate)
  chex.assert_trees_all_close(updates, expected, rtol=1e-5, atol=1e-9)


def test_a_config_without_these_leaves_has_adam_as_published_decayed_over_its_steps():
  config = runs.learning('digits', steps=12, batch_size=1, rate=RATE)
  config.clip = 0.7
  expected = optax.chain(
    optax.clip_by_global_norm(0.7),
    optax.adam(optax.cosine_decay_schedule(RATE, 12)),
  )
  grads = gradients(16)
  updates, _ = updates_of(optimizers.plain_adam(config), grads)
  chex.assert_trees_all_close(updates, updates_of(expected, grads)[0], rtol=1e-6)


@pytest.mark.parametrize('name', ['gan_ring', 'wgan_gp_digits', 'mmd_gan_digits'])
def test_configs_with_critic_steps_stretch_the_critics_decay(name, monkeypatch):
  config = experiment_of(name).get_config()
  config.update({'num_critic': 4, 'decay_steps': 100, 'steps': 100})
  made = []
  adam = optimizers.adam
  monkeypatch.setattr(
    optimizers, 'adam', lambda *args, updates=1: made.append(updates) or adam(*args)
  )
  experiment_of(name).make_method(config, spec_of(config.data))
  assert sorted(made) == [1, 4]


def wraps(attempts):
  """The `wrap` of `make_method` in each attempt of a run."""
  found = []

  def make_method(config, spec, *, wrap):
    found.append(wrap)
    return gan_ring.make_method(config, spec, wrap=wrap)

  experiment = types.SimpleNamespace(make_method=make_method)
  prepared = setup.prepare(experiment, config_of(batch_size=32))
  found.clear()
  for attempt in attempts:
    prepared.make_phases(attempt)
  return found


def test_every_attempt_halves_the_update_and_keeps_the_state():
  tx = optimizers.adam(config_of(clip=0.7, warmup_steps=2), RATE)
  grads = gradients(5)
  with jax.enable_x64(True):
    plain, plain_state = updates_of(tx, grads)
    halved = [updates_of(wrap(tx), grads) for wrap in wraps(range(3))]
  for attempt, (updates, state) in enumerate(halved):
    expected = jax.tree.map(lambda u, a=attempt: np.divide(u, [1, 2, 4][a]), plain)
    chex.assert_trees_all_close(updates, expected, rtol=1e-6)
    chex.assert_trees_all_close(state, plain_state, rtol=1e-6)  # and structures
  assert np.abs(plain[-1]['large']).max() > 0.001


def experiment_of(name):
  return importlib.import_module(f'experiments.configs.{name}')


def spec_of(data):
  if data.partition('?')[0] not in SHAPES or 'transform' in data:
    return registry.load(data).spec
  toy = data.startswith('toy:')
  transform = transforms.identity() if toy else transforms.scaling(256)
  return base.DataSpec(
    SHAPES[data.partition('?')[0]],
    jnp.float32,
    None,
    None if toy else 10,
    None,
    transform,
  )


@every_config
def test_header_says_how_to_run_it_what_it_costs_and_what_comes_out(name):
  text = ast.get_docstring(importlib_source(name))
  first, blank, command, *rest = text.splitlines()
  assert re.fullmatch(r'[^:]+: .+\.', first) and not blank
  assert command.strip().startswith('python experiments/main.py')
  assert f'--config=experiments/configs/{name}.py' in text
  assert f'--workdir=runs/{name}' in text
  assert re.search(r'About \d+ s on two CPU cores', ' '.join(rest)), (
    'the cost is missing'
  )
  assert len(text) > 250, 'what to expect is missing'


def importlib_source(name):
  return ast.parse((ROOT / 'experiments' / 'configs' / f'{name}.py').read_text())


@every_config
def test_config_is_a_short_list_of_numbers_and_names(name):
  config = experiment_of(name).get_config()
  assert len(config.keys() - setup.LEAVES.keys()) <= 25
  assert all(isinstance(leaf, int | float | str | tuple) for leaf in config.values())


def test_what_configs_share_is_cut_by_purpose_and_is_no_config():
  assert len(PARTS) >= 6
  for path in PARTS:
    text = path.read_text()
    assert len(text.splitlines()) <= 200
    assert 'def get_config' not in text
  assert all(hasattr(experiment_of(name), 'get_config') for name in CONFIGS)


# Whose networks take seconds to trace.
COSTLY = {
  'top_down_vae_digits', 'star_gan_v2_glyphs', 'progressive_gan_glyphs',
  'continuous_flow_toy', 'stack_gan_glyphs', 'cycle_gan_glyphs', 'star_gan_glyphs',
  'puzzle_gan_glyphs', 'r3gan_images', 'sngan_images', 'r3gan_digits', 'vq_vae_digits',
  'glow_digits', 'variational_flow_digits', 'tarflow_digits', 'flow_vae_digits',
  'pixelcnn_digits', 'gated_pixelcnn_digits', 'pixelcnn_pp_digits',
  'transformer_digits', 'gan_cls_glyphs', 'unrolled_gan_images', 'edm_glyphs',
  'improved_ddpm_digits', 'rectified_flow_digits', 'latent_diffusion_glyphs',
  'vdm_digits', 'classifier_guidance_digits', 'score_sde_digits', 'nce_toy',
  'score_matching_toy', 'rbm_digits',
}  # fmt: skip
DEFAULTS = [
  pytest.param(name, 'default', marks=pytest.mark.slow if name in COSTLY else ())
  for name in CONFIGS
]
OTHERS = [pytest.param(name, 'other', marks=pytest.mark.slow) for name in CONFIGS]


@pytest.mark.parametrize(('name', 'arg'), [*DEFAULTS, *OTHERS])
def test_config_makes_a_method_that_fits_its_data(name, arg):
  experiment = experiment_of(name)
  other = getattr(experiment, 'ANOTHER', 'hinge')  # argument of get_config
  config = experiment.get_config(None if arg == 'default' else other)
  if arg == 'other':
    assert other in map(str, config.values())
  spec = spec_of(config.data)
  made = experiment.make_method(config, spec)
  phases = [base.Phase(made, 1, spec, None)] if isinstance(made, base.Method) else made
  num = getattr(experiment, 'batch_size', lambda c: c.batch_size)(config)
  first = phases[0].spec
  batch = {'x': jax.ShapeDtypeStruct((num, *first.shape), first.dtype)}
  if spec.num_classes:
    batch['label'] = jax.ShapeDtypeStruct((num,), jnp.int32)
  for part_name, part in spec.parts.items():
    batch[part_name] = jax.ShapeDtypeStruct((num, *part.shape), part.dtype)
  key = jax.random.key(0)
  state = jax.eval_shape(phases[0].method.init, key, batch)
  for phase in phases:
    method = phase.method
    shape = num, *phase.spec.shape  # a phase may have smaller images
    batch['x'] = jax.ShapeDtypeStruct(shape, phase.spec.dtype)
    if phase.enter:
      state = jax.eval_shape(phase.enter, key, state, batch)
    after, _ = jax.eval_shape(method.step, state, key, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
  model = base.Model(state.params, state.extra)
  if method.sample is None:
    translate = method.queries['translate']
    out = jax.eval_shape(
      lambda m, x: translate(m, key, x, condition=1), model, batch['x']
    )
    assert out.shape == (num, *spec.shape)
    return
  condition = jnp.zeros(3, jnp.int32) if method.card.condition else None
  part = spec.parts.get(method.card.condition[0]) if method.card.condition else None
  if part:  # a text, say
    condition = jnp.ones((3, *part.shape), part.dtype)
  samples = jax.eval_shape(
    lambda m, k: method.sample(m, k, num=3, condition=condition), model, key
  )
  assert samples.shape == (3, *spec.shape)


OF_SIZES = ['dcgan_images', 'unrolled_gan_images']  # whose argument is the data


@pytest.mark.slow
@pytest.mark.parametrize('name', OF_SIZES)
@pytest.mark.parametrize('shape', [(28, 28, 1), (28, 28, 3), (32, 32, 3)])
def test_configs_of_fashion_fit_other_images(name, shape):
  experiment = experiment_of(name)
  config = experiment.get_config('tfds:fashion_mnist')
  spec = spec_of(config.data)._replace(shape=shape)
  method = experiment.make_method(config, spec)
  batch = {'x': jax.ShapeDtypeStruct((config.batch_size, *shape), spec.dtype)}
  state = jax.eval_shape(method.init, jax.random.key(0), batch)
  after, _ = jax.eval_shape(method.step, state, jax.random.key(0), batch)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  model = base.Model(after.params, after.extra)
  samples = jax.eval_shape(
    lambda m, k: method.sample(m, k, num=3), model, jax.random.key(0)
  )
  assert samples.shape == (3, *shape)


@pytest.mark.parametrize('name', OF_SIZES)
def test_the_argument_names_the_data_whose_sizes_are_taken(name):
  experiment = experiment_of(name)
  for data, sizes in experiment.SIZES.items():
    config = experiment.get_config(data)
    assert config.data == data and optimizers.decay_steps(config) == config.steps
    assert config.g_learning_rate == config.d_learning_rate == sizes['rate']
    assert sizes.items() - config.items() == {('rate', sizes['rate'])}
  assert experiment.get_config().data == 'digits'
  with pytest.raises(ValueError, match="'cifar' is not one of digits, stacked:digits"):
    experiment.get_config('cifar')


def test_bfloat16_and_accumulation_keep_the_states_dtypes():
  experiment = experiment_of('dcgan_images')
  config = experiment.get_config()
  config.update({'bfloat16': True, 'num_accumulate': 4})
  method = experiment.make_method(config, spec_of('digits'))
  batch = {'x': jnp.zeros((64, 8, 8, 1))}
  state = jax.eval_shape(method.init, jax.random.key(0), batch)
  after, metrics = jax.eval_shape(method.step, state, jax.random.key(0), batch)
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
  assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {np.dtype('f')}
  text = str(jax.make_jaxpr(method.step)(state, jax.random.key(0), batch))
  assert 'bf16' in text


@pytest.mark.parametrize(
  ('changes', 'word'),
  [({'data': 'toy:ring'}, 'images'), ({'g_features': 0}, 'g_features'),
   ({'game': 'hing'}, 'hinge'), ({'num_accumulate': 0}, 'num_accumulate'),
   ({'num_accumulate': 5}, 'divide')],
)  # fmt: skip
def test_wrong_leaves_of_a_dcgan_are_one_line(changes, word):
  experiment = experiment_of('dcgan_images')
  config = experiment.get_config()
  config.update(changes)
  with pytest.raises(setup.UsageError, match=word) as error:
    setup.prepare(experiment, config)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('name', 'changes', 'word'),
  [
    ('wgan_digits', {'limit': 0.0}, 'limit must be > 0'),
    ('wgan_digits', {'num_critic': 0}, 'num_critic must be >= 1'),
    ('wgan_digits', {'decay_steps': -2}, 'decay_steps must be >= 0, or -1'),
    ('wgan_digits', {'decay_steps': 20}, 'rates would be 0 after step 20'),
    ('wgan_gp_digits', {'penalty_weight': -1.0}, 'penalty_weight must be >= 0'),
    ('wgan_gp_digits', {'num_critic': 0}, 'num_critic must be >= 1'),
    ('dragan_digits', {'noise': 0.0}, 'noise must be > 0'),
    ('gan_digits', {'r1_gamma': -1.0}, 'r1_gamma must be >= 0'),
    ('gan_digits', {'base_features': 0}, 'base_features must be >= 1'),
    ('lsgan_digits', {'game': 'hing'}, 'hinge'),
    ('r3gan_digits', {'base_features': 0}, 'base_features must be >= 1'),
    ('r3gan_digits', {'base_features': 5, 'max_features': 5}, '10 channels cannot'),
    ('f_gan_digits', {'divergence': 'chi'}, 'one of alpha_NUMBER'),
    ('f_gan_digits', {'generator': 'best'}, 'one of saddle, trick'),
    ('minibatch_gan_digits', {'statistic': 'mean'}, 'one of discrimination, stddev'),
    ('diffaugment_gan_digits', {'augmentation': 'blur'}, 'one of color, cutout'),
    ('ada_gan_digits', {'target': 1.0}, r'target must be in \(-1, 1\)'),
    ('ada_gan_digits', {'rate': 0.0}, 'rate must be > 0'),
    ('packed_gan_ring', {'num_packed': 3}, 'num_packed = 3 must divide'),
    ('packed_gan_ring', {'num_packed': 0}, 'num_packed must be >= 1'),
    ('conditional_gan_glyphs', {'d_features': 0}, 'd_features must be >= 1'),
    ('conditional_gan_glyphs', {'data': 'toy:ring'}, 'images'),
    ('gan_cls_glyphs', {'generator': 'out'}, 'one of cls, int'),
    ('gan_cls_glyphs', {'mismatch': 1.5}, r'mismatch must be in'),
    ('gan_cls_glyphs', {'word_dropout': 1.0}, r'word_dropout must be in'),
    ('gan_cls_glyphs', {'critic': 'deep'}, 'one of projection, spatial'),
    ('gan_cls_glyphs', {'encoder_steps': 0}, r'encoder_steps must be in \(0, steps\)'),
    ('gan_cls_glyphs', {'data': 'digits'}, "has no 'text'"),
    ('stack_gan_glyphs', {'ratio': 3}, 'ratio must be 2 or 4'),
    ('stack_gan_glyphs', {'stage_steps': 11_000}, 'leave stage II none'),
    ('stack_gan_glyphs', {'kl_weight': -1.0}, 'weight of the KL must be >= 0'),
    ('progressive_gan_glyphs', {'first_size': 6}, '4 times a power of 2'),
    ('progressive_gan_glyphs', {'first_size': 64}, 'the first at most the last'),
    ('progressive_gan_glyphs', {'data': 'glyphs'}, '4 times a power of 2'),
    ('progressive_gan_glyphs', {'steps': 900}, 'left to be at rest'),
    ('progressive_gan_glyphs', {'base_features': 16}, 'base_features >= 32'),
    ('progressive_gan_glyphs', {'drift': -1.0}, 'drift must be >= 0'),
    ('progressive_gan_glyphs', {'penalty_weight': -1.0}, 'penalty_weight must be >= 0'),
    ('progressive_gan_glyphs', {'group_size': 0}, 'group_size must be >= 1'),
    ('progressive_gan_glyphs', {'stage_images': 0}, 'stage_images must be >= 1'),
    ('progressive_gan_glyphs', {'learning_rate': 0.0}, 'learning_rate must be > 0'),
    ('progressive_gan_glyphs', {'data': 'toy:ring'}, 'images'),
    ('d2gan_ring', {'alpha': 0.0}, r'alpha must be in \(0, 1\]'),
    ('gman_ring', {'combine': 'min'}, 'one of max, mean, softmax'),
    ('gman_ring', {'num_discriminators': 0}, 'num_discriminators must be >= 1'),
    ('simultaneous_gan_ring', {'dynamics': 'newton'}, 'one of consensus'),
    ('simultaneous_gan_ring', {'strength': -1.0}, 'must be >= 0'),
    ('gmmn_digits', {'width': 0.0}, 'width must be > 0'),
    ('gmmn_code_digits', {'autoencoder_steps': 5000}, r'must be in \(0, steps\)'),
    ('gmmn_code_digits', {'code_size': 0}, 'code_size must be >= 1'),
    ('mmd_gan_digits', {'num_features': 0}, 'num_features must be >= 1'),
    ('conditional_gan_digits', {'kind': 'sum'}, 'one of concatenation, proj'),
    ('conditional_gan_digits', {'d_features': 0}, 'd_features must be >= 1'),
    ('ac_gan_digits', {'class_weight': -1.0}, 'class_weight >= 0'),
    ('ac_gan_digits', {'kind': 'large'}, 'one of paper, small'),
    ('infogan_images', {'hidden': -1}, 'hidden must be >= 0'),
    ('infogan_digits', {'information_weight': -1.0}, 'information must be >= 0'),
    ('infogan_digits', {'num_classes': 1}, 'num_classes >= 2'),
    ('bigan_digits', {'latent_size': 0}, 'latent_size must be >= 1'),
    ('adversarial_autoencoder_digits', {'adversarial_rate': 0.0}, 'rates must be > 0'),
    ('wae_digits', {'discrepancy_weight': -1.0}, 'weight must be >= 0, got -1'),
    ('labelled_aae_digits', {'radius': 0.0}, 'must be > 0'),
    ('semi_supervised_aae_digits', {'latent_size': 0}, 'latent_size must be >= 1'),
    ('independent_digits', {'smoothing': -1.0}, 'smoothing must be finite and >= 0'),
    ('independent_digits', {'data': 'digits'}, 'needs integers'),
    ('markov_digits', {'order': 'spiral'}, 'one of columns, random, rows'),
    ('markov_digits', {'memory': 9}, 'too large'),
    ('full_table_digits', {'data': 'dynamic:digits'}, 'too large'),
    ('tarflow_digits', {'patch': 3}, r'3 x 3 pixels do not cover .*\[8, 8, 1\]'),
    ('tarflow_digits', {'heads': 3}, 'width 64 is not divisible by heads 3'),
    ('tarflow_digits', {'noise': -1.0}, 'noise must be >= 0'),
    ('tarflow_digits', {'weight_decay': -1.0}, 'weight_decay must be >= 0'),
    ('tarflow_digits', {'data': 'digits'}, 'a lattice'),
    ('continuous_flow_toy', {'trace': 'full'}, 'one of exact, hutchinson'),
    ('continuous_flow_toy', {'training_tolerance': 0.0}, 'rtol must be > 0, got 0'),
    ('continuous_flow_toy', {'data': 'digits?transform=levels'}, 'a lattice'),
    ('continuous_flow_toy', {'data': 'digits?transform=dequantization'}, 'not vectors'),
    ('kde_digits', {'bandwidth': 0.0}, 'the bandwidth, must be > 0, got 0.0'),
    ('kde_digits', {'data': 'digits?transform=levels'}, 'a lattice'),
    ('gaussian_mixture_digits', {'components': 0}, 'components must be >= 1'),
    ('bernoulli_mixture_digits', {'data': 'digits?transform=levels'}, 'needs 2'),
    ('nade_digits', {'data': 'digits?transform=levels'}, 'has 17 levels'),
    (
      'nade_digits',
      {'likelihood': 'normal'},
      'one of bernoulli, categorical, logistics',
    ),
    ('nade_digits', {'learning_rate': 0.0}, 'learning rates must be > 0'),
    ('nade_digits', {'clip': -1.0}, 'clip must be >= 0'),
    ('rbm_digits', {'data': 'digits?transform=levels'}, 'has 17 levels'),
    ('rbm_digits', {'chains': 'gibbs'}, "'gibbs' is not one of cd, pcd"),
    ('rbm_digits', {'num_steps': 0}, 'num_steps must be >= 1, got 0'),
    ('rbm_digits', {'momentum': 1.0}, r'momentum must be in \[0, 1\)'),
    ('nce_toy', {'noise_std': 0.0}, 'noise_std must be > 0, got 0'),
    ('nce_toy', {'num_noise': 0}, 'num_noise must be >= 1, got 0'),
    ('nce_toy', {'data': 'digits?transform=dequantization'}, 'not vectors'),
    ('score_matching_toy', {'objective': 'exact'}, "'exact' is not one of"),
    ('score_matching_toy', {'denoising_std': 0.0}, 'denoising_std must be > 0, got 0'),
    ('made_digits', {'num_orders': 0}, 'num_orders must be >= 1'),
    ('made_digits', {'condition': 'text'}, "one of '', condition, label"),
    ('eonade_digits', {'hidden': 0}, 'hidden must be >= 1'),
    ('pixelcnn_digits', {'data': 'stacked:digits?transform=levels'}, '3 channels'),
    ('pixelcnn_digits', {'radius': 0}, 'radius must be >= 1'),
    ('gated_pixelcnn_digits', {'dropout': 1.0}, r'dropout must be in \[0, 1\)'),
    ('pixelcnn_pp_digits', {'components': 0}, 'components must be >= 1'),
    ('transformer_digits', {'heads': 5}, 'not divisible by heads 5'),
    ('transformer_melodies', {'data': 'digits'}, 'needs integers'),
    ('transformer_manual', {'condition': 'label'}, 'has no classes'),
    ('markov_manual', {'memory': 5}, 'too large'),
    ('cycle_gan_glyphs', {'cycle_weight': -1.0}, 'weights and pool_size must be >= 0'),
    ('cycle_gan_glyphs', {'kernel_size': 4}, 'kernel_size must be odd'),
    ('cycle_gan_glyphs', {'num_blocks': -1}, 'num_blocks must be >= 0'),
    ('cycle_gan_glyphs', {'data': 'digits'}, 'unpaired:NAME|NAME'),
    ('cycle_gan_glyphs', {'g_learning_rate': 0.0}, 'learning rates must be > 0'),
    ('cycle_gan_glyphs', {'game': 'hing'}, 'hinge'),
    ('star_gan_glyphs', {'data': 'digits'}, 'domains:NAME|NAME'),
    ('star_gan_glyphs', {'sizes': (2, 1)}, 'are not of 4 domains'),
    ('star_gan_glyphs', {'num_critic': 0}, 'num_critic >= 1'),
    ('star_gan_glyphs', {'penalty_weight': -1.0}, 'penalty_weight must be >= 0'),
    ('star_gan_v2_glyphs', {'data': 'digits'}, 'domains:NAME|NAME'),
    ('star_gan_v2_glyphs', {'cycle_weight': -1.0}, 'weights must be >= 0'),
    ('star_gan_v2_glyphs', {'r1_gamma': -1.0}, 'r1_gamma must be >= 0'),
    ('star_gan_v2_glyphs', {'square': 0}, 'square must be >= 1'),
    (
      'vq_vae_digits',
      {'autoencoder_steps': 1800},
      r'autoencoder_steps must be in \(0, steps\)',
    ),
    ('vq_vae_digits', {'halvings': 4}, 'images of 8 x 8 cannot be halved so often'),
    (
      'vq_vae_digits',
      {'autoencoder_dropout': 1.0},
      r'autoencoder_dropout must be in \[0, 1\)',
    ),
    ('vq_vae_digits', {'decay': 1.0}, r'decay in \[0, 1\)'),
  ],
)
def test_wrong_leaves_are_refused_by_name(name, changes, word):
  experiment = experiment_of(name)
  config = experiment.get_config()
  config.update(changes)
  with pytest.raises(ValueError, match=word) as error:
    method = experiment.make_method(config, spec_of(config.data))
    spec = spec_of(config.data)
    x = jnp.zeros((64, *(spec.shape if spec.num_levels else (8, 8, 1))), spec.dtype)
    jax.eval_shape(method.init, jax.random.key(0), {'x': x})
  assert '\n' not in str(error.value)


OF_ANY = {
  'kde_digits',
  'gaussian_mixture_digits',
  'maf_digits',
  'edm_digits',
  'equilibrium_matching_digits',
  'flow_matching_digits',
  'rectified_flow_digits',
  'score_sde_digits',
}  # whose data may be points
IMAGES = [
  name
  for name in CONFIGS
  if name.endswith(('_digits', '_images')) and name not in OF_ANY
]


@pytest.mark.parametrize('name', IMAGES)
def test_configs_of_images_refuse_points(name):
  experiment = experiment_of(name)
  config = experiment.get_config()
  config.data = 'toy:ring'
  with pytest.raises(ValueError, match='images|no classes'):
    experiment.make_method(config, spec_of('toy:ring'))


def test_mixture_options_reach_the_evaluation():
  config = types.SimpleNamespace(data='toy:ring?num_modes=12&radius=5')
  data = registry.load(config.data)
  evaluation = evaluations.mixture_modes(config, data)
  method = method_that_samples(data.arrays('test', 2500)['x'])
  found = results.numbers(evaluation(method, None, jax.random.key(0)))
  assert int(found['modes']) == 12
  assert float(found['high_quality']) > 0.97  # 1 - exp(-9 / 2) = 0.989
  assert float(found['reverse_kl']) < 0.02


def images_of(data, split):
  return dataset.transformed(data.spec, data.arrays(split))['x']


CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='exact',
  sampling_cost='one_pass', training=('adversarial',), latents='continuous',
  architecture='any',
)  # fmt: skip


def method_that_samples(x):
  """A method whose samples are the rows of x, drawn with replacement."""

  def sample(model, key, num, *, condition=None):
    return x[jax.random.randint(key, (num,), 0, len(x))]

  return base.Method(CARD, None, None, sample=sample)


def compiled(evaluation, method):
  """key -> numbers by name."""
  return jax.jit(lambda key: results.numbers(evaluation(method, None, key)))


@pytest.mark.slow  # the distances themselves: tests/tasks/quality_test.py
def test_evaluation_of_images_orders_them_by_their_distance():
  data = registry.load('digits')
  config = types.SimpleNamespace(data='digits')
  evaluation = evaluations.images_or_stacked(config, data)
  train, noise = images_of(data, 'train'), jax.random.uniform(
    jax.random.key(0), (360, 8, 8, 1), minval=-1.0
  )  # fmt: skip
  good, blurred, bad = (
    compiled(evaluation, method_that_samples(x))(jax.random.key(1))
    for x in (train, 0.7 * train - 0.3, noise)
  )
  assert good.keys() == {'mmd2', 'frechet'}
  for name in good:
    assert float(good[name]) < float(blurred[name]) < float(bad[name])
  assert abs(float(good['mmd2'])) < 0.005


def test_images_that_are_all_the_same_are_refused_by_name():
  data = registry.load('digits')
  one = data.arrays('test', 1)['x']
  same = data._replace(arrays=lambda *_: {'x': np.repeat(one, 8, axis=0)})
  same = same._replace(spec=data.spec._replace(num_classes=None))
  with pytest.raises(dataset.DataError, match='digits: most test images are identical'):
    evaluations.image_distances(same)


@pytest.mark.slow  # the counting itself: tests/tasks/quality_test.py
def test_evaluation_of_stacked_digits_finds_all_modes_of_the_data_and_ten_of_gray(
  monkeypatch, tmp_path, capsys
):
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path))
  data = registry.load('stacked:digits')
  config = types.SimpleNamespace(data='stacked:digits')
  evaluation = evaluations.images_or_stacked(config, data)
  line = capsys.readouterr().out
  assert line.startswith('classifier digits: 9') and '360 held-out' in line
  assert float(line.split()[2].rstrip('%')) >= 98
  x = dataset.transformed(data.spec, data.arrays('test', 20_000))['x']
  real = compiled(evaluation, method_that_samples(x))(jax.random.key(0))
  assert int(real['modes']) == 1000
  assert 0.015 < float(real['reverse_kl']) < 0.1
  gray = jnp.repeat(x[..., :1], 3, axis=-1)  # three times the same digit
  few = compiled(evaluation, method_that_samples(gray))(jax.random.key(0))
  assert int(few['modes']) == 10
  np.testing.assert_allclose(few['reverse_kl'], np.log(100), atol=0.05)


def test_classifier_of_stacked_images_sees_the_bases_splits():
  data = registry.load('stacked:digits')
  for split, num, size in (('train', 20_000, 1257), ('test', 10_000, 360)):
    assert len(stacked.unstacked(data.arrays(split, num))['x']) == size
