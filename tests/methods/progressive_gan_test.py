"""Progressive GAN by hand, and what public code got wrong of its growth."""

import importlib
import pathlib
import shutil
import sys
import types

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base, growth, priors
from gm_jax.methods import progressive_gan
from gm_jax.models import progressive
from gm_jax.training import launch, setup
from gm_jax.training import step as step_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

KEY = jax.random.key(7)
STAGE = growth.Stage(8, 10, 20, 40)
WIDTHS = {'base_features': 32, 'max_features': 4}


# Stages and fades.


def test_a_run_rests_at_its_smallest_size_then_fades_to_each_larger_one():
  found = growth.stages({4: 10, 8: 10, 16: 5}, 60)
  assert found == ((4, 0, 0, 10), (8, 10, 20, 30), (16, 30, 35, 60))
  assert growth.stages({8: 10}, 25) == ((8, 0, 0, 25),)  # which does not grow
  fade = growth.fade_of(found[0])
  assert [float(fade(step)) for step in (0, 1, 9)] == [1, 1, 1]


def test_a_fade_is_linear_in_the_step_and_never_comes_back():
  # Neither constant, nor 0 until its end (an integer division), nor begun again.
  fade = jax.jit(growth.fade_of(STAGE))
  found = np.array([fade(step) for step in range(40)])
  np.testing.assert_allclose(found, np.clip((np.arange(40) - 10) / 10, 0, 1), rtol=1e-6)
  assert fade(jnp.int32(15)) == 0.5 and fade(jnp.int32(15)).dtype == jnp.float32
  assert np.all(np.diff(found) >= 0)


@pytest.mark.parametrize(
  ('lengths', 'steps', 'words'),
  [
    ({}, 9, 'must be >= 1'),
    ({4: 0}, 9, 'must be >= 1'),
    ({4: 2, 16: 2}, 9, 'twice the one before'),
    ({4: 2, 8: 2}, 4, 'and none of 4 is left'),
  ],
)
def test_stages_that_make_no_sense_are_one_line(lengths, steps, words):
  with pytest.raises(ValueError, match=words) as error:
    growth.stages(lengths, steps)
  assert '\n' not in str(error.value)


# One step, of networks of a few numbers.


class Scale(nn.Module):
  """G(z, fade) = z ((1 - fade) a + fade b) on 8x8 pixels."""

  @nn.compact
  def __call__(self, z, fade, *, train=False):
    a, b = (self.param(n, nn.initializers.constant(v), ()) for n, v in G.items())
    out = z[:, :1] * ((1 - fade) * a + fade * b)
    return jnp.broadcast_to(out[:, None, None], (len(z), 8, 8, 1))


class Square(nn.Module):
  """D(x, fade) = mean((x (c + fade d))^2), whose slope depends on where it is."""

  @nn.compact
  def __call__(self, x, fade, *, train=False):
    c, d = (self.param(n, nn.initializers.constant(v), ()) for n, v in D.items())
    return jnp.square(x * (c + fade * d)).mean(axis=(1, 2, 3))


G, D = {'a': 0.5, 'b': -1.5}, {'c': 2.0, 'd': 5.0}
X = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
RATE = 0.01


def fixed(key, num):
  del key
  return jnp.linspace(-1.0, 2.0, num)[:, None]


