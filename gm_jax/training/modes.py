"""The launcher's modes that use a trained model: scores, samples, card, tasks."""

import contextlib
import inspect
import io
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gm_jax import base, statistics
from gm_jax.training import (
  conditioning,
  inference,
  log,
  own_images,
  parallel,
  pictures,
  trained,
)
from gm_jax.training import options as options_lib
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib
from gm_jax.training import workdir as workdir_lib

DEFAULT = setup_lib.DEFAULT


class Request(NamedTuple):
  """A request to the modes that use a trained model.

  num: of samples.
  best: the checkpoint that was best by the config's metric, not the newest.
  drawing: conditions, options, and which weights.
  metrics: names of image metrics that `evaluate` computes in place of the config's own.
  features: in which these are measured.
  images: name of a data set whose images a task is given, in place of the run's data.
  """

  num: int = 64
  best: bool = False
  drawing: inference.Drawing = inference.PLAIN
  metrics: Sequence[str] = ()
  features: str = ''
  images: str = ''


PLAIN = Request()
EVALUATED = 2000  # examples of a split that a task is given, at most


def evaluate(
  experiment: Any,
  config: Any,
  workdir: str | pathlib.Path,
  options: setup_lib.Options = DEFAULT,
  request: Request = PLAIN,
) -> dict[str, np.ndarray]:
  """Scores a trained model; prints mean, standard error over seeds, and kind.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of a run that has a checkpoint.
    options: what depends on the machine.
    request: which checkpoint and weights, and options of sampling.

  Returns:
    Scores by name, [S] over seeds; also written to `evaluation.json`.

  Raises:
    setup.UsageError: no checkpoint, or an experiment without evaluation.
    RunError: checkpoints are damaged.
  """
  setup = setup_lib.prepare(experiment, config, options, evaluates=True)
  if setup.evaluation is None:
    raise setup_lib.UsageError('this experiment has no make_evaluation')
  phase, state = _last_phase(setup, config, workdir, request)
  with _usage():
    values, kinds = inference.scorer(setup, phase, request.drawing)(state)
  _report(setup, workdir, 'evaluation', state, values, kinds, request)
  return values


def sample(
  experiment: Any,
  config: Any,
  workdir: str | pathlib.Path,
  options: setup_lib.Options = DEFAULT,
  request: Request = PLAIN,
) -> np.ndarray:
  """Draws from a trained model into `samples.npz`, and a picture of some.

  The samples are as the data are: pixels in their levels, points as they come.

  Args:
    experiment: a module as this module's text describes.
    config: its ConfigDict.
    workdir: of a run that has a checkpoint.
    options: what depends on the machine.
    request: how many, for what condition, with what options and weights.

  Returns:
    [num, ...]; with a leading axis of seeds where there are several.

  Raises:
    setup.UsageError: no checkpoint, num < 1, more than memory can hold, or a
      condition or option that the model has not.
    RunError: checkpoints are damaged.
  """
  num, drawing = request.num, request.drawing
  if num < 1:
    raise setup_lib.UsageError(f'num_samples must be at least 1, got {num}')
  setup = setup_lib.prepare(experiment, config, options, evaluates=False)
  setup_lib.check_memory(setup, num, f'num_samples = {num}')
  workdir = pathlib.Path(workdir)
  phase, state = trained.restored(setup, config, workdir, request.best)
  if phase.method.sample is None:
    raise setup_lib.UsageError(
      f'at step {int(state.step)} the model has no samples: train a later phase'
    )
  with _usage():
    samples = inference.drawer(setup, phase, num, drawing)(state)
    paint = pictures.painter(setup, phase, drawing)
  with workdir_lib.writing(workdir / 'samples.npz'):
    with log.replacing(workdir / 'samples.npz') as temporary:
      temporary.write_bytes(
        _npz({'x': samples, 'request': json.dumps(_asked(request))})
      )
    paint(workdir / 'samples.png', state)
  print(workdir / 'samples.npz')
  print(workdir / 'samples.png')
  one = samples if setup.settings.num_seeds == 1 else samples[0]
  for text in pictures.texts(setup, one[: pictures.TEXTS]):
    print(f'---\n{text}')
  return samples


