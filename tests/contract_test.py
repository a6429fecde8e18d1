"""Every row of the contract: small stand-ins through training, resume and launcher.

The stand-ins are experiments of their own in `tests/standins`: two domains of unlike
size with a patch critic; a model that grows; one with a pool and a frozen network of
another run; one with options of sampling and conditions, whose density is an estimate.
"""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from signatures import check_signatures

from gm_jax import base
from gm_jax.training import experiment as experiment_lib
from gm_jax.training import launch, loop, parallel, trained
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib

ROOT = pathlib.Path(__file__).resolve().parents[1]
STANDINS = ROOT / 'tests' / 'standins'
SMALL = {
  name: 2
  for name in (
    'steps_per_dispatch', 'log_every', 'evaluate_every', 'sample_every',
    'checkpoint_every',
  )
}  # fmt: skip
NAMES = ('two_domains', 'growing', 'pool_and_frozen', 'conditional')
every_standin = pytest.mark.parametrize('name', NAMES)


def experiment_of(name):
  return experiment_lib.module(STANDINS / f'{name}.py')


def config_of(name, arg=None, **changes):
  config = experiment_of(name).get_config(arg)
  config.update(SMALL | {'ema_decay': 0.5, 'keep_checkpoints': 4} | changes)
  return config


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
  """The workdir of the run whose encoder another run freezes."""
  workdir = tmp_path_factory.mktemp('encoder') / 'run'
  config = config_of('pool_and_frozen', 'encoder')
  launch.train(experiment_of('pool_and_frozen'), config, workdir)
  return workdir


@pytest.fixture(scope='module')
def runs(tmp_path_factory, request):
  """Each stand-in trained to its end, by name: (config, workdir, last state)."""
  made = {}

  def get(name):
    if name not in made:
      changes = {}
      if name == 'pool_and_frozen':
        changes['encoder'] = str(request.getfixturevalue('encoder'))
      config = config_of(name, **changes)
      workdir = tmp_path_factory.mktemp(name) / 'run'
      made[name] = config, workdir, launch.train(experiment_of(name), config, workdir)
    return made[name]

  return get


# In the first phase and, where there is one, in the second. Beside the growing one,
# which has both, one of the others is enough.
STOPS = [('growing', 2), ('growing', 6), ('two_domains', 2)]
STOPS += [
  pytest.param(name, stop, marks=pytest.mark.slow)
  for name in NAMES
  for stop in (2, 6)
  if (name, stop) not in STOPS
]


@pytest.mark.parametrize(('name', 'stop'), STOPS)
def test_a_resumed_run_ends_as_the_straight_one_bitwise(name, stop, runs, tmp_path):
  config, workdir, straight = runs(name)
  run = shutil.copytree(workdir, tmp_path / 'run')
  for path in (run / 'checkpoints').iterdir():
    if path.name.isdigit() and int(path.name) > stop:
      shutil.rmtree(path)
  assert (run / 'checkpoints' / str(stop)).is_dir()
  state = launch.train(experiment_of(name), config, run)
  chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(straight))


@every_standin
def test_four_devices_give_what_one_gives(name, runs):
  config, _, _ = runs(name)
  setup = setup_lib.prepare(experiment_of(name), config)

  def state_on(num):
    mesh = parallel.device_mesh(jax.devices()[:num])
    layout = setup.layout._replace(mesh=mesh)
    placed = setup._replace(layout=layout)
    callbacks = loop.Callbacks(log=lambda step, metrics: None)
    return loop.train(
      placed.make_phases, setup_lib.batches(placed), placed.settings, callbacks,
      mesh=mesh,
    )  # fmt: skip

  one, four = (jax.device_get(state_on(num)) for num in (1, 4))
  chex.assert_trees_all_close(one, four, atol=2e-5)


