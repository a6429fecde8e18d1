"""Trains, evaluates and samples models.

  python experiments/main.py --mode=list
  python experiments/main.py --config=unrolled_gan_ring --workdir=runs/ring \
      [--config.LEAF=VALUE ...]
  python experiments/main.py --workdir=runs/ring --mode=evaluate \
      [--metrics=frechet,prdc,kernel --features=pixels|classifier|inception:FILE]
  python experiments/main.py --workdir=runs/ring --mode=sample [--num_samples=64] \
      [--condition=WORDS] [--options=NAME=VALUE,...] [--averaged=false]

  python experiments/main.py --workdir=runs/faces --mode=translate --condition=serif \
      [--images=folder:PATH|npz:PATH]
  python experiments/main.py --workdir=runs/edm --mode=inpaint \
      --options=mask=center,inpainter=particles [--images=folder:PATH|npz:PATH]

A config is named as --mode=list names it, or by the path of its file, with :ARGUMENT
where it takes one. The workdir remembers its config: to go on, to evaluate and to
sample, it is enough. --mode=card says what a model is and which options it has.

Another data set than the config's: --data=npz:PATH, folder:PATH, text:PATH, tfds:NAME
(prepared in --data_dir), digits, stacked:NAME, toy:NAME. Several processes:
--local_processes=2 to try it here, --distributed on a cluster that says where the
others are, else --coordinator, --num_processes and --process_index.

The same command again goes on from the last checkpoint. Exit codes: 0 done,
1 the run or its data went wrong, 2 the command did, 130 and 143 stopped by Ctrl-C or
SIGTERM (with one more checkpoint if the config writes any).
"""

import contextlib
import difflib
import functools
import logging as python_logging
import os
import pathlib
import signal
import sys
import threading
import warnings

from absl import app, flags, logging
from ml_collections import config_flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # configs import one another as experiments.configs

from experiments import processes  # noqa: E402

CONFIGS = ROOT / 'experiments' / 'configs'
SOON = 3.0  # seconds of waiting that nothing is said of
_RECORD = [None]  # what the workdir remembers, where no config is named


def _fail(message: str, code: int):
  """Ends with one line on stderr."""
  print('error:', ' '.join(message.split()), file=sys.stderr, flush=True)
  if code < 128:  # what is stopped by a signal waits until the first has saved
    processes.end_soon(code)
  sys.exit(code)


def _fail_at_once(message: str, code: int):
  """The same where the usual end would wait for others, or fail and complain."""
  with contextlib.suppress(SystemExit):
    _fail(message, code)
  os._exit(code)


def _output_failed(error: OSError):
  """Ends where the standard output is closed, cut as by `| head`, or full."""
  if error.filename is not None:  # something else, which nothing before expected
    _fail(f'{error.filename}: {error.strerror}', 1)
  with contextlib.suppress(OSError, ValueError):  # what waits would fail again
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  cut = isinstance(error, BrokenPipeError)
  why = 'was closed' if cut else f'cannot be written: {error.strerror or error}'
  _fail(f'standard output {why}; the same command goes on', 1)


