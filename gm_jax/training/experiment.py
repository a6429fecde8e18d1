"""Experiments by name and by file, and what a run's folder remembers of its own.

An experiment is a config file: a Python module as `training.setup` describes. It is
found by its path, or by its name in a folder of configs.
"""

import ast
import difflib
import importlib.util
import json
import pathlib
import sys
import zlib
from types import ModuleType
from typing import Any

import ml_collections

RECORD = 'run.json'  # beside config.json: which experiment, on what machine's terms


class NotFound(ValueError):
  """No config where one was looked for; one line says what to give instead."""


def find(value: str, folder: pathlib.Path) -> str:
  """The path of a config file, and the argument of `get_config` that may follow.

  Args:
    value: NAME, PATH.py, or either with :ARGUMENT.
    folder: of the configs that have names.

  Returns:
    PATH.py or PATH.py:ARGUMENT.

  Raises:
    NotFound: there is none.
  """
  path, mark, argument = value.partition('.py:')
  if mark:
    path += '.py'
  elif not value.endswith('.py') and not pathlib.Path(value).exists():
    path, mark, argument = value.partition(':')
  named = folder / f'{path}.py'
  if '/' not in path and named.is_file() and named.stem in names(folder):
    path = str(named)
  elif not (path.endswith('.py') and pathlib.Path(path).is_file()):
    near = difflib.get_close_matches(pathlib.Path(path).stem, names(folder), 1, 0.5)
    guess = f'; did you mean {near[0]}?' if near else ''
    raise NotFound(
      f'--config={value} is no Python file and no name of a config{guess}; --mode=list'
      ' shows them'
    )
  return f'{path}:{argument}' if mark else path


def names(folder: pathlib.Path) -> list[str]:
  """Names of the config files in a folder: those that define `get_config`."""
  return [path.stem for path in sorted(folder.glob('*.py')) if _is_config(path)]


def describe(folder: pathlib.Path) -> list[tuple[str, str]]:
  """The configs in a folder: (name, first line of its text)."""
  rows = []
  for name in names(folder):
    tree = ast.parse((folder / f'{name}.py').read_text())
    rows.append((name, (ast.get_docstring(tree) or '').split('\n')[0]))
  return rows


def _is_config(path: pathlib.Path) -> bool:
  body = ast.parse(path.read_text()).body
  return any(getattr(node, 'name', '') == 'get_config' for node in body)


def module(path: str | pathlib.Path) -> ModuleType:
  """Imports a config file, and makes what it imports from `experiments` found."""
  path = pathlib.Path(path).absolute()
  root = next((p.parent for p in path.parents if p.name == 'experiments'), None)
  if root and str(root) not in sys.path:
    sys.path.insert(0, str(root))
  # A name of its own, by the whole path; dataclasses look their module up by it.
  name = f'config_{zlib.crc32(str(path).encode()):08x}_{path.stem}'
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise NotFound(f'{path} is no Python file')
  made = importlib.util.module_from_spec(spec)
  sys.modules[name] = made
  try:
    spec.loader.exec_module(made)
  except BaseException:
    del sys.modules[name]
    raise
  return made


def record(experiment: Any, options: Any, data: Any) -> dict:
  """The record that a run's folder holds beside its config.

  Args:
    experiment: its module.
    options: of the machine.
    data: its `Dataset`, whose fingerprint a resumed run compares.
  """
  path = getattr(experiment, '__file__', None)
  return {
    'experiment': path and str(pathlib.Path(path).absolute()),
    'options': options._asdict(),
    'data': data.fingerprint,
  }


def recorded(workdir: pathlib.Path) -> tuple[dict, ml_collections.ConfigDict] | None:
  """The record and the config of a run's folder, or None where there is none.

  Raises:
    NotFound: a file of these is damaged.
  """
  try:
    if not (workdir / RECORD).is_file() or not (workdir / 'config.json').is_file():
      return None
    found = json.loads((workdir / RECORD).read_text())
    leaves = json.loads((workdir / 'config.json').read_text())
    options, path = dict(found['options']), found['experiment']
    if not isinstance(path, str | None) or not isinstance(leaves, dict):
      raise ValueError('not the record of a run')
  except OSError as error:
    raise NotFound(f'cannot read {error.filename}: {error.strerror}') from error
  except (ValueError, KeyError, TypeError) as error:
    raise NotFound(
      f'{workdir / RECORD} or config.json is damaged ({error}); give --config and the'
      ' leaves of the run again'
    ) from error
  config = ml_collections.ConfigDict(
    {k: tuple(v) if isinstance(v, list) else v for k, v in leaves.items()}
  )
  known = {'experiment': path, 'options': options, 'data': found.get('data')}
  return known, config


def recorded_path(workdir: pathlib.Path, path: str | None, folder: pathlib.Path) -> str:
  """Where the config file of a run is now: at its path, or among the configs.

  Raises:
    NotFound: in neither place.
  """
  if path and pathlib.Path(path).is_file():
    return path
  named = folder / pathlib.Path(path or '').name
  if path and named.is_file():
    return str(named)
  raise NotFound(
    f'the config file of {workdir}, {path}, is gone; give it again as --config'
  )
