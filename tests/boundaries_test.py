"""The import rule, by reading the code: one direction, no private names."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'gm_jax'

# What each ring may import of the package, besides itself. Rings are listed
# from the inside out; a file `gm_jax/<ring>.py` or folder `gm_jax/<ring>/`.
FOUNDATION = {
  'losses', 'processes', 'models', 'gradient', 'unroll', 'priors', 'dynamics',
  'augmentation', 'orders', 'conditions', 'model_space', 'statistics', 'caches',
  'pools', 'replay',
  'equilibrium', 'growth', 'monotone', 'ode',
}  # fmt: skip
ALLOWED = {
  'base': set(),
  **{ring: {'base'} for ring in FOUNDATION},
  'models': {'base', 'augmentation'},
  'times': {'base', 'processes'},
  'denoisers': {'base', 'conditions', 'processes'},
  'bijectors': {'base', 'monotone'},
  'flow_layers': {'base', 'bijectors', 'models', 'monotone'},
  'patch_flow_layers': {'bijectors', 'monotone'},
  'unroll': {'base', 'gradient'},
  'players': {'base', 'conditions', 'gradient', 'priors'},
  'text_features': {'base', 'conditions'},
  'domains': {'base', 'conditions'},
  'latent_priors': {'base', 'bijectors', 'losses'},
  'latent_spaces': {'base'},
  'observations': {'base', 'losses', 'samplers'},
  'amortized': {
    'base',
    *FOUNDATION,
    'players',
    'bijectors',
    'latent_priors',
    'observations',
    'metrics',
  },
  'adversaries': {'base', 'conditions', 'gradient', 'players', 'priors'},
  'samplers': {'base', *FOUNDATION, 'denoisers', 'times'},
  'probability_flow': {'base', 'denoisers', 'ode', 'processes'},
  'diffusion_bound': {'base', *FOUNDATION, 'denoisers'},
  'learned_variance': {'base', *FOUNDATION, 'denoisers'},
  'imputation': {'base', 'processes', 'samplers', 'times'},
  'diffusion': {
    'base',
    *FOUNDATION,
    'denoisers',
    'imputation',
    'probability_flow',
    'times',
    'samplers',
  },  # fmt: skip
  'metrics': {'base', 'caches', 'losses', 'samplers', 'statistics'},
  'boltzmann': {'base', 'metrics'},
  'tilted': {'base', 'conditions', 'priors', 'samplers'},
  'chains': {'base', 'priors', 'samplers'},
  'contrasts': {'base', 'chains', 'losses', 'players', 'replay'},
  'theory': {'losses'},
  'variational_inference': {'gradient', 'latent_priors', 'losses'},
  'methods': {
    'base',
    *FOUNDATION,
    'players',
    'adversaries',
    'samplers',
    'metrics',
    'amortized',
    'latent_priors',
    'latent_spaces',
    'imputation',
    'boltzmann',
    'chains',
    'contrasts',
    'tilted',
    'observations',
    'text_features',
    'domains',
    'bijectors',
    'flow_layers',
    'denoisers',
    'diffusion',
    'diffusion_bound',
    'learned_variance',
    'times',
  },
  'tasks': {'base', *FOUNDATION, 'players', 'adversaries', 'samplers', 'metrics'},
  'data': {'base', 'caches', 'model_space'},
  'training': {'base', 'caches', 'gradient', 'model_space', 'statistics'},
}
ALLOWED_FILES = {
  # The command line alone reads files of images.
  'metrics/__main__.py': ALLOWED['metrics'] | {'data'},
  'training/setup.py': ALLOWED['training'] | {'data'},
  'training/launch.py': ALLOWED['training'] | {'data', 'tasks'},
  'training/own_images.py': ALLOWED['training'] | {'data'},
}
LOSSES_IMPORT = {'jax', 'chex', 'gm_jax', 'typing', 'collections', 'functools', 'math'}
LOSSES_IMPORT |= {'itertools'}
HEAVY = {
  'tensorflow_datasets', 'orbax', 'grain', 'matplotlib', 'sklearn', 'scipy', 'torch',
  'PIL', 'tensorboardX', 'tqdm', 'tokenizers', 'safetensors', 'diffrax', 'optimistix',
}  # fmt: skip
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob('*.py'))
every_file = pytest.mark.parametrize('file', FILES, ids=str)


@functools.cache
def tree(file):
  return ast.parse((PACKAGE / file).read_text())


def imported(nodes):
  """Full dotted names that some statements import."""
  for node in nodes:
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'imports are absolute'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def ring(file):
  return file.parts[0].removesuffix('.py')


@every_file
def test_imports_go_one_way(file):
  if file == pathlib.Path('__init__.py'):
    assert not list(imported(ast.walk(tree(file))))
    return
  assert ring(file) in ALLOWED, f'{ring(file)} has no place in the import rule'
  allowed = ALLOWED_FILES.get(file.as_posix(), ALLOWED[ring(file)])
  for name in imported(ast.walk(tree(file))):
    first, *rest = name.split('.')
    assert first not in ('experiments', 'tests')
    if first == 'gm_jax':
      assert rest[0] in allowed | {ring(file)}, f'{file} imports {name}'


@every_file
def test_no_private_and_no_heavy_imports_at_the_top(file):
  for name in imported(ast.walk(tree(file))):
    assert '._' not in name, f'{file} imports the private {name}'
  for name in imported(tree(file).body):
    assert name.split('.')[0] not in HEAVY, f'{file} imports {name} when imported'


@pytest.mark.parametrize('file', [f for f in FILES if f.parts[0] == 'losses'], ids=str)
def test_losses_import_jax_and_chex_only(file):
  roots = {name.split('.')[0] for name in imported(ast.walk(tree(file)))}
  assert roots <= LOSSES_IMPORT


@every_file
def test_axis_names_and_meshes_stand_in_one_file(file):
  if file.as_posix() == 'training/parallel.py':
    return
  words = {'Mesh', 'make_mesh', 'pmap', 'pmean', 'psum', 'shard_map', 'axis_index'}
  used = {n.attr for n in ast.walk(tree(file)) if isinstance(n, ast.Attribute)}
  assert not words & used - ({'Mesh'} if 'training' in file.parts else set())


@every_file
def test_every_public_name_says_what_it_is(file):
  for node in tree(file).body:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != '_':
      assert ast.get_docstring(node), f'{file}:{node.lineno} {node.name}'


def loaded_by(statement):
  code = f'import sys; {statement}; print(*sys.modules)'
  return set(
    subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True
    ).stdout.split()
  )


def test_importing_losses_loads_jax_and_chex_and_nothing_heavier():
  ours = loaded_by('import gm_jax.losses; gm_jax.losses.adversarial.HINGE')
  alone = loaded_by('import jax.scipy.special, chex')
  roots = {name.split('.')[0] for name in ours - alone}
  assert roots == {'gm_jax'}


@pytest.mark.drill
def test_training_needs_no_heavy_library_to_import():
  ours = loaded_by('from gm_jax.training import launch')
  assert not HEAVY & {name.split('.')[0] for name in ours} - {'scipy'}  # jax has scipy
