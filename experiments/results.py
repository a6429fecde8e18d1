"""Fills the tables of docs/results from the JSON files beside its pages.

  python experiments/results.py [--check]

A page NAME.md is prose written by hand; NAME.json holds its tables, which stand on
the page between `<!-- table: TABLE -->` and `<!-- end -->`. The commands of
reproduce.py, benchmark.py and demo.py write such a file:

  python experiments/reproduce.py stacked --json=docs/results/stacked.json
  python experiments/results.py

--check changes nothing and ends with 1 where a page differs from its file. Exit codes:
0 done, 1 a page or a file is wrong, 2 the command is.
"""

import json
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import jax

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gm_jax.training import report  # noqa: E402

FOLDER = ROOT / 'docs' / 'results'
# Nothing but a table is replaced: a marker without its end cannot swallow prose.
MARKED = re.compile(r'(<!-- table: (.+) -->\n)(?:\|.*\n|\n)*(<!-- end -->)')


class ResultsError(Exception):
  """Says in one line why a page or a JSON file cannot be used."""


def load(path: pathlib.Path) -> dict[str, Any]:
  """Reads a file of tables.

  Args:
    path: the JSON file.

  Returns:
    Its content; `tables` is by name, of header and rows.

  Raises:
    ResultsError: if there is no such file, or it is not of this form.
  """
  try:
    content = json.loads(path.read_text())
  except FileNotFoundError:
    raise ResultsError(f'{path}: there is no such file') from None
  except (OSError, ValueError, RecursionError) as error:
    raise ResultsError(f'{path}: cannot be read as JSON: {error}') from None
  try:
    for table in content['tables'].values():
      report.text_table(table['header'], table['rows'])
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ResultsError(
      f'{path}: expected "tables" by name, each with a "header" and "rows" of as many'
      f' cells, got {type(error).__name__}: {error}'
    ) from None
  return content


def fill(page: pathlib.Path, tables: Mapping[str, Mapping[str, Any]]) -> str:
  """Renders the tables of a page.

  Args:
    page: the Markdown file; it is read, not written.
    tables: by name, of header and rows.

  Returns:
    The text of the page with these tables between its markers.

  Raises:
    ResultsError: if a table is unknown or not shown, or a marker has no end.
  """

  def rendered(match: re.Match) -> str:
    name = match[2]
    if name not in tables:
      known = ', '.join(tables) or 'none'
      raise ResultsError(f'{page}: unknown table {name!r}; there are: {known}')
    table = report.text_table(tables[name]['header'], tables[name]['rows'])
    return f'{match[1]}\n{table}\n\n{match[3]}'

  text = page.read_text()
  shown = [match[2] for match in MARKED.finditer(text)]
  if {text.count('<!-- table:'), text.count('<!-- end -->')} != {len(shown)}:
    raise ResultsError(f'{page}: a table needs both its markers, and no text in them')
  filled, hidden = MARKED.sub(rendered, text), sorted(set(tables) - set(shown))
  if hidden:
    raise ResultsError(f'{page}: has no markers for the table {hidden[0]!r}')
  return filled


def pages(folder: pathlib.Path) -> dict[pathlib.Path, str]:
  """Renders every page but the index.

  Args:
    folder: holds a Markdown and a JSON file for each page, and README.md.

  Returns:
    The text of each page with the tables of its JSON file, by path.

  Raises:
    ResultsError: if a page or a file lacks the other or is not of its form.
  """
  names = {p.stem for p in folder.glob('*.md')} - {'README'}
  for path in sorted(folder.glob('*.json')):
    if path.stem not in names:
      raise ResultsError(f'{path}: there is no page {path.stem}.md beside it')
  if not names:
    raise ResultsError(f'{folder}: there are no pages')
  found = sorted(folder / f'{name}.md' for name in names)
  return {page: fill(page, load(page.with_suffix('.json'))['tables']) for page in found}


