"""What the README shows runs as it stands there."""

import pathlib
import re
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / 'README.md').read_text()


def test_python_of_the_readme_runs():
  blocks = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)
  assert len(blocks) == 4
  names: dict = {}
  for block in blocks:
    exec(compile(block, 'README.md', 'exec'), names)
  softplus = np.log1p(np.exp([1.0, -0.3]))  # -log sigmoid of the fake logits
  np.testing.assert_allclose(names['generator_loss'], softplus.mean(), rtol=1e-6)
  np.testing.assert_allclose(names['nats'], 1 + np.log(10 / (np.e + 9)), rtol=1e-6)
  kernel = sum(np.exp(-2 / (2 * s**2)) for s in (0.5, 1.0, 2.0))  # at distance root 2
  np.testing.assert_allclose(names['mmd2'], 2 * (3 - kernel), rtol=1e-5)
  np.testing.assert_allclose(names['bits'], 8, rtol=1e-6)
  assert names['state'].step == 1


def test_the_table_of_methods_is_that_of_cards_and_configs():
  sys.path.insert(0, str(ROOT))
  from experiments import methods_table

  rows = methods_table.rows()
  files = {p.stem for p in (ROOT / 'gm_jax' / 'methods').glob('*.py')} - {'__init__'}
  assert [re.match(r'\[(\w+)\]', row[2])[1] for row in rows] == sorted(files)
  assert methods_table.render(TEXT) == TEXT
  by_file = {re.match(r'\[(\w+)\]', row[2])[1]: row for row in rows}
  assert by_file['made'][4:6] == ['exact, one pass', 'exact, per dimension']
  assert by_file['gan'][4:6] == ['none', 'exact, one pass']


def test_files_that_the_readme_names_are_there():
  for link in re.findall(r'\]\(([^)#]+)\)', TEXT):
    assert (ROOT / link).exists(), link
  for path in re.findall(r'(?:experiments|docs)/[\w/]+\.\w+', TEXT):
    assert (ROOT / path).exists(), path
