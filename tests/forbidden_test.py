"""What the code never does: run what a file says, start a shell, call the network.

The code is read, not run. The few places that may do one of these things are named in
ALLOWED, and each of them must be in use, so that the list stays short.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(
  path.relative_to(ROOT).as_posix()
  for folder in ('gm_jax', 'experiments')
  for path in (ROOT / folder).rglob('*.py')
)

MODULES = {
  # what unpacks objects, and with them code
  'pickle', 'cPickle', '_pickle', 'cloudpickle', 'dill', 'joblib', 'marshal', 'shelve',
  # what starts processes or loads machine code
  'subprocess', 'pty', 'ctypes', 'multiprocessing', 'runpy', 'code', 'builtins',
  # what calls the network
  'socket', 'socketserver', 'ssl', 'urllib', 'urllib2', 'urllib3', 'requests', 'http',
  'httpx', 'aiohttp', 'ftplib', 'smtplib', 'telnetlib', 'xmlrpc', 'wget', 'gdown',
}  # fmt: skip
BUILTINS = {'eval', 'exec', 'compile', '__import__', '__builtins__'}
# Full names, and what they begin with.
CALLS = {
  'os.system', 'os.popen', 'os.exec', 'os.spawn', 'os.posix_spawn', 'os.fork',
  'os.startfile', 'importlib.import_module', 'importlib.reload', 'torch.load',
  'torch.hub', 'yaml.load', 'yaml.unsafe', 'jax.distributed.initialize',
  'pandas.read_pickle', 'webbrowser.open',
}  # fmt: skip
# Methods, of whatever object.
METHODS = {
  'exec_module', 'load_module', 'urlopen', 'urlretrieve', 'download_and_prepare',
  'fetch_openml',
}  # fmt: skip
ARRAYS = ('numpy.load', 'numpy.lib.format.read_array', 'numpy.memmap')

ALLOWED = {
  ('gm_jax/training/parallel.py', 'jax.distributed.initialize'),
  ('gm_jax/data/tfds.py', '.download_and_prepare'),
  ('gm_jax/training/experiment.py', '.exec_module'),  # the config file, which is code
  ('experiments/processes.py', 'socket'),
  ('experiments/processes.py', 'subprocess'),
  *(
    (f'experiments/notebooks/{name}.py', 'subprocess')  # pip, on Colab alone
    for name in ('densities', 'mode_collapse', 'sampling', 'variational')
  ),
}


def _aliases(tree):
  """Local name -> full name, of what is imported."""
  names = {}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        top = alias.name.split('.')[0]
        names[alias.asname or top] = alias.name if alias.asname else top
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        names[alias.asname or alias.name] = f'{node.module}.{alias.name}'
  return names


def _full(node, names):
  """The full dotted name that an expression stands for, or None."""
  if isinstance(node, ast.Name):
    return names.get(node.id, node.id)
  if isinstance(node, ast.Attribute):
    inner = _full(node.value, names)
    return inner and f'{inner}.{node.attr}'
  return None


def _of_call(node, names):
  keywords = {keyword.arg: keyword.value for keyword in node.keywords}
  shell = keywords.get('shell')
  if shell is not None and not (isinstance(shell, ast.Constant) and not shell.value):
    yield 'shell='
  pickles = keywords.get('allow_pickle')
  said = 'allow_pickle' in keywords
  if said and not (isinstance(pickles, ast.Constant) and pickles.value is False):
    yield 'allow_pickle'
  if _full(node.func, names) in ARRAYS and not said:
    yield 'allow_pickle'


def forbidden(source):
  """What stands in some code that should not, as names with their lines."""
  tree = ast.parse(source)
  names = _aliases(tree)
  for node in ast.walk(tree):
    found = []
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      modules = [getattr(node, 'module', None), *(a.name for a in node.names)]
      modules = modules[:1] if isinstance(node, ast.ImportFrom) else modules[1:]
      found += {m.split('.')[0] for m in modules if m} & MODULES
    if isinstance(node, (ast.Name, ast.Attribute)):
      full = _full(node, names) or ''
      found += [call for call in CALLS if full.startswith(call)]
      if full.split('.')[0] in BUILTINS:
        found.append(full.split('.')[0])
    if isinstance(node, ast.Attribute) and node.attr in METHODS:
      found.append(f'.{node.attr}')
    if isinstance(node, ast.Call):
      found += _of_call(node, names)
    yield from ((name, node.lineno) for name in found)


@pytest.mark.parametrize('file', FILES)
def test_nothing_forbidden(file):
  found = forbidden((ROOT / file).read_text())
  assert not [(name, line) for name, line in found if (file, name) not in ALLOWED]


def test_every_exception_is_in_use():
  found = {
    (file, name) for file in FILES for name, _ in forbidden((ROOT / file).read_text())
  }
  assert found >= ALLOWED


SAMPLES = [
  *((f'import {module}', module) for module in sorted(MODULES)),
  ('import pickle as p', 'pickle'),
  ('def f():\n  from urllib.request import urlopen', 'urllib'),
  ('import http.client', 'http'),
  ('from multiprocessing import Pool', 'multiprocessing'),
  ('eval("1")', 'eval'),
  ('f = exec', 'exec'),
  ('compile("1", "", "eval")', 'compile'),
  ('__import__("os")', '__import__'),
  ('__builtins__["eval"]("1")', '__builtins__'),
  ('import os\nos.system("ls")', 'os.system'),
  ('import os as o\no.popen("ls")', 'os.popen'),
  ('from os import execv\nexecv("ls", [])', 'os.exec'),
  ('from os import system as s\ns("ls")', 'os.system'),
  ('import os\nos.fork()', 'os.fork'),
  ('run("ls", shell=True)', 'shell='),
  ('run("ls", shell=flag)', 'shell='),
  ('import numpy as np\nnp.load("x")', 'allow_pickle'),
  ('import numpy as np\nnp.load("x", allow_pickle=True)', 'allow_pickle'),
  ('import numpy as np\nnp.load("x", allow_pickle=flag)', 'allow_pickle'),
  ('from numpy import load\nload("x")', 'allow_pickle'),
  ('import numpy as np\nnp.lib.format.read_array(f)', 'allow_pickle'),
  ('import torch\ntorch.load("x")', 'torch.load'),
  ('import torch as t\nt.hub.load("x", "y")', 'torch.hub'),
  ('import yaml\nyaml.load("x")', 'yaml.load'),
  ('import importlib\nimportlib.import_module("x")', 'importlib.import_module'),
  ('loader.exec_module(m)', '.exec_module'),
  ('import jax\njax.distributed.initialize()', 'jax.distributed.initialize'),
  ('builder.download_and_prepare()', '.download_and_prepare'),
  ('datasets.fetch_openml("mnist")', '.fetch_openml'),
]


@pytest.mark.parametrize(('code', 'name'), SAMPLES, ids=[code for code, _ in SAMPLES])
def test_the_reader_finds_each_forbidden_thing(code, name):
  assert name in {found for found, _ in forbidden(code)}


@pytest.mark.parametrize(
  'code',
  [
    'jax.jit(f).lower(x).compile()',
    'model.eval()',
    'import numpy as np\nnp.load("x", allow_pickle=False)',
    'run(["ls"], shell=False)',
    'import yaml\nyaml.safe_load("x")',
    'import importlib.metadata\nimportlib.metadata.version("jax")',
    'import os\nos.path.exists("x")',
    'jax.ensure_compile_time_eval()',
  ],
)
def test_the_reader_lets_the_rest_pass(code):
  assert not list(forbidden(code))
