"""Measures speed and memory, and prints a table.

  python experiments/benchmark.py unroll [--ks=0,1,5,10,20,50] [--repeats=20] \
      [--json=PATH] [--quick]
  python experiments/benchmark.py steps [--methods=NAME,...] [--repeats=20] [--quick]
  python experiments/benchmark.py autoregressive [--repeats=20] [--quick]
  python experiments/benchmark.py latent [--repeats=20] [--quick]
  python experiments/benchmark.py flow_speed [--repeats=20] [--quick]
  python experiments/benchmark.py diffusion_speed [--repeats=20] [--quick]
  python experiments/benchmark.py energy_speed [--repeats=20] [--quick]
  python experiments/benchmark.py metrics [--repeats=20] [--quick]
  python experiments/benchmark.py data [--data_dir=PATH] [--repeats=20] [--quick]

  unroll   one full training step of the unrolled GAN, by the number k of steps
           it looks ahead, beside eager PyTorch and the floating-point floor
  steps    one training step and one sampling of every method at a named size,
           beside eager PyTorch; --methods picks rows
  autoregressive   log-likelihoods, steps and samples of NADE, PixelCNN, MADE and
           a transformer, beside PyTorch
  latent   leapfrog steps in a decoder's latent space, importance-weighted bounds
           of 5,000 draws and look-ups of codes, beside PyTorch
  flow_speed  spline and autoregressive flows beside zuko, nflows and flowjax, TarFlow's
           samples with a cache and without
  diffusion_speed  a step of a U-Net, and images by DDIM, beside diffusers
  energy_speed  steps of Langevin chains, and a training step by them, beside PyTorch
  metrics  the Frechet distance, precision, recall, density and coverage, and the
           kernel distance of 10,000 x 2,048 features, beside the field's packages
  data     examples a second of every data source, beside PyTorch's DataLoader;
           --data_dir adds MNIST and Fashion-MNIST as TensorFlow Datasets keeps them

--json=PATH keeps every number and the printed tables in a file, whose tables of other
names stay; `--json=docs/results/NAME.json`, then experiments/results.py, renews a page.

Cores that other processes use meanwhile are measured (Linux): rows with more than a
quarter of one are marked unclean, and no goal is judged by them.

PyTorch is optional: pip install 'gm_jax[bench]'. Exit codes: 0 measured,
1 the measurement went wrong, 2 the command did.
"""

import pathlib
import sys

from absl import app, flags, logging

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for experiments.bench

from experiments import results  # noqa: E402

_KS = flags.DEFINE_list('ks', ['0', '1', '5', '10', '20', '50'], 'Steps to unroll.')
_REPEATS = flags.DEFINE_integer('repeats', 20, 'Timings of each.', lower_bound=1)
_METHODS = flags.DEFINE_list('methods', [], 'Rows of `steps`; by default all.')
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Of TensorFlow Datasets.')
_JSON = flags.DEFINE_string('json', None, 'File for numbers and tables.')
_QUICK = flags.DEFINE_bool('quick', False, 'Less of all: k = 0 and 10, five steps.')
_CHANGING = (_KS, _REPEATS, _METHODS, _QUICK)  # what the numbers depend on


def _fail(message: str, code: int):
  """Ends with one line on stderr."""
  print(f'error: {message}', file=sys.stderr)
  sys.exit(code)


