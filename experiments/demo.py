"""The main job in about five minutes on two CPU cores, on embedded data.

  python experiments/demo.py [--out=runs/demo] [--scale=1.0] [--json=PATH]

(a) Unrolled against ordinary GANs on the ring of eight Gaussians, four seeds at
once; (b) a GAN on scikit-learn's digits; (c) a self-contained HTML report of both.
The protocol of (a) is fixed here and printed, with what was tried before it.
--json=docs/results/demo.json, then experiments/results.py, renews the tables of the
results.
"""

import pathlib
import shutil
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments import quiet, results  # noqa: E402
from experiments.configs import gan_digits, gan_ring, unrolled_gan_ring  # noqa: E402
from experiments.configs.parts import evaluations  # noqa: E402
from gm_jax import statistics  # noqa: E402
from gm_jax.data import dataset  # noqa: E402
from gm_jax.training import inference, launch, log, plots, report  # noqa: E402
from gm_jax.training import setup as setup_lib  # noqa: E402
from gm_jax.training import step as step_lib  # noqa: E402

_OUT = flags.DEFINE_string('out', 'runs/demo', 'Folder for results; replaced.')
_SCALE = flags.DEFINE_float('scale', 1.0, 'Share of the steps; below 1 to try it.')
_JSON = flags.DEFINE_string('json', None, 'File for the tables.')

SEEDS, FIRST_SEED, EVALUATIONS, K, STEPS = 4, 100, 5, 5, 10_000
MARK = '.gm_jax_demo'  # in a folder that the demo may replace
KS = (0, 1, 2, 5, 10, 20, 50)
PROTOCOL = (
  f'{SEEDS} seeds from {FIRST_SEED}. Ring of radius 2, std 0.02; z 256, ReLU,'
  ' G 256-128-128-2, D(x/4) 2-128-1; Adam 2e-3 for both, b1 0.5, cosine decay to'
  ' 0; batch 128;'
  f' minimax game; k = {K}. 2,500 samples; high quality: within 3 standard'
  ' deviations of the nearest mode; a mode is found by at least 20 such hits;'
  ' reverse KL over modes in nats, inf where no sample hits any. Every number is'
  f' the mean over the last three of {EVALUATIONS} evaluations, never the best,'
  ' then the mean over seeds +- its standard error. Seconds are of training alone.'
  ' The rate, its decay and the steps were chosen before, by looking at the full'
  ' gradient on seeds 0 to 3; these seeds were not looked at.'
)
FIRST_SETTING = (
  'The setting tried first, otherwise the same: Adam 1e-3 without decay, 5,000 steps.'
)
HEADER = (
  'row',
  'modes of 8',
  'high quality',
  'reverse KL',
  'seeds',
  'steps',
  'seconds',
)


def main(argv):
  logging.set_verbosity(logging.ERROR)
  launch.use_compilation_cache()
  out = pathlib.Path(_OUT.value)
  if _SCALE.value <= 0:
    sys.exit(f'error: --scale must be > 0, got {_SCALE.value}')
  wrong = _JSON.value and results.check_target(_JSON.value)
  if wrong:
    sys.exit(f'error: {wrong}')
  if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
    sys.exit(f'error: {out} holds something else; give an empty or new --out')
  shutil.rmtree(out, ignore_errors=True)
  out.mkdir(parents=True)
  (out / MARK).touch()
  began = time.perf_counter()
  sections = [*ring(out), digits(out)]
  found, first, gap, images = (section.tables[0] for section in sections)
  seconds = time.perf_counter() - began
  versions = '\n'.join(f'{k} {v}' for k, v in report.versions().items())
  sections.append(
    report.Section(
      'How this was made',
      paragraphs=[f'{seconds:.0f} seconds in all, compilation included.'],
      preformatted=[' '.join(['python', *sys.argv]), versions],
    )
  )
  path = out / 'report.html'
  report.write(path, 'gm_jax: mode collapse, and a GAN on real digits', sections)
  if _JSON.value:
    words = [flags.FLAGS['scale'].serialize()] if _SCALE.present else []
    results.save(
      pathlib.Path(_JSON.value),
      results.command_line(argv[:1], words, data=False),
      {'ring': found, 'ring, first setting': first, 'digits': images},
      {'gap': gap._asdict(), 'seconds': seconds},
    )
  print(f'\n{seconds:.0f} seconds in all. The report:\n{path.resolve()}')