_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
_MODE = flags.DEFINE_string(
  'mode', 'train', 'train, evaluate, sample, card, list, or the name of a task.'
)
_NUM = flags.DEFINE_integer('num_samples', 64, 'Samples drawn by --mode=sample.')
_BEST = flags.DEFINE_bool('best', False, 'Use the best checkpoint, not the newest.')
_AVERAGED = flags.DEFINE_bool(
  'averaged', True, 'Use the averaged weights, where the run has them.'
)
_CONDITION = flags.DEFINE_multi_string(
  'condition',
  [],
  'What samples are conditioned on: a class, numbers, a text, a .npy or .npz file.',
)
_OPTIONS = flags.DEFINE_list(
  'options', [], 'Options of sampling, queries and tasks: NAME=VALUE,NAME=VALUE.'
)
_METRICS = flags.DEFINE_list(
  'metrics', [], 'Image metrics that --mode=evaluate computes: frechet,prdc,kernel,...'
)
_IMAGES = flags.DEFINE_string(
  'images', '', "Images that a task is given, in place of the run's data: folder:PATH."
)
_FEATURES = flags.DEFINE_string(
  'features', '', 'In which they are: pixels, classifier, or inception:FILE.'
)
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
_TIMEOUT = flags.DEFINE_integer(
  'coordinator_timeout', 300, 'Seconds to wait for the other processes.', 1
)
_CACHE = flags.DEFINE_string(
  'compilation_cache', None, 'Folder of compiled programs; empty for none.'
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


def _value(argv, name):
  """A flag's value as it stands in argv, before flags are parsed; None without."""
  values = [a.split('=', 1)[1] for a in argv if a.lstrip('-').startswith(f'{name}=')]
  return values[-1] if values else None


def _define_config(argv):
  """Defines --config: a file, found by its name, or what the workdir remembers.

  Returns:
    argv with names replaced by paths, and the record of the workdir or None.
  """
  from gm_jax.training import experiment as experiment_lib

  if '--config' in argv[:-1]:  # as --config NAME
    at = argv.index('--config')
    argv = [*argv[:at], f'--config={argv[at + 1]}', *argv[at + 2 :]]
  chosen, workdir = _value(argv, 'config'), _value(argv, 'workdir')
  if chosen is None and workdir:
    found = experiment_lib.recorded(pathlib.Path(workdir))
    if found:
      config_flags.DEFINE_config_dict('config', found[1], sys_argv=argv)
      path = found[0]['experiment']
      found[0]['experiment'] = experiment_lib.recorded_path(workdir, path, CONFIGS)
      return argv, found[0]
  if chosen is not None:
    path = experiment_lib.find(chosen, CONFIGS)
    argv = [f'--config={path}' if a == f'--config={chosen}' else a for a in argv]
  config_flags.DEFINE_config_file('config', None, 'Experiment.', sys_argv=argv)
  return argv, None


def _parse(argv):
  """Flags; whatever is wrong with them is one line and exit code 2."""
  warnings.filterwarnings('ignore', category=DeprecationWarning)
  warnings.filterwarnings('ignore', module='PIL')  # of damage that does no harm
  if sys.stdout is None:  # closed by who started this
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115
  sys.stdout.reconfigure(errors='backslashreplace')  # paths may hold any byte
  os.environ['MPLBACKEND'] = 'agg'  # pictures are files, whatever a notebook says
  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, _interrupted)
  from gm_jax.training import experiment as experiment_lib

  try:
    argv, _RECORD[0] = _define_config(argv)
    return flags.FLAGS(argv)
  except experiment_lib.NotFound as error:
    _fail(str(error), 2)
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
  try:
    _main(argv)
    sys.stdout.flush()  # here, where what fails can be told
  except OSError as error:  # all else that is written has errors of its own
    _output_failed(error)


def _main(argv):
  if len(argv) > 1:
    _fail(f'unknown argument {argv[1]!r}; flags begin with --', 2)
  if _MODE.value == 'list':
    from gm_jax.training import experiment as experiment_lib

    for name, line in experiment_lib.describe(CONFIGS):
      print(f'{name:<32} {line}')
    return
  config = flags.FLAGS['config'].value
  if config is None:
    _fail('--config is missing; --mode=list shows the configs', 2)
  if not _WORKDIR.value and _MODE.value != 'card':
    _fail('--workdir is missing: the folder that the run is kept in', 2)
  if any('\ud800' <= letter <= '\udfff' for letter in _WORKDIR.value or ''):
    _fail(f'--workdir={_WORKDIR.value!r} is no UTF-8 text; give it such a name', 2)
  again = [sys.executable, *sys.argv]
  if _LOCAL.value > 1:
    sys.exit(processes.start([*again, '--local_processes=1'], _LOCAL.value))
  if processes.STARTER in os.environ:
    processes.end_with_starter()
  elif _DISTRIBUTED.value or _address():
    sys.exit(processes.watch([again]))
  if _DATA.value is not None:
    try:
      config.data = _DATA.value
    except (AttributeError, KeyError, TypeError):
      _fail('--data is given, but the config has no leaf data', 2)
  _run(config, _WORKDIR.value)


def _experiment():
  """The module of the config file, which has more than `get_config`."""
  from gm_jax.training import experiment as experiment_lib

  if _RECORD[0] is not None:
    return experiment_lib.module(_RECORD[0]['experiment'])
  path = config_flags.get_config_filename(flags.FLAGS['config'])
  return experiment_lib.module(path.partition('.py:')[0].removesuffix('.py') + '.py')


def _machine(setup):
  """What depends on the machine: flags, and what they leave out as the run had it."""
  chosen = {
    'data_dir': _DATA_DIR, 'model_devices': _MODEL_DEVICES, 'split_seeds': _SPLIT_SEEDS
  }  # fmt: skip
  recorded = _RECORD[0]['options'] if _RECORD[0] else {}
  return setup.Options(**{
    name: flag.value if flags.FLAGS[name].present else recorded.get(name, flag.value)
    for name, flag in chosen.items()
  })  # fmt: skip