def test_one_step_is_that_of_the_formulas_in_the_middle_of_a_fade():
  method = progressive_gan.progressive_gan(
    Scale(), Square(), optax.sgd(RATE), optax.sgd(RATE), prior=fixed, stage=STAGE,
    penalty_weight=3.0, drift=0.1,
  )  # fmt: skip
  state = method.init(KEY, {'x': X})._replace(step=jnp.int32(13))
  after, metrics = jax.jit(method.step)(state, KEY, {'x': X})
  fade, z = 0.3, np.linspace(-1, 2, 4)
  x = np.asarray(X, float)
  coarse = x.reshape(4, 4, 2, 4, 2, 1).mean(axis=(2, 4))
  real = (1 - fade) * np.kron(coarse, np.ones((1, 2, 2, 1))) + fade * x
  # The penalty's fraction is its own number, one an example, and not the fade.
  penalty_key = jax.random.split(jax.random.split(KEY, 4)[1], 4)[3]
  epsilon = np.asarray(jax.random.uniform(penalty_key, (4, 1, 1, 1)))

  def samples(g):
    return (
      np.ones((8, 8, 1))
      * z[:, None, None, None]
      * ((1 - fade) * g['a'] + fade * g['b'])
    )

  def d_loss(d):
    weight = (d['c'] + fade * d['d']) ** 2
    fake = samples(G)
    r, f = (weight * (v**2).mean(axis=(1, 2, 3)) for v in (real, fake))
    between = epsilon * real + (1 - epsilon) * fake
    norm = 2 * weight / 64 * np.sqrt((between**2).sum(axis=(1, 2, 3)))
    return (f - r + 0.1 * r**2 + 3.0 * (norm - 1) ** 2).mean()

  def down(loss, params):
    """By differences of numpy's float64."""
    moved = {}
    for name, value in params.items():
      ends = [loss({**params, name: value + h}) for h in (1e-5, -1e-5)]
      moved[name] = value - RATE * (ends[0] - ends[1]) / 2e-5
    return moved

  new = down(d_loss, D)
  found = after.params['discriminator']
  np.testing.assert_allclose([found['c'], found['d']], list(new.values()), rtol=1e-4)

  def g_loss(g):
    weight = (new['c'] + fade * new['d']) ** 2
    return -(weight * (samples(g) ** 2).mean(axis=(1, 2, 3))).mean()

  found = after.params['generator']
  expected = list(down(g_loss, G).values())
  np.testing.assert_allclose([found['a'], found['b']], expected, rtol=1e-4)
  np.testing.assert_allclose(metrics['discriminator_loss'], d_loss(D), rtol=1e-4)
  np.testing.assert_allclose(metrics['generator_loss'], g_loss(G), rtol=1e-4)
  np.testing.assert_allclose(metrics['fade'], 0.3, rtol=1e-6)
  np.testing.assert_allclose(after.extra['fade'], 0.4, rtol=1e-6)  # of its step


