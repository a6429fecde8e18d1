"""The main job in under five minutes on two CPU cores, on embedded data.

  python experiments/demo.py [--out=runs/demo] [--scale=1.0] [--json=PATH]

(a) Unrolled against ordinary GANs on stacked digits, 1,000 modes that are counted,
four seeds at once; (b) two of them on the ring of eight Gaussians; (c) a GAN on
scikit-learn's digits; (d) a self-contained HTML report of all. The protocols of (a)
and (b) are fixed here and printed, with what was tried before them.
--json=docs/results/demo.json, then experiments/results.py, renews the tables of the
results.
"""

import pathlib
import shutil
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments import quiet, results  # noqa: E402
from experiments.bench import flops  # noqa: E402
from experiments.configs import gan_digits, gan_ring, unrolled_gan_ring  # noqa: E402
from experiments.configs.parts import evaluations  # noqa: E402
from experiments.ledger import stacked  # noqa: E402
from gm_jax import statistics  # noqa: E402
from gm_jax.data import dataset, registry  # noqa: E402
from gm_jax.tasks import quality  # noqa: E402
from gm_jax.training import inference, launch, log, plots, report  # noqa: E402
from gm_jax.training import setup as setup_lib  # noqa: E402
from gm_jax.training import step as step_lib  # noqa: E402

_OUT = flags.DEFINE_string('out', 'runs/demo', 'Folder for results; replaced.')
_SCALE = flags.DEFINE_float('scale', 1.0, 'Share of the steps; below 1 to try it.')
_JSON = flags.DEFINE_string('json', None, 'File for the tables.')

FIRST_SEED, EVALUATIONS, K = 100, 4, 5
MARK = '.gm_jax_demo'  # in a folder that the demo may replace
KS = (0, 1, 2, 5, 10, 20, 50)
SHOWN = {'samples of the plane': 1000, 'images': 24}
# A discriminator made small on purpose, a quarter of the generator's width.
STACKED = {
  'seeds': 4, 'batch_size': 48, 'latent_size': 64, 'g_features': 32, 'd_features': 8,
  'g_learning_rate': 1e-3, 'd_learning_rate': 1e-3, 'ema_decay': 0.0,
}  # fmt: skip
STACKED_STEPS = 800
STACKED_PROTOCOL = (
  "Three of scikit-learn's digits as the channels of an image of 8x8: 1,000 modes."
  f' 4 seeds from {FIRST_SEED}. DCGAN generator of 32 channels against a discriminator'
  ' of 8, without batch normalization; z 64, normal; Adam 1e-3 for both, b1 0.5, cosine'
  f' decay to 0; batch 48; minimax game; k = {K}. 25,600 samples after the last step,'
  ' each channel classified; a mode is found by one sample; reverse KL to the uniform'
  ' distribution in nats, of which 0.020 is what the number of samples gives by itself.'
  ' Mean over seeds +- its standard error. Operations are those of the matrix products'
  ' of one seed by formula (experiments/bench/flops.py), what is rematerialized'
  ' included. Seconds are of training alone, all seeds together. The setting is that of'
  ' experiments/reproduce.py mode_collapse, not chosen for this table.'
)
STACKED_HEADER = (
  'row',
  'modes of 1000',
  'reverse KL',
  'seeds',
  'steps',
  'Gflop',
  'seconds',
)
RING = {'seeds': 2}
RING_STEPS = 5000
RING_PROTOCOL = (
  f'2 seeds from {FIRST_SEED}. Ring of radius 2, std 0.02; z 256, ReLU,'
  ' G 256-128-128-2, D(x/4) 2-128-1; Adam 2e-3 for both, b1 0.5, cosine decay to'
  f' 0; batch 128; minimax game; k = {K}. 2,500 samples; high quality: within 3'
  ' standard deviations of the nearest mode; a mode is found by at least 20 such hits;'
  ' reverse KL over modes in nats, inf where no sample hits any. Every number is'
  f' the mean over the last two of {EVALUATIONS} evaluations, never the best,'
  ' then the mean over seeds +- its standard error. Seconds are of training alone.'
  ' This is a setting in which the ordinary GAN collapses: a smaller discriminator and'
  " other rates than in the notebook of the paper's authors, in whose setting it does"
  ' not (experiments/reproduce.py unrolling).'
)
RING_HEADER = (
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
  sections = [stacked_digits(out), *ring(out), digits(out)]
  found, plane, gap, images = (section.tables[0] for section in sections)
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
      {'stacked digits': found, 'ring': plane, 'digits': images},
      {'gap': gap._asdict(), 'seconds': seconds},
    )
  print(f'\n{seconds:.0f} seconds in all. The report:\n{path.resolve()}')