def _request(launch, inference):
  """What is asked of a trained model."""
  options = {}
  for item in _OPTIONS.value:
    name, equals, value = item.partition('=')
    if not equals or not name:
      _fail(f'--options={item!r} must be NAME=VALUE, several with commas between', 2)
    options[name] = value
  drawing = inference.Drawing(tuple(_CONDITION.value), options, _AVERAGED.value)
  chosen = tuple(_METRICS.value), _FEATURES.value
  if any(chosen) and _MODE.value != 'evaluate':
    _fail('--metrics and --features are of --mode=evaluate', 2)
  if _IMAGES.value and _MODE.value not in launch.TASKS:
    _fail(f'--images is of a task: {", ".join(launch.TASKS)}', 2)
  return launch.Request(_NUM.value, _BEST.value, drawing, *chosen, _IMAGES.value)


def _address():
  """The flags that say where the other processes are; None where none is given."""
  found = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS.value
  return None if found == (None, None, None) else found


def _join():
  """Joins the other processes of the run, if there are any."""
  from gm_jax.training import parallel

  address, limit = _address() or (), _TIMEOUT.value
  if None in address:
    _fail('--coordinator, --num_processes and --process_index belong together', 2)
  if not address and not _DISTRIBUTED.value:
    return
  others = f'process 0 at {address[0]}' if any(address[2:]) else 'the other processes'

  def give_up():
    _fail_at_once(
      f'waited {limit} s for {others}: start all of them with the same --coordinator,'
      ' or wait longer by --coordinator_timeout',
      1,
    )

  text = f'waiting for {others}, at most {limit} s'
  say = functools.partial(print, text, file=sys.stderr, flush=True)
  timers = threading.Timer(SOON, say), threading.Timer(limit, give_up)
  for timer in timers:
    timer.daemon = True
    timer.start()
  try:
    parallel.initialize(*address, timeout=limit + 60)  # jax's own would come later
  except ValueError as error:
    _fail(str(error), 2)
  finally:
    for timer in timers:
      timer.cancel()


def _run(config, workdir):
  from gm_jax import caches
  from gm_jax.data import dataset
  from gm_jax.training import inference, launch, loop, parallel, setup
  from gm_jax.training import workdir as workdir_lib

  logging.set_verbosity(logging.WARNING)
  # Of a config's function that a compiled program calls, a traceback beside our line.
  python_logging.getLogger('jax._src.callback').disabled = True
  mode, known = _MODE.value, [*launch.MODES, 'list']
  if mode not in known:
    near = difflib.get_close_matches(mode, known, 1, 0)[0]
    _fail(f'no mode {mode!r}; did you mean {near}? One of: {", ".join(known)}', 2)
  request = _request(launch, inference)
  try:
    experiment = _experiment()
  except Exception as error:  # a config file may raise anything
    _fail(f'in the config file: {type(error).__name__}: {error}', 2)
  _join()
  try:
    if _CACHE.value == '':
      launch.use_no_compilation_cache()
    else:
      fonts = _CACHE.value or caches.folder()  # else Matplotlib has its own in ~
      if fonts:
        os.environ.setdefault('MPLCONFIGDIR', os.path.join(fonts, 'matplotlib'))
      launch.use_compilation_cache(_CACHE.value or '')
    launch.MODES[mode](experiment, config, workdir, _machine(setup), request)
    if mode == 'train':
      print(f'done: {workdir}')
  except setup.UsageError as error:
    _fail(str(error), 2)
  except (dataset.DataError, workdir_lib.RunError) as error:
    _fail(str(error), 1)
  except workdir_lib.WriteError as error:
    _fail_at_once(str(error), 1)  # what waits to be written would fail again
  except loop.Diverged as error:
    _fail(f'{error}; checkpoints in {workdir} are from before', 1)
  except loop.Failed as error:
    kept = 'the same command goes on from the last checkpoint'
    _fail(f'{error}; {kept if config.checkpoint_every else "none was written"}', 1)
  except loop.Stopped as error:
    saved = 'the same command goes on from there'
    lost = 'no checkpoint was written (checkpoint_every is 0)'
    _fail(f'{error}; {saved if error.saved else lost}', 128 + error.signum)
  except OSError:
    raise  # of the standard output
  except Exception as error:  # of a config's functions, while they run
    if parallel.others_gone(error):
      _fail_at_once(processes.GONE, 1)
    _fail(setup.describe_error(error, experiment), 1)


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
