"""Trains, evaluates and samples models.

  python experiments/main.py --mode=list
  python experiments/main.py --config=experiments/configs/unrolled_gan_ring.py \
      --workdir=runs/ring [--config.LEAF=VALUE ...]
  python experiments/main.py --config=... --workdir=runs/ring --mode=evaluate
  python experiments/main.py --config=... --workdir=runs/ring --mode=sample

Another data set than the config's: --data=npz:PATH, folder:PATH, text:PATH, tfds:NAME
(prepared in --data_dir), digits, stacked:NAME, toy:NAME. Several processes:
--local_processes=2 to try it here, --distributed on a cluster that says where the
others are, else --coordinator, --num_processes and --process_index.

The same command again goes on from the last checkpoint. Exit codes: 0 done,
1 the run or its data went wrong, 2 the command did, 130 and 143 stopped by Ctrl-C or
SIGTERM (with one more checkpoint if the config writes any).
"""

import contextlib
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


def _fail(message: str, code: int):
  """Ends with one line on stderr."""
  print('error:', ' '.join(message.split()), file=sys.stderr)
  sys.exit(code)


try:
  _CONFIG = config_flags.DEFINE_config_file('config', None, 'Experiment file.')
except flags.Error as error:  # it looks into --flagfile already
  _fail(str(error), 2)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
_MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
_NUM = flags.DEFINE_integer('num_samples', 64, 'Samples drawn by --mode=sample.')
_BEST = flags.DEFINE_bool('best', False, 'Use the best checkpoint, not the newest.')
_DATA = flags.DEFINE_string('data', None, "Data set, in place of the config's.")
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Folder of prepared data sets.')
_MODEL_DEVICES = flags.DEFINE_integer(
  'model_devices', 1, 'Devices that large parameters are split over.'
)
_SPLIT_SEEDS = flags.DEFINE_bool(
  'split_seeds', False, 'Whether devices share the seeds of a run, not the examples.'
)
_LOCAL = flags.DEFINE_integer(
  'local_processes', 1, 'Processes to start on this machine, on CPU.', 1
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Join the processes that the cluster started.'
)
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'host:port of process 0.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'In all.', 1)
_PROCESS = flags.DEFINE_integer('process_index', None, 'Of this process.', 0)
_CACHE = flags.DEFINE_string(
  'compilation_cache',
  os.path.join(os.path.expanduser('~'), '.cache', 'gm_jax'),
  'Folder of compiled programs; empty for none.',
)


def _interrupted(signum, frame):
  """Outside the training loop, which has handlers of its own.

  At once, because an exception may be caught by whatever is being imported; there is
  nothing half-written outside the loop.
  """
  del frame
  print('error: stopped; the same command begins again or goes on', file=sys.stderr)
  sys.stderr.flush()
  os._exit(128 + signum)


def _experiment():
  """The module of the config file, which has more than `get_config`."""
  path = _path(config_flags.get_config_filename(flags.FLAGS['config']))
  spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _path(value: str) -> str:
  """The config's file, without the argument of `get_config` that may follow."""
  return value.rsplit('.py:', 1)[0] + '.py' if '.py:' in value else value


def _parse(argv):
  """Flags; whatever is wrong with them is one line and exit code 2."""
  warnings.filterwarnings('ignore', category=DeprecationWarning)
  warnings.filterwarnings('ignore', module='PIL')  # of damage that does no harm
  sys.stdout.reconfigure(errors='backslashreplace')  # paths may hold any byte
  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, _interrupted)
  for value in (a.split('=', 1)[1] for a in argv if a.startswith('--config=')):
    path = pathlib.Path(_path(value))
    if path.suffix != '.py' or not path.is_file():
      _fail(f'--config={value} is no Python file; --mode=list shows the configs', 2)
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    lines = str(error).strip().splitlines()
    inside = 'Traceback' in str(error)  # of a config file: its last line says what
    _fail(f'{lines[0].split(": ")[0]}: {lines[-1]}' if inside else str(error), 2)
  except SystemExit:
    if any(a.lstrip('-').startswith('help') or a in ('-h', '-?') for a in argv):
      raise
    _fail('the file of --config ends the program; it should define get_config', 2)
  except Exception as error:  # a config file may raise anything
    line = f'in --config or a --config.LEAF: {type(error).__name__}: {error}'
    _fail(line.replace('\\n', ' ').replace('\\', ''), 2)


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
  if any('\ud800' <= letter <= '\udfff' for letter in _WORKDIR.value):
    _fail(f'--workdir={_WORKDIR.value!r} is no UTF-8 text; give it such a name', 2)
  if _LOCAL.value > 1:
    from experiments import processes

    again = [sys.executable, *sys.argv, '--local_processes=1']
    sys.exit(processes.start(again, _LOCAL.value))
  if _DATA.value is not None:
    try:
      _CONFIG.value.data = _DATA.value
    except (AttributeError, KeyError, TypeError):
      _fail('--data is given, but the config has no leaf data', 2)
  _run(_experiment(), _CONFIG.value, _WORKDIR.value)


def _join():
  """Joins the other processes of the run, if there are any."""
  from gm_jax.training import parallel

  given = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS.value
  if any(value is not None for value in given):
    if None in given:
      _fail('--coordinator, --num_processes and --process_index belong together', 2)
  elif _DISTRIBUTED.value:
    given = ()
  else:
    return
  try:
    parallel.initialize(*given)
  except ValueError as error:
    _fail(str(error), 2)


def _run(experiment, config, workdir):
  from gm_jax.data import dataset
  from gm_jax.training import launch, loop, setup
  from gm_jax.training import workdir as workdir_lib

  logging.set_verbosity(logging.WARNING)
  options = setup.Options(_DATA_DIR.value, _MODEL_DEVICES.value, _SPLIT_SEEDS.value)
  given = experiment, config, workdir, options
  _join()
  try:
    if _CACHE.value:
      fonts = os.path.join(_CACHE.value, 'matplotlib')  # else it has its own in ~
      os.environ.setdefault('MPLCONFIGDIR', fonts)
      given_cache = _CACHE.value if flags.FLAGS['compilation_cache'].present else ''
      launch.use_compilation_cache(given_cache)
    if _MODE.value == 'train':
      launch.train(*given)
      print(f'done: {workdir}')
    elif _MODE.value == 'evaluate':
      launch.evaluate(*given, best=_BEST.value)
    else:
      launch.sample(*given, num=_NUM.value, best=_BEST.value)
  except setup.UsageError as error:
    _fail(str(error), 2)
  except (dataset.DataError, workdir_lib.RunError) as error:
    _fail(str(error), 1)
  except workdir_lib.WriteError as error:
    with contextlib.suppress(SystemExit):
      _fail(str(error), 1)
    sys.stderr.flush()
    os._exit(1)  # at once: what waits to be written would fail again, and complain
  except loop.Diverged as error:
    _fail(f'{error}; checkpoints in {workdir} are from before', 1)
  except BrokenPipeError:  # as of `| head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _fail('standard output was closed; the same command goes on', 1)
  except loop.Stopped as error:
    saved = 'the same command goes on from there'
    lost = 'no checkpoint was written (checkpoint_every is 0)'
    _fail(f'{error}; {saved if error.saved else lost}', 128 + error.signum)


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