@every_standin
def test_the_workdir_alone_evaluates_and_samples(name, runs):
  config, workdir, state = runs(name)
  found = trained.load(workdir)
  assert found.step == config.steps
  chex.assert_trees_all_equal(
    jax.device_get(found.model), jax.device_get(step_lib.model(state))
  )
  raw = trained.load(workdir, averaged=False).model
  chex.assert_trees_all_equal(jax.device_get(raw.params), jax.device_get(state.params))
  record, recorded = experiment_lib.recorded(workdir)
  assert recorded.to_dict() == config.to_dict()
  experiment = experiment_lib.module(record['experiment'])
  if hasattr(experiment, 'make_evaluation'):
    averaged = launch.evaluate(experiment, recorded, workdir)
    plain = launch.Request(drawing=launch.Request().drawing._replace(averaged=False))
    latest = launch.evaluate(experiment, recorded, workdir, request=plain)
    assert any(averaged[k] != latest[k] for k in averaged)  # the two are not one
    written = json.loads((workdir / 'evaluation.json').read_text())
    assert written['request'] == {'averaged': False}
  if found.method.sample is not None:
    x = launch.sample(experiment, recorded, workdir, request=launch.Request(num=5))
    assert x.shape[0] == 5


@every_standin
def test_queries_have_the_signatures_that_the_contract_writes_down(name, runs):
  config, workdir, _ = runs(name)
  del config
  check_signatures(trained.load(workdir).method)


# Two domains.


def test_two_domains_have_spaces_and_pictures_of_their_own(runs):
  _, workdir, _ = runs('two_domains')
  found = trained.load(workdir)
  assert found.data.spec.shape == (8, 8, 1)
  assert found.data.spec.parts['y'].shape == (4, 4, 1)
  from PIL import Image

  with Image.open(workdir / 'samples' / '00000008.png') as image:
    width, height = image.size
  # Eight columns of examples; rows of input, output and back again, both ways.
  assert width / height == pytest.approx(8 / 6, rel=0.1)


# Growing.


def test_a_phase_has_its_own_space_batch_and_pictures(runs, tmp_path):
  config, workdir, _ = runs('growing')
  experiment = experiment_of('growing')
  setup = setup_lib.prepare(experiment, config)
  first, second = setup.make_phases(0)
  drawn = [
    next(setup_lib.batches(setup)(phase, 0, 0))['x'] for phase in (first, second)
  ]
  assert [len(x) for x in drawn] == [16, 8]
  # The checkpoint at the end of the first phase is of the small model.
  small = config.copy_and_resolve_references()
  small.steps = config.grow_at + 2
  state = launch.train(experiment, small, tmp_path / 'run')
  assert state.params['mean'].shape == (8, 8, 1)
  with pytest.raises(setup_lib.UsageError, match='samples|last phase'):
    shorter = small.copy_and_resolve_references()
    shorter.steps = 4
    launch.train(experiment, shorter, tmp_path / 'short')
    launch.evaluate(experiment, shorter, tmp_path / 'short')
  x = launch.sample(experiment, shorter, tmp_path / 'short', request=launch.Request(3))
  assert x.shape == (3, 4, 4, 1) and x.dtype == np.int32
  assert launch.sample(experiment, config, workdir).shape == (64, 8, 8, 1)


def test_a_grown_model_begins_where_the_small_one_ended():
  growing = experiment_of('growing')
  image = jnp.arange(4.0).reshape(2, 2, 1)
  expected = np.kron(np.asarray(image)[..., 0], np.ones((2, 2)))
  np.testing.assert_array_equal(growing.doubled(image)[..., 0], expected)
  raw = np.arange(64).reshape(1, 8, 8, 1) % 17
  setup = setup_lib.prepare(growing, config_of('growing'))
  forward = growing.small(setup.data.spec).transform.forward
  halves = raw.reshape(1, 4, 2, 4, 2, 1).mean(axis=(2, 4))
  np.testing.assert_allclose(forward(None, raw), halves / 8 - 1, atol=1e-6)


# A pool and a frozen network.


def test_a_frozen_network_is_the_other_runs_and_stays_so(runs, encoder):
  _, workdir, state = runs('pool_and_frozen')
  other = trained.load(encoder).model
  frozen = state.extra[base.FROZEN]['encoder']
  chex.assert_trees_all_equal(
    jax.device_get(frozen.params['encoder']), jax.device_get(other.params['encoder'])
  )
  assert trained.load(workdir).model.extra[base.FROZEN]['encoder'] is not None


def test_a_pool_holds_the_newest_samples(runs):
  config, _, state = runs('pool_and_frozen')
  pool = state.extra[base.LOCAL]
  assert pool['count'] == config.steps * config.batch_size
  assert np.all(np.any(np.asarray(pool['pool']) != 0, axis=1))