def card(
  experiment: Any,
  config: Any,
  workdir: str | pathlib.Path | None = None,
  options: setup_lib.Options = DEFAULT,
  request: Request = PLAIN,
) -> base.Card:
  """Prints what a config's method is: its card, its queries and options."""
  del workdir, request
  setup = setup_lib.prepare(experiment, config, options, evaluates=False)
  for phase in setup.make_phases(0):
    for name, value in phase.method.card._asdict().items():
      text = ', '.join(value) if isinstance(value, tuple) else value
      print(f'{name:<16} {text or "none"}')
    print(f'{"queries":<16} {", ".join(sorted(phase.method.queries)) or "none"}')
    known = options_lib.method_options(phase.method)
    print(
      f'{"options":<16} {", ".join(f"{k}={v}" for k, v in known.items()) or "none"}'
    )
  return phase.method.card


def task_mode(task: Callable, name: str, examples: int = EVALUATED) -> Callable:
  """The mode of a task: numbers into NAME.json, arrays into NAME.npz, a grid's picture.

  Args:
    task: as `gm_jax.tasks` describes; its options are its keyword-only arguments.
    name: of the mode.
    examples: of a split that the task is given, at most.

  Returns:
    A function like `evaluate`.
  """

  def run(experiment, config, workdir, options=DEFAULT, request=PLAIN):
    setup = setup_lib.prepare(experiment, config, options, evaluates=False)
    phase, state = _last_phase(setup, config, workdir, request)
    if request.images:
      arrays = {
        'test': own_images.load(
          request.images, options.data_dir, setup.data.spec.num_levels
        )
      }
    else:
      arrays = {split: setup.data.arrays(split, examples) for split in _splits(setup)}
    with _usage():
      method, own = _split_options(task, phase.method, request.drawing.options)
      if 'condition' in inspect.signature(task).parameters:
        words = request.drawing.condition
        own['condition'] = conditioning.of_task(name, method.card, setup.data, words)
      if 'mask' in own:
        own['mask'] = own_images.mask(own['mask'])
      found = [
        task(method, model, key, arrays, phase.spec, **own)
        for model, key in _every_seed(setup, state, request)
      ]
    numbers = [setup_lib.numbers(one) for one in found]
    values = {k: np.asarray([one[k] for one in numbers]) for k in numbers[0]}
    kinds = {k: kind for k, (_, kind) in found[0].values.items()}
    if found[0].arrays:
      path = pathlib.Path(workdir) / f'{name}.npz'
      stacked = jax.tree.map(lambda *xs: np.stack(xs), *(dict(f.arrays) for f in found))
      with workdir_lib.writing(path), log.replacing(path) as temporary:
        temporary.write_bytes(_npz(stacked))
      print(path)
      if pictures.GRID in found[0].arrays:
        with workdir_lib.writing(path):
          pictures.grid(setup, path.with_suffix('.png'), found[0].arrays[pictures.GRID])
        print(path.with_suffix('.png'))
      if pictures.OUTPUTS in found[0].arrays:
        folder = path.with_suffix('')
        with workdir_lib.writing(folder):
          pictures.files(setup, folder, found[0].arrays[pictures.OUTPUTS])
        print(folder)
    _report(setup, workdir, name, state, values, kinds, request)
    return values

  return run


def _npz(arrays) -> bytes:
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  return buffer.getvalue()


def _every_seed(setup, state, request):
  """(model, key) of every seed, the keys those of evaluations."""
  models = step_lib.model(parallel.fetch(state), averaged=request.drawing.averaged)
  models = jax.device_put(models)  # a tracer cannot index an array of numpy
  for index in range(setup.settings.num_seeds):
    root_key = jax.random.key(setup.settings.seed + index)
    many = setup.settings.num_seeds > 1
    model = jax.tree.map(lambda x, i=index: x[i], models) if many else models
    yield model, step_lib.streams(root_key).inference


