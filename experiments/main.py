"""Trains, evaluates and samples models.

  python experiments/main.py --mode=list
  python experiments/main.py --config=experiments/configs/unrolled_gan_ring.py \
      --workdir=runs/ring [--config.LEAF=VALUE ...]
  python experiments/main.py --config=... --workdir=runs/ring --mode=evaluate
  python experiments/main.py --config=... --workdir=runs/ring --mode=sample

The same command again goes on from the last checkpoint. Exit codes: 0 done,
1 the run went wrong, 2 the command did, 130 and 143 stopped by Ctrl-C or SIGTERM
(with one more checkpoint if the config writes any).
"""

import importlib.util
import os
import pathlib
import signal
import sys
import warnings

from absl import app, flags, logging
from ml_collections import config_flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # configs import one another as experiments.configs

MODES = ('train', 'evaluate', 'sample', 'list')
CONFIGS = ROOT / 'experiments' / 'configs'

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Experiment file.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
_MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
_NUM = flags.DEFINE_integer('num_samples', 64, 'Samples drawn by --mode=sample.')
_BEST = flags.DEFINE_bool('best', False, 'Use the best checkpoint, not the newest.')
_CACHE = flags.DEFINE_string(
  'compilation_cache',
  os.path.join(os.path.expanduser('~'), '.cache', 'gm_jax'),
  'Folder of compiled programs; empty for none.',
)


def _fail(message: str, code: int):
  """Ends with one line on stderr."""
  print('error:', ' '.join(message.split()), file=sys.stderr)
  sys.exit(code)


def _interrupted(signum, frame):
  """Outside the training loop, which has handlers of its own."""
  del frame
  _fail('stopped; the same command begins again or goes on', 128 + signum)


def _experiment():
  """The module of the config file, which has more than `get_config`."""
  path = config_flags.get_config_filename(flags.FLAGS['config'])
  spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _parse(argv):
  """Flags; whatever is wrong with them is one line and exit code 2."""
  warnings.filterwarnings('ignore', category=DeprecationWarning)
  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, _interrupted)
  for value in (a.split('=', 1)[1] for a in argv if a.startswith('--config=')):
    path = pathlib.Path(value.rsplit('.py:', 1)[0] + ('.py' if '.py:' in value else ''))
    if path.suffix != '.py' or not path.is_file():
      _fail(f'--config={value} is no Python file; --mode=list shows the configs', 2)
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    lines = str(error).strip().splitlines()
    inside = 'Traceback' in str(error)  # of a config file: its last line says what
    _fail(f'{lines[0].split(": ")[0]}: {lines[-1]}' if inside else str(error), 2)
  except Exception as error:  # a config file may raise anything
    _fail(f'in --config: {error}'.replace('\\n', ' ').replace('\\', ''), 2)


def main(argv):
  if len(argv) > 1:
    _fail(f'unknown argument {argv[1]!r}; flags begin with --', 2)
  if _MODE.value == 'list':
    from gm_jax.training import launch

    for name, line in launch.describe(CONFIGS):
      print(f'{name:<32} {line}')
    return
  if _CONFIG.value is None:
    _fail('--config is missing; --mode=list shows the configs', 2)
  if not _WORKDIR.value:
    _fail('--workdir is missing: the folder that the run is kept in', 2)
  _run(_experiment(), _CONFIG.value, _WORKDIR.value)


def _run(experiment, config, workdir):
  from gm_jax.training import launch, loop, setup

  if _CACHE.value:
    launch.use_compilation_cache(_CACHE.value)
  logging.set_verbosity(logging.WARNING)
  try:
    if _MODE.value == 'train':
      launch.train(experiment, config, workdir)
      print(f'done: {workdir}')
    elif _MODE.value == 'evaluate':
      launch.evaluate(experiment, config, workdir, best=_BEST.value)
    else:
      launch.sample(experiment, config, workdir, num=_NUM.value, best=_BEST.value)
  except setup.UsageError as error:
    _fail(str(error), 2)
  except loop.Diverged as error:
    _fail(f'{error}; checkpoints in {workdir} are from before', 1)
  except loop.Stopped as error:
    saved = 'the same command goes on from there'
    lost = 'no checkpoint was written (checkpoint_every is 0)'
    _fail(f'{error}; {saved if error.saved else lost}', 128 + error.signum)


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
