"""Text to image on colored characters: does a picture show what its sentence says?

Every model is that of its config; captions of the test split, and those that have a
combination of words held out of training, are drawn once each. Classifiers of real
images, one an attribute, read the samples; what they read of real images is beside.
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import quiet
from experiments.configs import gan_cls_glyphs, stack_gan_glyphs
from experiments.configs.parts import evaluations, texts
from gm_jax.data import dataset, glyph_factors, glyphs, registry
from gm_jax.tasks import texts as tasks
from gm_jax.training import inference, plots, report
from gm_jax.training import setup as setup_lib

NAMES = tuple(n for n in glyph_factors.CAPTION if n not in ('a', 'on'))
HEADER = (
  '', 'captions', *NAMES, 'all', 'of others', 'chance', 'N', 'steps', 'seconds'
)  # fmt: skip
SCORES = ('', 'margin', 'margin > 0', 'retrieval: real images', 'samples')
SPLITS = {'test': 'test', glyphs.HELD_OUT: 'held out'}
SHOWN = 8  # samples of each held-out pair
FITS = {
  'GAN-CLS': (gan_cls_glyphs, None),
  'GAN-INT-CLS': (gan_cls_glyphs, 'int'),
  'StackGAN': (stack_gan_glyphs, None),
}
BUDGETS = {'smoke': 0.01, 'laptop': 1.0, 'full': 1.0}  # parts of the configs' steps


class Row(NamedTuple):
  """What came of a model."""

  name: str
  numbers: dict[str, float]
  sizes: dict[str, int]  # samples by split
  steps: int
  seconds: float
  samples: np.ndarray  # of held-out pairs, [pairs * SHOWN, ...] in [-1, 1]


def of_real(name: str, data: dataset.Dataset) -> Row:
  """What the readers make of real images beside their captions, and those of others."""
  attributes = texts.readers(data)
  splits = evaluations.splits_of(data, dict.fromkeys(SPLITS, 2000))
  method = gan_cls_glyphs.make_method(gan_cls_glyphs.get_config(), data.spec)[-1].method
  numbers, sizes = {}, {}
  for split, arrays in splits.items():
    x = dataset.transformed(data.spec, arrays)['x']
    real = method._replace(sample=lambda *args, x=x, condition: x)
    one = {split: arrays}
    found = tasks.agreement(
      real, None, jax.random.key(0), one, data.spec, attributes=attributes
    )
    numbers |= {key: float(value) for key, (value, _) in found.values.items()}
    sizes[split] = len(x)
  return Row(name, numbers, sizes, 0, 0.0, np.zeros(0))


def sentences(data: dataset.Dataset) -> np.ndarray:
  """Captions of held-out pairs, SHOWN of each, `[pairs * SHOWN, T]`."""
  found = data.arrays(glyphs.HELD_OUT)['text']
  rows = []
  for pair in texts.HELD_OUT.split(','):
    tokens = [glyph_factors.VOCABULARY.index(word) for word in pair.split(':')]
    both = np.logical_and(*((found == token).any(axis=1) for token in tokens))
    rows.append(found[both][:SHOWN])
  return np.concatenate(rows)


def measured(name, setup: setup_lib.Setup, state, seconds: float) -> Row:
  """The numbers of a trained state, and its samples of held-out pairs.

  Args:
    name: of the row.
    setup: with the config's evaluation.
    state: at the end.
    seconds: of training.
  """
  phase, data = setup.make_phases(0)[-1], setup.data
  numbers, _ = inference.scorer(setup, phase)(state)
  splits = evaluations.splits_of(data, dict.fromkeys(SPLITS, 2000))
  sizes = {split: len(arrays['x']) for split, arrays in splits.items()}
  asked = sentences(data)

  def draw(model, key):
    return phase.method.sample(model, key, len(asked), condition=asked)

  samples = inference.compiled(setup, draw)(state)
  numbers = {key: float(value) for key, value in numbers.items()}
  return Row(name, numbers, sizes, setup.settings.steps, seconds, samples)


def cells(row: Row) -> list[list[str]]:
  """A line for each split."""
  lines = []
  for split, words in SPLITS.items():
    each = (*NAMES, 'all', tasks.WRONG, tasks.CHANCE)
    found = [f'{row.numbers[f"{split}_{name}"]:.3f}' for name in each]
    end = [str(row.steps), f'{row.seconds:.0f}'] if row.steps else ['', '']
    lines.append([row.name, words, *found, str(row.sizes[split]), *end])
  return lines


def scores(row: Row) -> list[str]:
  names = ('margin', 'margin_positive', 'retrieval', 'retrieval_of_samples')
  return [row.name, *(f'{row.numbers[name]:.3f}' for name in names)]


def run(budget_name: str, *, out: pathlib.Path) -> dict[str, Any]:
  """Trains every model, prints the tables and draws held-out pairs.

  Args:
    budget_name: one of `BUDGETS`.
    out: folder for the picture.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  rows, part = [], BUDGETS[budget_name]
  for name, (module, arg) in FITS.items():
    config = module.get_config(arg)
    for leaf in ('steps', 'encoder_steps', 'stage_steps'):
      if leaf in config:
        config[leaf] = max(10, round(config[leaf] * part) // 10 * 10)
    if 'stage_steps' in config:
      least = config.encoder_steps + config.stage_steps + 10
      config.steps = max(config.steps, least)
    for leaf in ('evaluate', 'sample', 'checkpoint'):
      config[f'{leaf}_every'] = 0
    setup = setup_lib.prepare(module, config, evaluates=True)
    trained = quiet.train_config(setup)
    rows.append(measured(name, setup, trained.state, quiet.seconds(trained)))
    print(f'  {" | ".join(cells(rows[-1])[0])}', flush=True)
  return reported(rows, budget_name, out)


def reported(rows: list[Row], budget_name: str, out: pathlib.Path) -> dict[str, Any]:
  """Prints the tables of rows, below real images of their size, and draws pairs."""
  began, lines, found = time.perf_counter(), [], []
  for row in rows:
    size = row.samples.shape[1]
    name = f'real images, {size} x {size}'
    if name not in [real.name for real in found]:
      module, arg = FITS[row.name]
      found.append(of_real(name, registry.load(module.get_config(arg).data)))
      lines += cells(found[-1])
    lines += cells(row)
    found.append(row)
  tables = {
    'agreement': report.Table(HEADER, lines),
    'scores': report.Table(SCORES, [scores(row) for row in rows]),
  }
  for table in tables.values():
    print('\n' + report.text_table(*table))
  path = out / 'text_to_image.png'
  pictures = {row.name: row.samples for row in rows}
  plots.side_by_side(path, pictures, columns=SHOWN)
  print(f'held-out pairs, a row each: {path}; {time.perf_counter() - began:.0f} s')
  return {
    'tables': tables,
    'budget': budget_name,
    'versions': report.versions(),
    'rows': [row._replace(samples=None)._asdict() for row in found],
  }