class Row:
  """One row of the table: a config trained from several seeds at once.

  Attributes:
    steps: how many.
    seconds: of training alone.
    at: [E] steps of the evaluations.
    scores: by name, [E, S].
    samples: [E, 1000, 2] of the first seed.
    state: after training.
  """

  def __init__(self, name: str, experiment, **changes):
    config = experiment.get_config()
    self.steps = changes.pop('steps', None) or scaled(STEPS)
    config.update({'steps': self.steps, 'seeds': SEEDS, 'seed': FIRST_SEED})
    config.update({'decay_steps': self.steps, 'log_every': self.steps // EVALUATIONS})
    config.update(changes)
    config.evaluate_every = config.sample_every = config.log_every
    config.update({'steps_per_dispatch': 10, 'checkpoint_every': 0})
    self.setup = setup = setup_lib.prepare(experiment, config, evaluates=True)
    (phase,) = setup.make_phases(0)
    score, scores = inference.scorer(setup, phase), []
    draw, samples = inference.drawer(setup, phase, 1000), []
    bar = log.progress(self.steps, name)
    trained = quiet.train_config(
      setup,
      evaluate=lambda _, state: scores.append(score(state)[0]),
      sample=lambda _, state: samples.append(draw(state)[0]),
      tick=bar.advance_to,
    )
    bar.close()
    self.state, self.seconds = trained.state, quiet.seconds(trained)
    self.at = [step for step, _ in trained.logs]
    self.samples = np.stack(samples)
    self.scores = {k: np.stack([s[k] for s in scores]) for k in scores[0]}
    print(f'  {name}: {self.steps} steps, {self.seconds:.0f} s', flush=True)

  def cells(self, name: str) -> list[str]:
    """The row as text."""
    cells = [name]
    for key, form in (('modes', '.1f'), ('high_quality', '.3f'), ('reverse_kl', '.2f')):
      seeds = self.scores[key][-3:].mean(0)
      cells.append(statistics.text(*statistics.mean_and_error(seeds), form))
    return [*cells, str(SEEDS), str(self.steps), f'{self.seconds:.0f}']


def scaled(steps: float) -> int:
  """Steps at the asked scale, with evaluations at the ends of dispatches."""
  block = 10 * EVALUATIONS
  return max(block, round(steps * _SCALE.value / block) * block)


def ring(out: pathlib.Path) -> list[report.Section]:
  """Trains the five rows, prints their table and draws them."""
  print(f'(a) The ring of eight Gaussians.\n{PROTOCOL}\n')
  quiet = {'num_unroll': K, 'diagnostics': False}
  full = Row('unrolled, full gradient', unrolled_gan_ring, unroll_fn='full', **quiet)
  plain = Row('ordinary, equal steps', gan_ring)
  steps = scaled(plain.steps * full.seconds / plain.seconds / _SCALE.value)
  rows = {
    'ordinary (k = 0), equal steps': plain,
    'ordinary (k = 0), equal seconds': Row('equal seconds', gan_ring, steps=steps),
    f'{K + 1} critic steps, no unrolling': Row(
      'more critic steps', gan_ring, num_critic=K + 1
    ),
    f'unrolled, k = {K}, partial gradient': Row(
      'unrolled, partial gradient', unrolled_gan_ring, unroll_fn='partial', **quiet
    ),
    f'unrolled, k = {K}, full gradient': full,
  }
  table = [row.cells(name) for name, row in rows.items()]
  print('\n' + report.text_table(HEADER, table) + '\n')
  draw_rows(out, rows)
  print(FIRST_SETTING)
  first = {'g_learning_rate': 1e-3, 'd_learning_rate': 1e-3, 'decay_steps': 0,
           'steps': scaled(5000)}  # fmt: skip
  table_first = [
    Row('ordinary', gan_ring, **first).cells('ordinary (k = 0)'),
    Row('partial', unrolled_gan_ring, unroll_fn='partial', **quiet, **first).cells(
      f'unrolled, k = {K}, partial gradient'
    ),
    Row('full', unrolled_gan_ring, unroll_fn='full', **quiet, **first).cells(
      f'unrolled, k = {K}, full gradient'
    ),
  ]
  print('\n' + report.text_table(HEADER, table_first) + '\n')
  images = [
    ('samples', 'Samples of the first seed through training, the data pale behind.'),
    ('modes', 'Modes found; the bands are one standard error over seeds.'),
    ('high_quality', 'Share of samples within three standard deviations of a mode.'),
  ]
  return [
    report.Section(
      'Mode collapse on the ring of eight Gaussians',
      paragraphs=[PROTOCOL],
      tables=[report.Table(HEADER, table)],
      images=[report.Image(out / f'{name}.png', text) for name, text in images],
    ),
    report.Section(
      'The same in the setting tried first',
      paragraphs=[FIRST_SETTING],
      tables=[report.Table(HEADER, table_first)],
    ),
    gap_section(out, full),
  ]


def draw_rows(out: pathlib.Path, rows: dict[str, Row]) -> None:
  """Pictures of the samples, and of two scores, through training."""
  real = next(iter(rows.values())).setup.data.arrays('test', 1000)['x']
  panels = {
    name: [(f'step {step}', x) for step, x in zip(row.at, row.samples, strict=True)]
    for name, row in rows.items()
  }
  plots.scatter_panels(out / 'samples.png', panels, reference=real, limits=(-3.2, 3.2))
  for key, label in (('modes', 'modes found'), ('high_quality', 'high-quality share')):
    lines = {}
    for name, row in rows.items():
      value = row.scores[key]
      mean, error = statistics.mean_and_error(value, axis=1)
      lines[name] = (np.array(row.at) / row.steps, mean, error)
    plots.curves(out / f'{key}.png', lines, xlabel='share of training', ylabel=label)


def gap_section(out: pathlib.Path, row: Row) -> report.Section:
  """What the partial gradient leaves out, against k, at one trained state."""
  gaps, cosines = [], []
  for k in KS:
    config = unrolled_gan_ring.get_config(str(k))
    config.decay_steps = 10**8  # the full rate: decayed to 0, nothing would react
    setup = setup_lib.prepare(unrolled_gan_ring, config, evaluates=True)
    (phase,) = setup.make_phases(0)
    # Many batches at the same state: the mean of each metric over them.
    keys = jax.random.split(jax.random.key(0), 16)
    batches = setup_lib.batches(setup)(phase, 99, 0)
    x = jnp.stack([next(batches)['x'] for _ in keys])
    state = jax.tree.map(lambda a: a[0] if a.ndim else a, row.state)
    step = jax.jit(
      lambda s, keys, x, m=phase.method: jax.lax.map(
        lambda kx: m.step(s, kx[0], {'x': kx[1]})[1], (keys, x)
      )
    )
    metrics = step(state, keys, x)
    gaps.append(float(metrics['unroll_gap'].mean()))
    cosines.append(float(metrics['unroll_cosine'].mean()))
  plots.curves(
    out / 'gap.png', {'|full - partial|': (KS, gaps)}, xlabel='k', ylabel='norm'
  )
  plots.curves(
    out / 'cosine.png',
    {'cosine of (full - partial) with partial': (KS, cosines)},
    xlabel='k',
    ylabel='cosine',
  )
  return report.Section(
    'What the partial gradient leaves out',
    paragraphs=[
      'The full gradient of the unrolled objective less the partial one, at the'
      ' first seed of the last row after training, with inner steps at the rate that'
      ' training began with: its norm, and its cosine with the partial gradient,'
      ' means over 16 batches.'
    ],
    tables=[
      report.Table(
        ('k', '|full - partial|', 'cosine'),
        [
          [str(k), f'{g:.4g}', f'{c:.3f}']
          for k, g, c in zip(KS, gaps, cosines, strict=True)
        ],
      )
    ],
    images=[
      report.Image(out / 'gap.png', 'Norm of the difference against k.'),
      report.Image(out / 'cosine.png', 'Its cosine with the partial gradient.'),
    ],
  )


def digits(out: pathlib.Path) -> report.Section:
  """Trains a GAN on digits by the launcher, and measures its samples."""
  print('(b) A GAN on the 8x8 digits of scikit-learn.', flush=True)
  config = gan_digits.get_config()
  steps = scaled(config.steps)
  every = steps // EVALUATIONS
  config.update({'steps': steps, 'decay_steps': steps, 'steps_per_dispatch': 10})
  config.update({'log_every': every, 'evaluate_every': every, 'sample_every': every,
                 'checkpoint_every': every})  # fmt: skip
  workdir = out / 'gan_digits'
  state = launch.train(gan_digits, config, workdir)
  setup = setup_lib.prepare(gan_digits, config, evaluates=True)
  (phase,) = setup.make_phases(0)
  data, distances = setup.data, evaluations.image_distances(setup.data)
  real = dataset.transformed(data.spec, data.arrays('test'))['x']
  num = len(real)
  rows = {
    'samples': phase.method.sample(step_lib.model(state), jax.random.key(1), num),
    'train images (the floor)': dataset.transformed(
      data.spec, data.arrays('train', num)
    )['x'],
    'uniform noise': jax.random.uniform(jax.random.key(2), real.shape, minval=-1.0),
  }
  header = (f'{num} of', 'MMD^2, unbiased', 'Frechet, small classifier')
  values = {name: distances(x) for name, x in rows.items()}
  table = [
    [name, f'{float(v["mmd2"]):.5f}', f'{float(v["frechet"]):.2f}']
    for name, v in values.items()
  ]
  print('\nagainst the test images:\n' + report.text_table(header, table))
  plots.side_by_side(
    out / 'digits.png', {'real': real[:64], 'samples': rows['samples'][:64]}, columns=8
  )
  scores = log.read(workdir / 'evaluate.csv')
  at = [row['step'] for row in scores]
  plots.curves(
    out / 'frechet.png',
    {'samples': (at, [row['frechet'] for row in scores])},
    xlabel='step',
    ylabel='Frechet distance to test',
  )
  return report.Section(
    'A GAN on real digits',
    paragraphs=[
      f'{num} images of each kind against the {num} test images. MMD^2 on pixels,'
      ' Gaussian kernel as wide as the median distance between test images. Frechet'
      ' distance in the 64 features of a classifier trained on the train split: it'
      ' compares with no Frechet distance in Inception features. One seed.'
    ],
    tables=[report.Table(header, table)],
    images=[
      report.Image(out / 'digits.png', 'Real test digits, and samples.'),
      report.Image(out / 'frechet.png', 'Frechet distance through training.'),
    ],
  )


if __name__ == '__main__':
  app.run(main)
