"""Writes the README's table of methods, from their cards and their configs' headers.

  python experiments/methods_table.py [--check]

A row a file of gm_jax/methods: the paper that its text names, the configs that train
it, what its card says of densities and samples, and the number that docs/results has
of its first config. --check changes nothing and ends with 1 where the README differs.
"""

import ast
import pathlib
import re
import sys
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments import results  # noqa: E402
from gm_jax import base  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.training import experiment, report  # noqa: E402

README = ROOT / 'README.md'
CONFIGS = ROOT / 'experiments' / 'configs'
METHODS = ROOT / 'gm_jax' / 'methods'
HEADER = ('method', 'paper', 'file', 'configs', 'density', 'sampling', 'result')
MARKED = re.compile(r'(<!-- table: methods -->\n)(?:\|.*\n|\n)*(<!-- end -->)')


class Use(NamedTuple):
  """A config that trains a method, and the method's card there."""

  config: str
  card: base.Card
  is_last: bool  # the phase that the config's numbers are of


def uses() -> dict[str, list[Use]]:
  """The configs of every method file, by its name."""
  found: dict[str, list[Use]] = {}
  for name in experiment.names(CONFIGS):
    module = experiment.module(CONFIGS / f'{name}.py')
    config = module.get_config()
    try:
      spec = registry.load(config.data).spec
    except Exception as error:  # data sets that must be prepared first
      raise results.ResultsError(f'{name}: {config.data}: {error}') from error
    made = module.make_method(config, spec)
    methods = (made,) if isinstance(made, base.Method) else [p.method for p in made]
    for method in methods:
      file = _file_of(method, _imported(CONFIGS / f'{name}.py'))
      use = Use(name, method.card, method is methods[-1])
      found.setdefault(file, []).append(use)
  for file, configs in found.items():  # the plainest first
    configs.sort(key=lambda use, file=file: not use.config.startswith(file))
  return found


def rows() -> list[list[str]]:
  """The table, a row a method in the order of their names."""
  measured = _measured()
  lines = []
  for file, configs in sorted(uses().items()):
    text = ast.get_docstring(ast.parse((METHODS / f'{file}.py').read_text())) or ''
    card, name = configs[0].card, configs[0].config
    of_last = any(use.config == name and use.is_last for use in configs)
    first = name if of_last else ''
    links = ', '.join(f'[{c}](experiments/configs/{c}.py)' for c in _names(configs))
    lines.append([
      re.split(r'[:.]', text, maxsplit=1)[0],
      _paper(text),
      f'[{file}](gm_jax/methods/{file}.py)',
      links,
      _pair(card.density, card.density_cost),
      _pair(card.sampling, card.sampling_cost),
      f'{first}: {measured[first]}' if first in measured else '',
    ])  # fmt: skip
  return lines


def render(text: str) -> str:
  """The README's text with its table written anew.

  Raises:
    ResultsError: it has no markers of the table.
  """
  table = report.text_table(HEADER, rows())
  text, num = MARKED.subn(lambda m: f'{m[1]}\n{table}\n\n{m[2]}', text)
  if num != 1:
    raise results.ResultsError(
      f'README.md: {num} places for the table of methods, between'
      ' <!-- table: methods --> and <!-- end -->; there must be one'
    )
  return text


def _names(configs) -> list[str]:
  return list(dict.fromkeys(use.config for use in configs))


def _pair(kind: str, cost: str) -> str:
  return kind if kind == 'none' else f'{kind}, {cost}'.replace('_', ' ')


def _paper(text: str) -> str:
  """The first source of a module's text, without the sections it names."""
  source = re.search(r'Source: (.*?)(?:\n\n|$)', text, re.DOTALL)
  if source is None:
    return ''
  parts = ' '.join(source[1].split()).split(';')
  first = next((part.strip() for part in parts if re.search(r'\d{4}', part)), parts[0])
  return re.sub(r', (sections?|algorithm|equations?) .*', '', first).rstrip('.')


def _imported(path: pathlib.Path, package: str = 'gm_jax.methods') -> set[str]:
  """What a file imports of a package itself: of `methods` the method files."""
  tree = ast.parse(path.read_text())
  return {
    alias.name
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom) and node.module == package
    for alias in node.names
  }


def _file_of(method: base.Method, imported: set[str]) -> str:
  """The file that makes a method: where its functions stand, or what is imported.

  A method that is built of another, as the f-GAN and StackGAN, has functions of the
  other's file; its config imports the one, which imports the other.
  """
  functions: list[Any] = [method.step, method.sample, method.log_prob]
  functions += list(method.queries.values())
  modules = [getattr(fn, '__module__', '') for fn in functions if fn]
  files = [m.split('.')[-1] for m in modules if m.startswith('gm_jax.methods.')]
  if not files:  # they stand in what the method's file imports, as `amortized`
    parts = {m.split('.')[1] for m in modules if m.startswith('gm_jax.')} - {'gradient'}
    fits = [m for m in imported if parts & _imported(METHODS / f'{m}.py', 'gm_jax')]
    return min(fits or imported)
  if files[0] in imported:
    return files[0]
  builders = [m for m in sorted(imported) if files[0] in _imported(METHODS / f'{m}.py')]
  if builders or len(imported) == 1:
    return (builders or list(imported))[0]
  return files[0]


def _measured() -> dict[str, str]:
  """Numbers of docs/results by config."""
  found = {}
  for table in results.load(results.FOLDER / 'configs.json')['tables'].values():
    column = list(table['header']).index('measured')
    found |= {row[0].strip('`'): row[column] for row in table['rows']}
  return found


def main(argv: list[str]) -> int:
  """Writes or checks the table; returns the exit code."""
  if argv not in ([], ['--check']):
    print('error: the only option is --check', file=sys.stderr)
    return 2
  try:
    text = README.read_text()
    new = render(text)
  except results.ResultsError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  if argv:
    if new != text:
      line = 'README.md: its table of methods is not that of cards and configs'
      print(f'error: {line}; python experiments/methods_table.py', file=sys.stderr)
      return 1
    print('the table of methods is that of cards and configs')
  else:
    README.write_text(new)
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