def _last_phase(setup, config, workdir, request) -> tuple[base.Phase, base.State]:
  """The last phase, which is what is evaluated, and a state in it."""
  workdir = pathlib.Path(workdir)
  phase, state = trained.restored(setup, config, workdir, request.best)
  phases = setup.make_phases(0)
  if len(phases) > 1 and state.step <= phases[-2].until:
    raise setup_lib.UsageError(
      f'step {int(state.step)} is not in the last phase, after {phases[-2].until},'
      ' which is what is evaluated: train on'
    )
  return phase, state


def _splits(setup) -> list[str]:
  """The splits that the data have, of those that tasks are given."""
  found = []
  for split in ('train', 'validation', 'test', 'held_out'):
    with contextlib.suppress(ValueError):
      setup.data.arrays(split, 1)
      found.append(split)
  return found


def _split_options(task, method, asked) -> tuple[base.Method, dict]:
  """The method with its own options set, and those of the task."""
  own = options_lib.keywords(task)
  options_lib.check(asked, {**own, **options_lib.method_options(method)})
  for_task = {k: options_lib.read(k, v, own[k]) for k, v in asked.items() if k in own}
  rest = {k: v for k, v in asked.items() if k not in own}
  return options_lib.with_options(method, rest), for_task


@contextlib.contextmanager
def _usage():
  """Raises UsageError for a condition, an option or a model that does not fit."""
  try:
    yield
  except (ValueError, TypeError) as error:  # the latter of an option's text
    raise setup_lib.UsageError(' '.join(str(error).split())) from error


def _asked(request) -> dict:
  """The part of a request that is recorded with its output: all but defaults."""
  drawing = request.drawing
  found = {'options': dict(drawing.options), 'condition': list(drawing.condition)}
  found |= {'averaged': drawing.averaged, 'best': request.best}
  found |= {'metrics': list(request.metrics), 'features': request.features}
  found['images'] = request.images
  plain = {'options': {}, 'condition': [], 'averaged': True, 'best': False}
  plain |= {'metrics': [], 'features': '', 'images': ''}
  return {k: v for k, v in found.items() if v != plain[k]}


def _report(setup, workdir, name, state, values, kinds, request) -> None:
  """Writes numbers into NAME.json, with their kinds and what was asked; prints them."""
  record = {
    k: [float(x) if np.isfinite(x) else None for x in np.atleast_1d(v)]
    for k, v in values.items()
  }
  asked = _asked(request)
  more = ({'kinds': kinds} if kinds else {}) | ({'request': asked} if asked else {})
  path = pathlib.Path(workdir) / f'{name}.json'
  with workdir_lib.writing(path):
    content = {'step': int(state.step), **record, **more}
    path.write_text(json.dumps(content, indent=2) + '\n')
  print(f'step {int(state.step)}, {setup.settings.num_seeds} seed(s)')
  for key, value in values.items():
    kind = f'  [{kinds[key]}]' if key in kinds else ''
    print(f'  {key:<24} {_mean_and_error(value)}{kind}')


def flat(metrics: Mapping) -> dict[str, float]:
  """Means, and beside them standard errors where there are several seeds."""
  found = {}
  for name, values in metrics.items():
    mean, error = statistics.mean_and_error(np.asarray(values), axis=None)
    found[name] = float(mean)
    if np.size(values) > 1:
      found[f'{name}_se'] = float(error)
  return found


def _mean_and_error(value: np.ndarray) -> str:
  mean, error = statistics.mean_and_error(np.asarray(value), axis=None)
  if np.size(value) == 1:
    return statistics.text(mean, form='.6g')
  return f'{mean:.6g} +- {error:.2g} (standard error)'