def _parse(argv):
  """Flags; whatever is wrong with them is one line and exit code 2."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    _fail(' '.join(str(error).split()), 2)


def _unroll() -> dict:
  ks = ['0', '10'] if _QUICK.value and not flags.FLAGS['ks'].present else _KS.value
  repeats = _REPEATS.value
  if _QUICK.value and not flags.FLAGS['repeats'].present:
    repeats = 5
  if not ks or not all(k.isdecimal() for k in ks):
    _fail(f'--ks must be numbers >= 0 with commas between, got {",".join(ks)!r}', 2)
  from experiments.bench import unroll

  return unroll.run(sorted({int(k) for k in ks}), repeats=repeats)


def _steps() -> dict:
  from experiments.bench import steps

  quick, known = _QUICK.value, list(steps.SETTINGS)
  for name in _METHODS.value:
    if name not in known:
      _fail(f'--methods: unknown {name!r}; there are: {", ".join(known)}', 2)
  names = _METHODS.value or (steps.QUICK if quick else known)
  few = quick and not flags.FLAGS['repeats'].present
  return steps.run(list(dict.fromkeys(names)), repeats=5 if few else _REPEATS.value)


def _autoregressive() -> dict:
  from experiments.bench import autoregressive

  few = _QUICK.value and not flags.FLAGS['repeats'].present
  return autoregressive.run(repeats=5 if few else _REPEATS.value, quick=_QUICK.value)


def _latent() -> dict:
  from experiments.bench import latent

  few = _QUICK.value and not flags.FLAGS['repeats'].present
  return latent.run(repeats=5 if few else _REPEATS.value, quick=_QUICK.value)


def _flow_speed() -> dict:
  from experiments.bench import flow_speed

  few = _QUICK.value and not flags.FLAGS['repeats'].present
  return flow_speed.run(repeats=5 if few else _REPEATS.value, quick=_QUICK.value)


def _diffusion_speed() -> dict:
  from experiments.bench import diffusion_speed

  few = _QUICK.value and not flags.FLAGS['repeats'].present
  return diffusion_speed.run(repeats=5 if few else _REPEATS.value, quick=_QUICK.value)


def _energy_speed() -> dict:
  from experiments.bench import energy_speed

  few = _QUICK.value and not flags.FLAGS['repeats'].present
  return energy_speed.run(repeats=5 if few else _REPEATS.value, quick=_QUICK.value)


def _metrics() -> dict:
  from experiments.bench import metrics

  few = _QUICK.value and not flags.FLAGS['repeats'].present
  return metrics.run(repeats=5 if few else _REPEATS.value, quick=_QUICK.value)


def _data() -> dict:
  data_dir = _DATA_DIR.value
  if data_dir and not pathlib.Path(data_dir).is_dir():
    _fail(f'--data_dir={data_dir}: no such folder', 2)
  from experiments.bench import data

  if _QUICK.value:
    repeats = _REPEATS.value if flags.FLAGS['repeats'].present else 1
    return data.run(repeats=repeats, data_dir=data_dir, num=2000)
  return data.run(repeats=_REPEATS.value, data_dir=data_dir)


COMMANDS = {
  'unroll': _unroll,
  'steps': _steps,
  'autoregressive': _autoregressive,
  'latent': _latent,
  'flow_speed': _flow_speed,
  'diffusion_speed': _diffusion_speed,
  'energy_speed': _energy_speed,
  'metrics': _metrics,
  'data': _data,
}  # each prints its tables and returns them with every number


def main(argv):
  logging.set_verbosity(logging.WARNING)
  known = ', '.join(COMMANDS)
  if len(argv) != 2:
    _fail(f'expected one benchmark of: {known}; got {len(argv) - 1}', 2)
  if argv[1] not in COMMANDS:
    _fail(f'unknown benchmark {argv[1]!r}; there are: {known}', 2)
  wrong = _JSON.value and results.check_target(_JSON.value)
  if wrong:
    _fail(wrong, 2)
  numbers = COMMANDS[argv[1]]()
  if _JSON.value:
    chosen = [flags.FLAGS[f.name].serialize() for f in _CHANGING if f.present]
    line = results.command_line(argv, chosen, data=_DATA_DIR.present)
    try:
      results.save(pathlib.Path(_JSON.value), line, numbers.pop('tables'), numbers)
    except (OSError, results.ResultsError) as error:
      _fail(str(error), 1)
    print(f'numbers: {_JSON.value}')


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
