"""The pages of docs/results are their JSON files, and every command has a page."""

import ast
import json
import pathlib
import re
import subprocess
import sys

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments import results  # noqa: E402
from experiments.bench import (  # noqa: E402
  autoregressive,
  data,
  diffusion_speed,
  energy_speed,
  flow_speed,
  latent,
  metrics,
  steps,
  unroll,
)
from experiments.ledger import (  # noqa: E402
  aae_against_vae,
  conditional_gans,
  dcgan_features,
  decoders,
  diffusion,
  energy,
  f_gan_gaussian,
  flows,
  growth,
  guidance,
  infogan_mi,
  inpainting,
  kernels,
  likelihoods,
  mode_collapse,
  outliers,
  stacked,
  text_to_image,
  theory,
  translation,
  unrolling,
  variational,
  variational_inference,
  vectors,
)
from gm_jax.training import report  # noqa: E402

PAGES = sorted(p for p in results.FOLDER.glob('*.md') if p.stem != 'README')
TABLE = {'header': ['a', 'b'], 'rows': [['x', 1.5], ['y', 2]]}
every_page = pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)


def commands(script):
  """The keys of COMMANDS, read and not run: absl has one table of flags."""
  for node in ast.parse((ROOT / 'experiments' / script).read_text()).body:
    if isinstance(node, ast.Assign) and node.targets[0].id == 'COMMANDS':
      return [ast.literal_eval(key) for key in node.value.keys]
  raise AssertionError(f'{script} has no COMMANDS')


def started():
  """What starts the command of each page."""
  found = {'demo': 'experiments/demo.py', 'configs': 'experiments/main.py --config='}
  for script in ('reproduce.py', 'benchmark.py'):
    found |= {name: f'experiments/{script} {name}' for name in commands(script)}
  return found


def test_every_command_has_a_page_and_a_json_file():
  wanted = set(started())
  assert {p.stem for p in PAGES} == wanted
  assert {p.stem for p in results.FOLDER.glob('*.json')} == wanted


@every_page
def test_tables_are_what_the_json_file_holds(page):
  content = results.load(page.with_suffix('.json'))
  assert results.fill(page, content['tables']) == page.read_text()
  # No table stands outside the markers.
  assert not re.search(r'^\|', results.MARKED.sub('', page.read_text()), re.M)


@every_page
def test_command_and_machine_stand_in_the_json_file_and_no_path_does(page):
  content = json.loads(page.with_suffix('.json').read_text())
  assert started()[page.stem] in content['command']
  assert 'Python 3' in content['machine'] or 'python 3' in content['machine']
  assert not re.search(r'[ =]/\w', json.dumps(content))


@every_page
def test_command_stands_on_its_page_and_in_the_index(page):
  index = (results.FOLDER / 'README.md').read_text()
  assert f']({page.name})' in index and f']({page.stem}.json)' in index
  assert started()[page.stem] in index
  if page.stem != 'configs':  # a command for each config, in its header
    assert started()[page.stem] in page.read_text()


@pytest.mark.parametrize('page', sorted(results.FOLDER.glob('*.md')), ids=str)
def test_links_and_pictures_are_there(page):
  for link in re.findall(r'\]\(([^)#]+)\)', page.read_text()):
    assert (page.parent / link).is_file(), link
  for path in re.findall(r'experiments/[\w/]+\.(?:py|ipynb)', page.read_text()):
    assert (ROOT / path).exists(), path


def test_every_picture_stands_on_a_page():
  text = ''.join(page.read_text() for page in PAGES)
  for picture in results.FOLDER.rglob('*.png'):
    assert f']({picture.relative_to(results.FOLDER).as_posix()})' in text, picture


def test_every_config_is_in_the_gallery_or_says_why_not():
  tables = results.load(results.FOLDER / 'configs.json')['tables']
  rows = [row for table in tables.values() for row in table['rows']]
  listed = [row[0].strip('`') for row in rows]
  assert len(set(listed)) == len(listed)
  configs = (ROOT / 'experiments' / 'configs').glob('*.py')
  wanted = [p.stem for p in configs if 'def get_config(' in p.read_text()]
  # A config of several data sets has a row for each, NAME:DATA.
  assert {name.partition(':')[0] for name in listed} == set(wanted)
  for name, samples, *_ in tables['gallery']['rows']:
    name = name.strip('`')
    picture = name.replace(':', '_')
    assert samples == f'![{name}](samples/{picture}.png)'
  assert all(row[-1] for row in tables['without a picture']['rows'])