def save(
  path: pathlib.Path, command: str, tables: Mapping[str, report.Table], numbers: Any
) -> None:
  """Writes the tables of a run into a file, beside those that it did not produce.

  Tables of the same names are replaced, with all their rows. On an accelerator names
  end in its platform, as in 'steps (gpu)', and leave those of a CPU as they are. A
  table that stays keeps the command and the machine that it came from.

  Args:
    path: the JSON file, new or of this form.
    command: how the run was started.
    tables: what the run printed, by name.
    numbers: anything else that JSON can hold.

  Raises:
    ResultsError: if the file exists and is not of this form.
  """
  platform, facts = jax.default_backend(), report.versions()
  facts['cpu cores'] = str(os.cpu_count())
  suffix = '' if platform == 'cpu' else f' ({platform})'
  new = {f'{name}{suffix}': table._asdict() for name, table in tables.items()}
  old = load(path) if written(path) else {'tables': {}}
  before = {key: old[key] for key in ('command', 'machine') if key in old}
  kept = {name: before | table for name, table in old['tables'].items()}
  content = {
    'command': command,
    'machine': ', '.join(f'{k} {v}' for k, v in facts.items()),
    'tables': kept | new,
    'numbers': numbers,
  }
  path.write_text(dumps(content) + '\n')


def written(path: pathlib.Path) -> bool:
  """Tells whether there is a file with something in it."""
  return path.is_file() and path.stat().st_size > 0


def dumps(value: Any, margin: str = '\n') -> str:
  """Formats JSON with a line for each field and each row of a table."""
  inner = margin + '  '
  if isinstance(value, dict) and value:
    lines = [f'{json.dumps(k)}: {dumps(v, inner)}' for k, v in value.items()]
    return '{' + inner + f',{inner}'.join(lines) + margin + '}'
  if isinstance(value, list | tuple) and any(isinstance(v, list | tuple | dict)
                                             for v in value):  # fmt: skip
    return '[' + inner + f',{inner}'.join(dumps(v, inner) for v in value) + margin + ']'
  return json.dumps(value)


def check_target(path: str) -> str | None:
  """Tells what is wrong with `--json=PATH`, before a run that may take hours."""
  target = pathlib.Path(path)
  if not target.resolve().parent.is_dir():
    return f'--json={path}: no such folder'
  if target.is_dir():
    return f'--json={path}: is a folder'
  try:
    if written(target):
      load(target)
  except ResultsError as error:
    return f'--json: {error}'
  return None


def command_line(argv: Iterable[str], chosen: Iterable[str], *, data: bool) -> str:
  """Builds the command of a run as it is written down, without paths of a machine.

  Args:
    argv: the script and what is no flag.
    chosen: the flags that change numbers, such as '--repeats=5'.
    data: whether `--data_dir` was chosen.
  """
  script, *words = argv
  words = [f'python experiments/{pathlib.Path(script).name}', *words, *chosen]
  return ' '.join([*words, '--data_dir=...'] if data else words)


def main(argv: list[str]) -> int:
  """Fills or checks all pages; returns the exit code."""
  if argv[1:] in (['--help'], ['-h']):
    print(__doc__)
    return 0
  if argv[1:] not in ([], ['--check']):
    print(f'error: expected --check or nothing, got {argv[1:]}', file=sys.stderr)
    return 2
  try:
    changed = {p: text for p, text in pages(FOLDER).items() if text != p.read_text()}
    if not argv[1:]:
      for page, text in changed.items():
        page.write_text(text)
  except (ResultsError, OSError, UnicodeError) as error:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    return 1
  names = ', '.join(page.name for page in changed)
  if argv[1:] and changed:
    print(f'error: not as their JSON files: {names}; python experiments/results.py',
          file=sys.stderr)  # fmt: skip
    return 1
  print(f'filled: {names}' if changed else 'every page is as its JSON file')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