class Row:
  """One row of a table: an experiment trained from several seeds at once.

  Attributes:
    steps: how many.
    seconds: of training alone.
    at: [E] steps of the evaluations.
    scores: by name, [E, S].
    samples: [E, N, ...] of the first seed, raw.
    state: after training.
    setup: of `training.setup.prepare`.
  """

  def __init__(self, name: str, experiment, steps: int, shown: int, **changes):
    self.steps = steps
    config = experiment.get_config()
    config.update({'steps': steps, 'seed': FIRST_SEED, 'checkpoint_every': 0})
    config.update(changes)
    config.steps_per_dispatch = 10
    every = ('log_every', 'evaluate_every', 'sample_every')
    config.update(dict.fromkeys(every, steps // EVALUATIONS))
    self.setup = setup = setup_lib.prepare(experiment, config, evaluates=True)
    (phase,) = setup.make_phases(0)
    score, scores = inference.scorer(setup, phase), []
    draw, samples = inference.drawer(setup, phase, shown), []
    bar = log.progress(steps, name)
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
    print(f'  {name}: {steps} steps, {self.seconds:.0f} s', flush=True)

  def cells(self, name: str, forms: dict[str, str], last: int, *more: str) -> list[str]:
    """The row as text: scores, means of the last evaluations, by how they are shown."""
    cells = [name]
    for key, form in forms.items():
      seeds = self.scores[key][-last:].mean(0)
      cells.append(statistics.text(*statistics.mean_and_error(seeds), form))
    return [*cells, str(len(seeds)), str(self.steps), *more, f'{self.seconds:.0f}']


def scaled(steps: float) -> int:
  """Steps at the asked scale, with evaluations at the ends of dispatches."""
  block = 10 * EVALUATIONS
  return max(block, round(steps * _SCALE.value / block) * block)


class Plan(NamedTuple):
  """A row of the stacked digits before it is trained."""

  steps: int
  operations: int  # of a step of one seed, by formula
  num_critic: int | None = None  # of the ordinary GAN with so many critic steps
  num_unroll: int = 0
  unroll_fn: str = 'full'


def stacked_plans(steps: int) -> dict[str, Plan]:
  """The rows by name; the second has the operations of the last in more steps."""
  sizes = (STACKED[name] for name in ('latent_size', 'g_features', 'd_features'))
  layers = (*flops.dcgan(8, 3, *sizes), STACKED['batch_size'])
  ordinary, critic = flops.unrolled(0, *layers), flops.gan(*layers, num_critic=K + 1)
  partial = flops.unrolled(K, *layers, partial=True)
  full = flops.unrolled(K, *layers, rematerialized=True)
  block = 10 * EVALUATIONS
  more = round(steps * full / ordinary / block) * block
  return {
    'ordinary (k = 0), equal steps': Plan(steps, ordinary),
    'ordinary (k = 0), equal operations': Plan(more, ordinary),
    f'{K + 1} critic steps, no unrolling': Plan(steps, critic, K + 1),
    f'unrolled, k = {K}, partial gradient': Plan(steps, partial, None, K, 'partial'),
    f'unrolled, k = {K}, full gradient': Plan(steps, full, None, K),
  }


def stacked_digits(out: pathlib.Path) -> report.Section:
  """Trains the five rows, prints their table and draws them."""
  print(f'(a) Stacked digits.\n{STACKED_PROTOCOL}\n')
  data, shown = registry.load('stacked:digits'), SHOWN['images']
  classify = evaluations.stacked_classifier(data)
  counted = evaluations.bound(quality.stacked_modes, data, {}, classify=classify)
  images = {'data': stacked.shown(data.spec, data.arrays('test', shown)['x'])}
  table, lines = [], {}
  for name, plan in stacked_plans(scaled(STACKED_STEPS)).items():
    unrolling = {'num_unroll': plan.num_unroll, 'unroll_fn': plan.unroll_fn}
    experiment = stacked.experiment(counted, plan.num_critic)
    row = Row(name, experiment, plan.steps, shown, **STACKED, **unrolling)
    gflop = plan.steps * plan.operations / 1e9
    forms = {'modes': '.1f', 'reverse_kl': '.2f'}
    table.append(row.cells(name, forms, 1, f'{gflop:.0f}'))
    mean, error = statistics.mean_and_error(row.scores['modes'], axis=1)
    lines[name] = (gflop * np.array(row.at) / row.steps, mean, error)
    images[name] = stacked.shown(data.spec, row.samples[-1])
  print('\n' + report.text_table(STACKED_HEADER, table) + '\n')
  plots.side_by_side(out / 'stacked.png', images, columns=6, sets=3)
  plots.curves(
    out / 'stacked_modes.png',
    lines,
    xlabel='operations of training, Gflop',
    ylabel='modes found of 1,000',
  )
  return report.Section(
    'Mode collapse on stacked digits',
    paragraphs=[STACKED_PROTOCOL],
    tables=[report.Table(STACKED_HEADER, table)],
    images=[
      report.Image(out / 'stacked.png', 'Data, and samples of the first seed.'),
      report.Image(
        out / 'stacked_modes.png',
        'Modes found against operations; the bands are one standard error over seeds.',
      ),
    ],
  )


def ring(out: pathlib.Path) -> list[report.Section]:
  """Trains the ordinary and the unrolled GAN on the ring, tabulates and draws them."""
  print(f'(b) The ring of eight Gaussians.\n{RING_PROTOCOL}\n')
  steps, shown = scaled(RING_STEPS), SHOWN['samples of the plane']
  rows = {
    'ordinary (k = 0)': Row('ordinary', gan_ring, steps, shown, **RING),
    f'unrolled, k = {K}': Row(
      'unrolled', unrolled_gan_ring, steps, shown, **RING, num_unroll=K,
      diagnostics=False,
    ),
  }  # fmt: skip
  forms = {'modes': '.1f', 'high_quality': '.3f', 'reverse_kl': '.2f'}
  table = [row.cells(name, forms, 2) for name, row in rows.items()]
  print('\n' + report.text_table(RING_HEADER, table) + '\n')
  unrolled = list(rows.values())[-1]
  real = unrolled.setup.data.arrays('test', shown)['x']
  panels = {
    name: [(f'step {step}', x) for step, x in zip(row.at, row.samples, strict=True)]
    for name, row in rows.items()
  }
  plots.scatter_panels(out / 'ring.png', panels, reference=real, limits=(-3.2, 3.2))
  text = 'Samples of the first seed through training, the data pale behind.'
  return [
    report.Section(
      'The ring of eight Gaussians',
      paragraphs=[RING_PROTOCOL],
      tables=[report.Table(RING_HEADER, table)],
      images=[report.Image(out / 'ring.png', text)],
    ),
    gap_section(out, unrolled),
  ]


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
  print('(c) A GAN on the 8x8 digits of scikit-learn.', flush=True)
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
