"""What energies know: classes with many and with few labels, and outliers.

Outliers are digits of classes that were in no split that a model was trained on, or
another data set. Every score of a method is a row; those that it does not serve are
sentences below the table.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments.configs import (
  equilibrium_matching_digits,
  igebm_digits,
  jem_digits,
  nade_digits,
  rbm_digits,
)
from experiments.ledger import fits, seeds
from gm_jax.data import dataset, registry
from gm_jax.tasks import classification, outliers
from gm_jax.training import report

CLASSES_HEADER = ('model', 'labels', 'accuracy', 'calibration error', 'nats', 'Brier',
                  'seeds', 'steps', 'seconds')  # fmt: skip
HEADER = ('model', 'score', 'AUROC', '95% interval', 'AUPR', 'FPR at 95%', 'seeds',
          'steps', 'seconds')  # fmt: skip
FEW = 100  # labels
MOST = 2000  # images of a large set's test split
HELD_OUT = 'classes:digits?without=8,9'
# A classifier: its chains, of a step, teach nothing.
ALONE = {'energy_weight': 0.0, 'num_steps': 1, 'gap_limit': 0.0}
CLASSIFIER = 'classifier, same network'
SEEDS = 3
JEM = fits.Fit('JEM', jem_digits, seeds=SEEDS)
CLASSES = (
  fits.Fit('JEM', jem_digits, f'digits?labels={FEW}', {}, SEEDS),
  fits.Fit(CLASSIFIER, jem_digits, 'digits', ALONE, SEEDS),
  fits.Fit(CLASSIFIER, jem_digits, f'digits?labels={FEW}', ALONE, SEEDS),
)
# Equilibrium matching in a tenth of JEM's seconds.
BRIEF = 'equilibrium matching, 750 steps'
FEWER = {'steps': 750, 'batch_size': 64}
LEVELS = {'likelihood': 'categorical', 'steps': 2000}


def models(data: str, names: Sequence[str] = ()) -> tuple[fits.Fit, ...]:
  """Rows of a data set by its name, whose options end it; all, or those named."""
  more, of = '&' if '?' in data else '?', {'data': data}
  levels = {'data': f'{data}{more}transform=levels'} | LEVELS
  rows = {
    'JEM': (jem_digits, of),
    CLASSIFIER: (jem_digits, of | ALONE),
    'IGEBM': (igebm_digits, of),
    'equilibrium matching': (equilibrium_matching_digits, of),
    BRIEF: (equilibrium_matching_digits, of | FEWER),
    'RBM of ones and zeros': (rbm_digits, {'data': f'dynamic:{data}'}),
    'NADE of levels': (nade_digits, levels),
  }
  chosen = {name: rows[name] for name in names} if names else rows
  return tuple(
    fits.Fit(name, module, None, changes, SEEDS)
    for name, (module, changes) in chosen.items()
  )


def classes(
  runs: Iterable[tuple[fits.Run, str]],
) -> tuple[report.Table, list[dict[str, Any]]]:
  """Accuracy and calibration on the test split.

  Args:
    runs: of models that classify, each with how many labels it was told.

  Returns:
    The table, and numbers by row.
  """
  lines, facts = [], []
  for run, labels in runs:
    arrays = {'test': run.data.arrays('test')}

    def task(method, model, key, arrays=arrays, data=run.data):
      return classification.classification(method, model, key, arrays, data.spec)

    found = fits.numbers(run, task)
    lines.append(classes_line(run, labels, found))
    facts.append(
      {'name': run.fit.name, 'labels': labels, 'seconds': run.seconds}
      | {name: values.tolist() for name, values in found.items()}
    )
    print(f'  {" | ".join(lines[-1])}', flush=True)
  return report.Table(CLASSES_HEADER, lines), facts


def classes_line(run: fits.Run, labels: str, found: dict[str, np.ndarray]) -> list[str]:
  """A line of the table of classes: mean +- standard error over seeds."""
  names = ('accuracy', 'calibration_error', 'classification_nll', 'brier')
  shown = [seeds.mean_and_error(found[name], '.3f') for name in names]
  return [run.fit.name, labels, *shown, *fits.ends(run)]


def measure(
  rows: Sequence[fits.Fit],
  budget: fits.Budget,
  *,
  others: str | None = None,
  data_dir: str | None = None,
) -> tuple[report.Table, dict[str, Any]]:
  """Areas by model and score.

  Args:
    rows: of data that hold classes out, or of any with `others`.
    budget: of the run.
    others: data set whose test split are the outliers; its name takes the options of
      the row's data, as `?transform=levels`.
    data_dir: where TensorFlow Datasets keeps its data, or None.

  Returns:
    The table, and numbers: rows by score, sentences of what is blank.
  """
  lines, facts, blank = [], [], {}
  for fit in rows:
    run = fits.train(fit, budget, data_dir)
    arrays = splits(run.data, others, data_dir)

    def task(method, model, key, arrays=arrays, spec=run.data.spec):
      return outliers.outliers(method, model, key, arrays, spec)

    served = outliers.scores_of(run.method, run.models[0], run.data.spec)
    blank[fit.name] = dict(served.blank)
    found = fits.numbers(run, task)
    for score in served.found:
      lines.append(line(run, score, found))
      print(f'  {" | ".join(lines[-1])}', flush=True)
    facts.append(
      {'name': fit.name, 'seconds': run.seconds, 'steps': run.steps}
      | {name: values.tolist() for name, values in found.items()}
    )
  return report.Table(HEADER, lines), {'rows': facts, 'blank': blank}


def splits(
  data: dataset.Dataset, others: str | None, data_dir: str | None
) -> dict[str, dict]:
  """The test split, and outliers: those held out, or another set's test split."""
  held_out = outliers.HELD_OUT
  if others is None:
    return {name: data.arrays(name) for name in ('test', held_out)}
  other = registry.load(others, data_dir=data_dir)
  if data.spec.num_levels == 2:
    other = registry.load(f'dynamic:{others}', data_dir=data_dir)
  return {'test': data.arrays('test', MOST), held_out: other.arrays('test', MOST)}


def line(run: fits.Run, score: str, found: dict[str, np.ndarray]) -> list[str]:
  """A line of the table; the interval is of one seed, of several the range of all."""
  low, high = found[f'auroc_{score}_low'].min(), found[f'auroc_{score}_high'].max()
  shown = [
    seeds.mean_and_error(found[f'{name}_{score}'], '.3f')
    for name in ('auroc', 'aupr', 'fpr95')
  ]
  shown.insert(1, f'{low:.3f} to {high:.3f}')
  return [run.fit.name, score, *shown, *fits.ends(run)]


def says(blank: dict[str, dict[str, str]]) -> str:
  """A sentence for the cells that are blank for one reason."""
  by_reason: dict[str, list[str]] = {}
  for name, reasons in blank.items():
    for score, reason in reasons.items():
      by_reason.setdefault(reason, []).append(f'{score} of {name}')
  cells = (f'{", ".join(found)}: {reason}' for reason, found in by_reason.items())
  return 'blank: ' + '; '.join(cells)