def test_pmap_refuses_a_pool_by_its_name(runs):
  _, _, state = runs('pool_and_frozen')
  config = config_of('pool_and_frozen')
  method = (
    setup_lib.prepare(experiment_of('pool_and_frozen'), config).make_phases(0)[0].method
  )
  with pytest.raises(ValueError, match="a different 'count' on every device"):
    parallel.pmapped(method, jax.devices()[:4])(state, jax.random.key(0), {})


def test_what_no_player_owns_is_not_averaged_nor_lost(runs):
  _, _, state = runs('pool_and_frozen')
  assert set(state.ema) == {'count', 'params'}
  assert set(state.extra) == {base.FROZEN, base.LOCAL}
  assert step_lib.model(state).extra is not None


# Conditions and options.


def test_conditions_and_options_of_the_command_line_reach_the_samples(runs):
  config, workdir, state = runs('conditional')
  experiment = experiment_of('conditional')
  means = step_lib.model(state).params['means']

  def drawn(words, **options):
    drawing = launch.Request().drawing._replace(condition=words, options=options)
    request = launch.Request(num=4, drawing=drawing)
    return launch.sample(experiment, config, workdir, request=request)

  inverse = setup_lib.prepare(experiment, config).data.spec.transform.inverse
  seven = drawn(('7',), temperature='0', steps='1')
  np.testing.assert_array_equal(seven, np.stack([inverse(means[7])] * 4))
  turn = drawn(('7', '3'), temperature='0')
  np.testing.assert_array_equal(turn[1], inverse(means[3]))
  with np.load(workdir / 'samples.npz') as file:
    asked = json.loads(str(file['request']))
  assert asked == {'condition': ['7', '3'], 'options': {'temperature': '0'}}
  path = workdir.parent / 'labels.npy'
  np.save(path, np.array([1, 2]))
  both = drawn((str(path),), temperature='0')
  np.testing.assert_array_equal(both[:2], inverse(means[1:3]))
  assert not np.array_equal(drawn(('7',), temperature='1'), seven)


@pytest.mark.parametrize(
  ('words', 'options', 'message'),
  [
    (('12',), {}, '0 to 9'),
    (('sevn',), {}, 'no label'),
    (('missing.npy',), {}, 'No such file'),
    (
      (),
      {'temprature': '1'},
      "did you mean 'temperature'? There are: steps, temperature",
    ),
    ((), {'steps': 'many'}, "steps='many' must be an integer"),
    ((), {'temperature': 'hot'}, "temperature='hot' must be a number"),
  ],
)
def test_wrong_conditions_and_options_are_one_line(runs, words, options, message):
  config, workdir, _ = runs('conditional')
  drawing = launch.Request().drawing._replace(condition=words, options=options)
  with pytest.raises(setup_lib.UsageError) as error:
    launch.sample(
      experiment_of('conditional'), config, workdir,
      request=launch.Request(2, drawing=drawing),
    )  # fmt: skip
  assert message in str(error.value) and '\n' not in str(error.value)


def test_options_reach_the_evaluation_and_are_recorded(runs):
  config, workdir, _ = runs('conditional')
  spreads = []
  for temperature in ('0', '2'):
    drawing = launch.Request().drawing._replace(options={'temperature': temperature})
    request = launch.Request(drawing=drawing)
    found = launch.evaluate(
      experiment_of('conditional'), config, workdir, request=request
    )
    spreads.append(float(found['spread']))
    written = json.loads((workdir / 'evaluation.json').read_text())
    assert written['request'] == {'options': {'temperature': temperature}}
  assert spreads[0] < 1 and spreads[1] == pytest.approx(2, rel=0.1)


def test_an_estimate_has_its_standard_error_and_samples_their_diagnostics(runs):
  _, workdir, _ = runs('conditional')
  run = trained.load(workdir)
  x = jnp.zeros((3, 8, 8, 1))
  label = jnp.array([0, 1, 2])
  value, error = run.method.queries['log_prob_estimate'](
    run.model, jax.random.key(0), x, condition=label, num_samples=4000
  )
  means = np.asarray(run.model.params['means'])[:3].reshape(3, -1)
  exact = -0.5 * (means**2).sum(axis=1) - 32 * math.log(2 * math.pi)
  assert value.shape == error.shape == (3,)
  np.testing.assert_array_less(np.abs(value - exact), 5 * error)
  samples, found = run.method.queries['sample_info'](
    run.model, jax.random.key(0), 6, condition=jnp.zeros(6, int), steps=3
  )
  same = run.method.sample(
    run.model, jax.random.key(0), 6, condition=jnp.zeros(6, int), steps=3
  )
  np.testing.assert_array_equal(samples, same)
  assert found['steps'] == 3 and found['last'].shape == (6,)