@pytest.mark.parametrize(
  ('name', 'headers'),
  [
    ('stacked', {'modes': stacked.HEADER}),
    ('unrolling', {'map': unrolling.HEADER}),
    ('f_gan_gaussian', {'divergences': f_gan_gaussian.HEADER}),
    ('mode_collapse', {
      'ring': mode_collapse.HEADER,
      'stacked:digits': [h for h in mode_collapse.HEADER if h != 'high quality'],
    }),
    ('infogan_mi', {'bounds': infogan_mi.HEADER}),
    ('conditional_gans', {
      'digits': conditional_gans.HEADER, 'line': conditional_gans.LINE_HEADER,
    }),
    ('dcgan_features', {'accuracy': dcgan_features.HEADER}),
    ('likelihoods', {t.data: likelihoods.HEADER for t in likelihoods.tasks('a')}),
    ('parzen_pitfall', {'windows': kernels.WINDOWS_HEADER}),
    ('parzen_against_ais', {
      'decoders': decoders.HEADER, 'pairs': decoders.PAIRS_HEADER,
    }),
    ('kde_dimension', {'divergences': kernels.DIMENSION_HEADER}),
    ('theory', {'laws': ('discrepancy', *theory.LAWS)}),
    ('aae_against_vae', {
      name: aae_against_vae.HEADER for name in ('digits', 'glyphs')
    }),
    ('variational', {
      'models': variational.HEADER, 'curve': variational.CURVE_HEADER,
      'bars': variational.BARS_HEADER, 'mnist': variational.LARGE_HEADER,
      'fashion_mnist': variational.LARGE_HEADER,
    }),
    ('text_to_image', {
      'agreement': text_to_image.HEADER, 'scores': text_to_image.SCORES,
    }),
    ('translation', {
      'two faces': translation.TWO_HEADER, 'digits': translation.DIGITS_HEADER,
      'four faces': translation.MANY_HEADER,
    }),
    ('flows', {'toys': flows.TOY_HEADER, 'digits': flows.IMAGES_HEADER,
               'fashion_mnist': flows.IMAGES_HEADER}),
    ('diffusion', {'digits': diffusion.header()}),
    ('guidance', {'digits': guidance.HEADER, 'glyphs': guidance.HEADER}),
    ('inpainting', {'digits': inpainting.HEADER}),
    ('energy', {
      'moons': energy.TOY_HEADER, 'digits': energy.IMAGES_HEADER,
      'classes': outliers.CLASSES_HEADER, 'outliers': outliers.HEADER,
      'binary': energy.BINARY_HEADER,
    }),
    ('vectors', {'power': vectors.HEADER, vectors.TOY: vectors.HEADER}),
    ('growth', {'growth': growth.HEADER, 'steps': growth.STEPS_HEADER}),
    ('variational_inference', {
      'identity': variational_inference.IDENTITY_HEADER,
      'correlation': variational_inference.CORRELATION_HEADER,
      'topics': variational_inference.TOPICS_HEADER,
      'gaps': variational_inference.GAPS_HEADER,
      'vae': variational_inference.VAE_HEADER,
    }),
    ('unroll', {n: t.header for n, t in unroll.tables([], []).items()}),
    ('steps', {n: t.header for n, t in steps.tables([], []).items()}),
    ('autoregressive', {'times': list(autoregressive.COLUMNS)}),
    ('latent', {'times': list(latent.COLUMNS)}),
    ('flow_speed', {'times': list(flow_speed.COLUMNS)}),
    ('diffusion_speed', {'times': list(diffusion_speed.COLUMNS)}),
    ('energy_speed', {'times': list(energy_speed.COLUMNS)}),
    ('metrics', {'times': list(metrics.COLUMNS)}),
    ('data', {'sources': list(data.COLUMNS)}),
  ],
)  # fmt: skip
def test_columns_are_those_that_the_command_writes(name, headers):
  tables = results.load(results.FOLDER / f'{name}.json')['tables']
  for table, header in headers.items():
    assert tables[table]['header'] == list(header)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder of one page, not yet filled, and its file."""
  text = '# Title\n\n<!-- table: one -->\n<!-- end -->\n\nProse | of a | kind.\n'
  (tmp_path / 'page.md').write_text(text)
  (tmp_path / 'page.json').write_text(json.dumps({'tables': {'one': TABLE}}))
  monkeypatch.setattr(results, 'FOLDER', tmp_path)
  return tmp_path


def test_a_page_is_filled_and_then_stays(folder, capsys):
  assert results.main(['results.py', '--check']) == 1
  assert 'page.md' in capsys.readouterr().err
  assert '| x' not in (folder / 'page.md').read_text()
  assert results.main(['results.py']) == 0
  text = (folder / 'page.md').read_text()
  assert report.text_table(*TABLE.values()) in text
  assert text.startswith('# Title\n\n') and text.endswith('\n\nProse | of a | kind.\n')
  assert results.main(['results.py', '--check']) == results.main(['results.py']) == 0
  assert (folder / 'page.md').read_text() == text


def edited(name, old, new):
  def damage(folder):
    path = folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))

  return damage


@pytest.mark.parametrize(
  ('damage', 'words'),
  [
    (lambda f: (f / 'page.json').unlink(), ['page.json', 'no such file']),
    (lambda f: (f / 'page.md').unlink(), ['page.json', 'no page page.md']),
    (lambda f: (f / 'page.json').write_text('{"tables": '), ['page.json', 'JSON']),
    (lambda f: (f / 'page.json').write_bytes(b'\xff\xfe'), ['page.json', 'JSON']),
    (lambda f: (f / 'page.json').write_text('[1]'), ['page.json', '"tables"']),
    (lambda f: (f / 'page.json').write_text('{}'), ['page.json', '"tables"']),
    (edited('page.json', '"y", 2', '"y"'), ['page.json', '1 cells under 2']),
    (edited('page.json', '"rows"', '"row"'), ['page.json', "'rows'"]),
    (edited('page.json', '{"one": ', f'{{"new": {json.dumps(TABLE)}, "one": '),
     ['page.md', 'no markers', "'new'"]),
    (edited('page.md', ': one', ': two'), ['page.md', "'two'", 'there are: one']),
    (edited('page.md', '<!-- end -->', ''), ['page.md', 'both its markers']),
    (edited('page.md', '<!-- end -->', 'no\n<!-- end -->'), ['page.md', 'no text']),
  ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(folder, capsys, damage, words):
  damage(folder)
  before = {p.name: p.read_bytes() for p in folder.iterdir()}
  assert results.main(['results.py']) == 1
  line = capsys.readouterr().err
  assert line.startswith('error: ') and line.count('\n') == 1
  assert all(word in line for word in words), line
  assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.drill
def test_wrong_command_is_one_line_and_exit_code_2():
  command = [sys.executable, str(ROOT / 'experiments' / 'results.py'), '--chek']
  done = subprocess.run(command, capture_output=True, text=True, timeout=60)
  assert done.returncode == 2 and done.stdout == ''
  assert len(done.stderr.splitlines()) == 1 and '--chek' in done.stderr


def test_a_run_replaces_its_tables_and_leaves_others(tmp_path, monkeypatch):
  path = tmp_path / 'page.json'
  one, two = report.Table(('k',), [[1]]), report.Table(('k', 'x'), [[2, float('inf')]])
  results.save(path, 'first', {'one': one, 'two': two}, {'seconds': 3.0})
  first = results.load(path)
  assert first['command'] == 'first' and 'jax' in first['machine']
  assert first['numbers'] == {'seconds': 3.0}
  assert list(first['tables']) == ['one', 'two'] and set(first['tables']['one']) == {
    'header', 'rows'
  }  # fmt: skip
  results.save(path, 'second', {'one': two}, {})
  second = results.load(path)
  assert second['tables']['one'] == first['tables']['two']
  # What stays has the command that it came from.
  stays = first['tables']['two'] | {'command': 'first', 'machine': first['machine']}
  assert second['tables']['two'] == stays and second['command'] == 'second'
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  results.save(path, 'third', {'one': one}, {})
  third = results.load(path)['tables']
  assert list(third) == ['one', 'two', 'one (gpu)']
  assert third['two'] == stays and third['one']['command'] == 'second'
  assert third['one']['rows'] == [list(row) for row in two.rows]


def test_a_row_is_a_line_of_the_file():
  value = {'tables': {'t': TABLE}, 'none': [], 'empty': {}, 'text': 'a\n[ b'}
  text = results.dumps(value)
  assert json.loads(text) == value
  assert '["x", 1.5],\n' in text and '"header": ["a", "b"],\n' in text


def test_a_target_is_checked_before_the_run(tmp_path):
  assert 'no such folder' in results.check_target(str(tmp_path / 'none' / 'x.json'))
  assert 'folder' in results.check_target(str(tmp_path))
  path = tmp_path / 'numbers.json'
  assert results.check_target(str(path)) is None
  path.touch()  # as mktemp leaves it
  assert results.check_target(str(path)) is None
  path.write_text('{"rows": []}')
  assert 'expected "tables"' in results.check_target(str(path))


def test_commands_are_written_without_paths():
  line = results.command_line(
    ['/somewhere/reproduce.py', 'stacked'], ['--budget=full'], data=True
  )
  expected = 'python experiments/reproduce.py stacked --budget=full --data_dir=...'
  assert line == expected


@pytest.mark.slow
def test_theory_renews_its_own_page(tmp_path):
  script = ROOT / 'experiments' / 'reproduce.py'
  path = tmp_path / 'theory.json'
  command = [sys.executable, script, 'theory', f'--json={path}', f'--out={tmp_path}']
  done = subprocess.run(command, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  page = results.FOLDER / 'theory.md'
  assert results.fill(page, results.load(path)['tables']) == page.read_text()