def test_samples_and_the_critic_have_the_fade_of_the_state():
  method = progressive_gan.progressive_gan(
    Scale(), Square(), optax.sgd(0.1), optax.sgd(0.1), prior=fixed, stage=STAGE
  )
  state = method.init(KEY, {'x': X})
  for fade, g, d in ((0.0, 0.5, 2.0), (1.0, -1.5, 7.0)):
    model = base.Model(state.params, {'fade': jnp.float32(fade)})
    drawn = method.sample(model, KEY, 4)[:, 0, 0, 0]
    np.testing.assert_allclose(drawn, g * np.linspace(-1, 2, 4), atol=1e-6)
    logits = method.queries['critic'](model, None, X)
    np.testing.assert_allclose(logits, d**2 * (X**2).mean((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize('wrong', [{'drift': -1.0}, {'penalty_weight': -1.0}])
def test_weights_below_0_are_refused(wrong):
  with pytest.raises(ValueError, match='must be >= 0'):
    progressive_gan.progressive_gan(
      Scale(), Square(), optax.sgd(0.1), optax.sgd(0.1), prior=fixed, stage=STAGE,
      **wrong,
    )  # fmt: skip


# Growing.


def networks(stage):
  tx = optax.adam(1e-3, 0.0, 0.99)
  return progressive_gan.progressive_gan(
    progressive.Generator(stage.size, 1, **WIDTHS), progressive.Discriminator(**WIDTHS),
    tx, tx, prior=priors.normal(4), stage=stage,
  )  # fmt: skip


@pytest.fixture(scope='module')
def grown():
  """Methods of 4 and 8 pixels, a state of the one, and it grown in both ways."""
  small, large = networks(growth.Stage(4, 0, 0, 2)), networks(growth.Stage(8, 2, 4, 9))
  x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 1), minval=-1.0)
  state = jax.jit(small.init)(KEY, {'x': progressive.halved(x)})
  moved = jax.tree.map(lambda v: v + 2, (state.params, state.opt_state))
  state = state._replace(step=jnp.int32(2), params=moved[0], opt_state=moved[1])

  @jax.jit
  def enter(state, x):
    ways = (growth.after_smaller(large, keep_optimizers=keep) for keep in (False, True))
    return [way(jax.random.key(5), state, {'x': x}) for way in ways]

  return small, large, state, x, *enter(state, x)


def test_a_grown_model_begins_as_the_small_one_ended(grown):
  small, large, state, x, begun, _ = grown
  assert begun.step == 2 and begun.extra['fade'] == 0

  @jax.jit
  def both(state, begun):
    models, halved = map(step_lib.model, (state, begun)), progressive.halved(x)
    old, new = models
    samples = progressive.doubled(small.sample(old, KEY, 3)), large.sample(new, KEY, 3)
    critics = small.queries['critic'], large.queries['critic']
    return samples, (critics[0](old, None, halved), critics[1](new, None, x))

  for before, after in both(state, begun):
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
  for player, params in state.params.items():
    chex.assert_trees_all_equal({k: begun.params[player][k] for k in params}, params)


def test_optimizers_begin_again_with_a_larger_size_or_go_on(grown):
  _, _, state, _, begun, kept = grown
  for player in ('generator', 'discriminator'):
    old, new, same = (s.opt_state[player][0] for s in (state, begun, kept))
    assert new.count == 0 and not any(leaf.any() for leaf in jax.tree.leaves(new.nu))
    assert same.count == old.count == 2
    chex.assert_trees_all_equal({k: same.nu[k] for k in old.nu}, old.nu)
    fresh = {k: v for k, v in same.nu.items() if k not in old.nu}
    assert fresh and not any(leaf.any() for leaf in jax.tree.leaves(fresh))


@pytest.mark.parametrize(('restart', 'counts'), [(True, [1, 2, 1]), (False, [1, 2, 3])])
def test_optimizers_begin_again_where_the_fade_has_ended_or_go_on(restart, counts):
  adam = optax.adam(1e-3, 0.0, 0.99)
  method = progressive_gan.progressive_gan(
    Scale(), Square(), adam, adam, prior=fixed, stage=STAGE, restart=restart
  )
  state, step = method.init(KEY, {'x': X})._replace(step=jnp.int32(18)), method.step
  step, found = jax.jit(step), []
  for i in range(3):  # steps 18, 19 and 20; the last is at rest
    state, _ = step(state, jax.random.key(i), {'x': X})
    found.append([int(state.opt_state[p][0].count) for p in state.params])
  assert found == [[count] * 2 for count in counts]


def test_a_layer_of_another_width_is_named():
  wide = progressive.Generator(8, 1, base_features=64, max_features=8)
  params = jax.eval_shape(wide.init, KEY, jnp.zeros((2, 4)))
  narrow = jax.eval_shape(
    progressive.Generator(4, 1, **WIDTHS).init, KEY, jnp.zeros((2, 4))
  )
  with pytest.raises(ValueError, match=r"\['conv_4'\].* where it grows"):
    growth.carried(params, narrow)


# The whole run, by the loop.

SMALL = {
  'data': 'digits', 'steps': 12, 'batch_size': 8, 'stage_images': 32, 'latent_size': 4,
  'steps_per_dispatch': 2, 'log_every': 2, 'evaluate_every': 0, 'sample_every': 0,
  'checkpoint_every': 2, 'keep_checkpoints': 6, **WIDTHS,
}  # fmt: skip


def experiment_of(traces):
  """The config whose phases note each trace of their step, and that config."""
  module = importlib.import_module('experiments.configs.progressive_gan_glyphs')

  def make_method(config, spec, *, wrap):
    def counted(phase):
      def step(*args):
        traces.append(phase.spec.shape[0])
        return phase.method.step(*args)

      return phase._replace(method=phase.method._replace(step=step))

    return tuple(map(counted, module.make_method(config, spec, wrap=wrap)))

  config = module.get_config()
  config.update(SMALL)
  own = types.SimpleNamespace(make_method=make_method, __file__=module.__file__)
  return own, config


@pytest.mark.slow  # the same of a stand-in: tests/contract_test.py
def test_growth_compiles_once_a_size_and_resumes_in_a_fade_bitwise(tmp_path):
  traces = []
  experiment, config = experiment_of(traces)
  found = setup.prepare(experiment, config)
  phases = found.make_phases(0)
  assert [p.until for p in phases] == [4, 12]  # 8 pixels fade in until step 8
  traces.clear()  # `prepare` tries by shape
  straight = launch.train(experiment, config, tmp_path / 'run')
  assert straight.extra['fade'] == 1 and straight.step == 12
  # Beside the trial by shape, in order: once each, fade and rest together.
  assert traces[2:] == [4, 8]
  run = shutil.copytree(tmp_path / 'run', tmp_path / 'again')
  for path in (run / 'checkpoints').iterdir():
    if path.name.isdigit() and int(path.name) > 6:  # the middle of the fade
      shutil.rmtree(path)
  resumed = launch.train(experiment, config, run)
  chex.assert_trees_all_equal(jax.device_get(resumed), jax.device_get(straight))


@pytest.mark.slow
def test_states_of_kept_optimizers_fit_every_phase():
  module = importlib.import_module('experiments.configs.progressive_gan_glyphs')
  config = module.get_config()
  config.restart = False
  spec = base.DataSpec((32, 32, 1), jnp.float32, 256, 10, None, _scaling())
  phases = module.make_method(config, spec)
  assert [p.spec.shape for p in phases] == [(s, s, 1) for s in (4, 8, 16, 32)]
  state = None
  for phase in phases:
    shape = (phase.batch_size, *phase.spec.shape)
    batch = {'x': jax.ShapeDtypeStruct(shape, jnp.float32)}
    if state is None:
      state = jax.eval_shape(phase.method.init, KEY, batch)
    else:
      state = jax.eval_shape(phase.enter, KEY, state, batch)
    after = jax.eval_shape(phase.method.step, state, KEY, batch)[0]
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


def _scaling():
  return importlib.import_module('gm_jax.data.transforms').scaling(256)


# The paper's sizes.


def of_the_paper():
  module = importlib.import_module('experiments.configs.progressive_gan_glyphs')
  config = module.get_config('paper')
  spec = base.DataSpec((64, 64, 3), jnp.float32, 256, None, None, _scaling())
  return module.make_method(config, spec)


def test_the_papers_batches_and_images_by_size():
  phases = of_the_paper()
  assert [p.batch_size for p in phases] == [128, 128, 128, 64, 32]
  begins = [0, *(p.until for p in phases)]
  for index, phase in enumerate(phases[:-1]):  # 600,000 a fade and a rest
    images = (phase.until - begins[index]) * phase.batch_size / (2 if index else 1)
    assert 600_000 <= images < 600_000 + 50 * phase.batch_size


@pytest.mark.slow
def test_the_papers_sizes_lower_at_their_batch_and_step_at_two():
  state = None
  for phase in of_the_paper():

    def batch(num, shape=phase.spec.shape):
      return {'x': jnp.zeros((num, *shape))}

    enter, method = phase.enter, phase.method
    if state is None:
      state = jax.eval_shape(method.init, KEY, batch(2))
    else:
      state = jax.eval_shape(enter, KEY, state, batch(2))
    large = jax.eval_shape(lambda n=phase.batch_size: batch(n))
    assert 'func' in jax.jit(method.step).lower(state, KEY, large).as_text()
  made = jax.jit(method.init)(KEY, batch(2))
  after, metrics = jax.jit(method.step)(made, KEY, batch(2))
  assert all(np.isfinite(m) for m in metrics.values()) and after.step == 1