def test_a_model_without_a_condition_is_the_null_of_an_optional_one(runs):
  _, workdir, _ = runs('conditional')
  run = trained.load(workdir)
  x = run.method.sample(run.model, jax.random.key(0), 2, temperature=0.0)
  np.testing.assert_array_equal(x, 0)  # no class: no mean


def trained_on(tmp_path, condition, data, **changes):
  """A stand-in with a condition: (draw samples for words, its means, inverse)."""
  experiment = experiment_of('conditional')
  config = config_of('conditional', condition, data=data, evaluate_every=0, **changes)
  state = launch.train(experiment, config, tmp_path / 'run')
  run = trained.load(tmp_path / 'run')

  def draw(*words, num=1):
    drawing = launch.Request().drawing._replace(
      condition=words, options={'temperature': 0.0}
    )
    request = launch.Request(num, drawing=drawing)
    return launch.sample(experiment, config, tmp_path / 'run', request=request)

  means = np.asarray(step_lib.model(state).params['means'])
  return draw, means, run


def npz_of(path, **arrays):
  x = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
  np.savez(path, x=x, **arrays)
  return f'npz:{path}?transform=dequantization'


def test_several_conditions_are_a_dict_by_batch_key(tmp_path):
  shift = np.linspace(-1, 1, 60, dtype=np.float32)[:, None]
  data = npz_of(tmp_path / 'a.npz', y=np.arange(60) % 3, condition=shift)
  draw, means, run = trained_on(tmp_path, 'several', data)
  assert run.method.card.condition == ('label', 'condition')
  inverse = run.data.spec.transform.inverse
  found = draw('label=2', 'condition=0.25')
  np.testing.assert_array_equal(found[0], inverse(means[2] + 0.25 * means[3]))
  with pytest.raises(setup_lib.UsageError, match='--condition=condition='):
    draw('label=2')
  with pytest.raises(setup_lib.UsageError, match='NAME=WORDS, with NAME of label'):
    draw('2')


def test_a_text_is_a_condition(tmp_path):
  texts = np.array(['a red seven', 'a blue one', 'two'] * 20)
  draw, means, run = trained_on(
    tmp_path, 'text', npz_of(tmp_path / 'a.npz', text=texts)
  )
  counts = np.bincount(list(b'a red one'), minlength=256)
  counts[0] = 11 - 9  # padding to the longest text
  expected = np.einsum('k,k...->...', counts.astype(np.float32), means)
  found = draw('a red one')
  inverse = run.data.spec.transform.inverse
  assert np.abs(found[0] - inverse(expected)).max() <= 1  # a level, where sums round
  np.testing.assert_array_equal(draw('text=a red one'), found)


def test_a_domain_is_a_condition_and_pairs_are_for_evaluation_alone(tmp_path):
  digits = 'digits?transform=dequantization'
  name = f'domains?paired=true:{digits}|{digits}'
  draw, means, run = trained_on(tmp_path, 'domain', name)
  assert run.method.card.condition == ('domain',)
  inverse = run.data.spec.transform.inverse
  both = draw('0', '1', num=2)
  np.testing.assert_array_equal(both, inverse(means))
  pairs = run.data.arrays('pairs', 5)['x']
  assert pairs.shape == (5, 2, 8, 8, 1)
  np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])  # one set, twice
  with pytest.raises(ValueError, match='for evaluation'):
    next(run.data.batches('pairs', 4, seed=0))


# Averages.


