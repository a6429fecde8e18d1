"""The notebooks: paired with their sources, free of outputs, and they run."""

import math
import pathlib
import re

import jupyter_client
import jupytext
import nbclient
import nbformat
import pytest
from jupyter_client import kernelspec

FOLDER = pathlib.Path(__file__).parents[1] / 'experiments' / 'notebooks'
SOURCES = sorted(FOLDER.glob('*.py'))
STEPS, SEEDS = 300, 2

each_notebook = pytest.mark.parametrize('source', SOURCES, ids=lambda path: path.stem)


def paired(source):
  return nbformat.read(source.with_suffix('.ipynb'), as_version=4)


def run(notebook, folder):
  """Executes a notebook in a new kernel of this interpreter; returns its text."""
  # With no folder to look in, `python3` is the running interpreter, whatever
  # kernels of that name are installed.
  specs = kernelspec.KernelSpecManager(kernel_dirs=[])
  manager = jupyter_client.AsyncKernelManager(
    kernel_name='python3', kernel_spec_manager=specs
  )
  where = {'metadata': {'path': str(folder)}}
  nbclient.NotebookClient(notebook, km=manager, timeout=600, resources=where).execute()
  outputs = [o for cell in notebook.cells for o in cell.get('outputs', ())]
  pictures = sum('image/png' in o.get('data', {}) for o in outputs)
  return ''.join(o.text for o in outputs if o.output_type == 'stream'), pictures


def test_there_are_notebooks():
  assert SOURCES


@each_notebook
def test_notebook_is_its_source_without_outputs(source):
  text, notebook = jupytext.read(source), paired(source)
  nbformat.validate(notebook)
  cells = [[(c.cell_type, c.source) for c in x.cells] for x in (notebook, text)]
  assert cells[0] == cells[1], f'run jupytext --to ipynb --update {source.name}'
  for metadata in (text.metadata, notebook.metadata):
    assert metadata.jupytext.formats == 'ipynb,py:percent'
    assert metadata.kernelspec.name == 'python3'
  code = [c for c in notebook.cells if c.cell_type == 'code']
  assert not any(c.outputs or c.execution_count for c in code)


@each_notebook
def test_notebook_installs_in_its_first_cell_alone(source):
  code = [c.source for c in paired(source).cells if c.cell_type == 'code']
  assert [i for i, c in enumerate(code) if re.search(r'\bpip\b', c)] == [0]
  assert "if importlib.util.find_spec('gm_jax') is None:" in code[0]


@pytest.mark.slow
def test_mode_collapse_runs(monkeypatch, tmp_path):
  monkeypatch.setenv('MODE_COLLAPSE_STEPS', str(STEPS))
  monkeypatch.setenv('MODE_COLLAPSE_SEEDS', str(SEEDS))
  text, pictures = run(paired(FOLDER / 'mode_collapse.py'), tmp_path)
  assert f'{STEPS} steps of {SEEDS} seeds' in text
  assert pictures == 4  # the curve, the ring, and a picture a method

  error = re.search(r'from the closed form: (\S+)', text)
  assert error and float(error[1]) < 1e-5

  row = r'\n  modes +(.+)\n  high_quality +(.+)\n  reverse_kl +(.+)'
  for name, num in (('data', 1), ('GAN, k = 0', SEEDS), ('unrolled, k = 5', SEEDS)):
    found = re.search(re.escape(name) + row, text)
    assert found, f'no row of {name!r} in {text!r}'
    fields = [
      [float(x) for x in re.findall(r'[\w.]+', part)] for part in found.groups()
    ]
    scores = list(zip(*fields, strict=True))  # the median, and each seed
    assert len(scores) == 1 + num
    for count, fraction, kl in scores:
      assert 0 <= count <= 8 and 0 <= fraction <= 1
      # Infinite where not one sample is of high quality, as after so few steps.
      assert 0 <= kl <= math.log(8) + 1e-3 or kl == math.inf
    assert name != 'data' or (scores[1][0] == 8 and scores[1][1] > 0.97)


@pytest.mark.slow
def test_variational_runs(monkeypatch, tmp_path):
  monkeypatch.setenv('VARIATIONAL_STEPS', '500')
  text, pictures = run(paired(FOLDER / 'variational.py'), tmp_path)
  assert pictures == 4  # the curve, samples, reconstructions, a walk
  steps = [float(t) for t in re.findall(r'test ([\d.]+) nats', text)]
  assert len(steps) == 10 and steps[-1] < 100 < steps[0]
  bounds = [float(n) for n in re.findall(r'(-[\d.]+) nats', text)]
  assert len(bounds) == 3 and bounds[0] < bounds[1]


@pytest.mark.slow
def test_densities_runs(monkeypatch, tmp_path):
  monkeypatch.setenv('DENSITIES_BUDGET', '0.03')
  text, pictures = run(paired(FOLDER / 'densities.py'), tmp_path)
  assert pictures == 4  # densities of the plane, a pixel, learned noise, samples
  number = r'(-?[\d.]+)'

  # Of any parameters: here the flow has hardly been trained.
  integrals = re.search(rf'on a grid: {number}, before training {number}', text)
  assert all(abs(float(n) - 1) < 0.01 for n in integrals.groups())
  entropy = re.search(rf'entropy of the data, on the grid: +{number}', text)
  estimate = re.search(rf'mean of -log p at test points: +{number}', text)
  assert abs(float(entropy[1]) - float(estimate[1])) < 0.03

  bounds = re.findall(rf'(uniform|learned) noise, \d+ draws? +{number} nats', text)
  assert [name for name, _ in bounds] == ['uniform', 'learned'] * 2
  first, second = bounds[:2], bounds[2:]
  assert all(float(a[1]) < float(b[1]) for a, b in zip(first, second, strict=True))

  kinds = dict(re.findall(r'^(\S.*\S) +[\d.]+ \+- [\d.]+ +(nll\w*) ', text, re.M))
  exact = {'independent pixels', 'NADE'}
  assert {name for name, kind in kinds.items() if kind == 'nll'} == exact
  assert sum(kind == 'nll_bound' for kind in kinds.values()) == 5
  assert re.search(r'^GAN +-- +this method has no likelihood', text, re.M)
  assert 'refused: this method gives a density' in text
  without = re.findall(rf'{number} bits without, 8.00 with', text)
  assert [float(bits) for bits in without] == [1, 0, 8]


@pytest.mark.slow
def test_sampling_runs(monkeypatch, tmp_path):
  """The orders, and the moments of in-painting, need no training."""
  monkeypatch.setenv('SAMPLING_BUDGET', '0.02')
  text, pictures = run(paired(FOLDER / 'sampling.py'), tmp_path)
  assert pictures == 4  # the orders, samplers by steps, guidance, in-painting
  orders = re.findall(r'^(\S+)(?: +\S+e-\d+){4} +([\d.]+)$', text, re.M)
  assert [name for name, _ in orders] == ['DDIM', 'Euler', 'Heun', 'DPM-Solver++']
  number = r'([\d.]+)'
  for name, far in (('replacement', 0.4), ('RePaint', 0.05), ('64 particles', 0.03)):
    mean, variance = re.search(rf'{name} +{number} +{number}', text).groups()
    assert abs(float(mean) - 0.9) < far and abs(float(variance) - 0.19) < far