def test_a_codebook_is_averaged_with_its_decoder_and_a_pool_is_not():
  card = experiment_of('growing').CARD

  def init(key, batch):
    del key, batch
    params = {'decoder': jnp.zeros(2)}
    extra = {'codebook': {'codes': jnp.zeros(2)}, base.LOCAL: {'pool': jnp.zeros(2)}}
    return base.State(jnp.zeros((), jnp.int32), params, extra, (), ())

  def step(state, key, batch):
    del key, batch
    params, extra = jax.tree.map(lambda x: x + 1, (state.params, state.extra))
    return state._replace(step=state.step + 1, params=params, extra=extra), {}

  method = base.Method(card, init, step)
  state = step_lib.init(method, jax.random.key(0), {}, averaged=True)
  steps = jax.jit(step_lib.train_step(method, ema_decay=0.3))
  state, _ = steps(state, jax.random.key(1), {'x': jnp.zeros((4, 1))})
  # The decay warms up to its limit: 1/10, 2/11, 3/12 and then 0.3 (4/13 is above).
  average = 0.0
  for value, decay in zip((1, 2, 3, 4), (1 / 10, 2 / 11, 3 / 12, 0.3), strict=True):
    average = decay * average + (1 - decay) * value
  model = step_lib.model(state)
  np.testing.assert_allclose(model.params['decoder'], average, rtol=1e-6)
  np.testing.assert_allclose(model.extra['codebook']['codes'], average, rtol=1e-6)
  np.testing.assert_array_equal(model.extra[base.LOCAL]['pool'], 4)
  raw = step_lib.model(state, averaged=False)
  np.testing.assert_array_equal(raw.extra['codebook']['codes'], 4)


# The launcher, as a user meets it.


def call(*args, cwd=ROOT):
  environment = os.environ | {'JAX_NUM_CPU_DEVICES': '1', 'JAX_PLATFORMS': 'cpu'}
  cache = f'--compilation_cache={ROOT / ".cache" / "jax"}'
  return subprocess.run(
    [sys.executable, str(ROOT / 'experiments' / 'main.py'), cache, *args],
    capture_output=True, text=True, timeout=300, env=environment, cwd=cwd,
  )  # fmt: skip


@pytest.mark.slow
def test_the_workdir_is_all_that_a_command_needs(runs, tmp_path):
  _, workdir, _ = runs('conditional')
  drawn = call(
    f'--workdir={workdir}', '--mode=sample', '--num_samples=3', '--condition=7',
    '--options=temperature=0,steps=2', cwd=tmp_path,
  )  # fmt: skip
  assert drawn.returncode == 0, drawn.stderr
  with np.load(workdir / 'samples.npz') as file:
    x, asked = file['x'], json.loads(str(file['request']))
  assert len(x) == 3 and np.all(x == x[0])
  assert asked['options'] == {'temperature': '0', 'steps': '2'}
  wrong = call(f'--workdir={workdir}', '--config.batch_size=8')
  assert wrong.returncode == 2 and 'batch_size = 16 there, 8 asked' in wrong.stderr


def test_a_typo_of_a_configs_name_suggests_the_nearest(tmp_path):
  done = call('--config=unrolled_gan_rnig', f'--workdir={tmp_path / "run"}')
  assert done.returncode == 2 and 'did you mean unrolled_gan_ring?' in done.stderr
  assert len(done.stderr.splitlines()) == 1


@pytest.mark.drill
def test_the_card_is_printed_without_a_run():
  done = call('--config=gan_ring', '--mode=card')
  assert done.returncode == 0, done.stderr
  lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
  assert lines['density'] == 'none' and lines['sampling_cost'] == 'one_pass'
  assert lines['queries'] == 'critic, decode, log_prior, prior'


def test_another_config_file_is_refused_and_a_lost_one_is_named(runs, tmp_path):
  config, workdir, _ = runs('growing')
  other = experiment_of('conditional')
  with pytest.raises(setup_lib.UsageError, match='growing there, conditional asked'):
    launch.train(other, config_of('conditional'), workdir)
  record = json.loads((workdir / 'run.json').read_text())
  gone = tmp_path / 'run'
  gone.mkdir()
  record['experiment'] = str(tmp_path / 'gone.py')
  (gone / 'run.json').write_text(json.dumps(record))
  (gone / 'config.json').write_text(json.dumps(config.to_dict()))
  with pytest.raises(setup_lib.UsageError, match='gone.py, is gone'):
    trained.load(gone)
  (gone / 'run.json').write_text('{"experiment": 3')
  with pytest.raises(setup_lib.UsageError, match='damaged'):
    trained.load(gone)
