"""The vocabulary, by reading the code: standard terms, and docstrings that stand alone.

  python tests/vocabulary.py

Prints a line for each private word in a name, for each function that is named by a bare
preposition, participle or pronoun, and for each docstring of the package that begins
with a fragment. Exit code 1 if there is any. Part of `make lint`.
"""

import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ('gm_jax', 'experiments', 'tests')
# Private words, as whole names, and what the field says.
WORDS = {
  'share': 'model_state, fraction or shard',
  'shares': 'model_states or responsibilities',
  'judged': 'logits',
  'worth': 'value',
  'told': 'metrics',
  'everyone': 'all_players',
  'how': 'unroll_fn, or the name of the choice',
  'reach': 'radius or kernel_size',
  'law': 'likelihood or distribution',
  'given': 'condition, or what it is',
}
PHRASES = {r'\bwhole[\s-]+numbers?\b': 'integers'}
BARE = re.compile(
  r'_?(of|by|in|as|to|at|on|from|with|told|given|judged|fooled|worth|everyone|share'
  r'|shares|taken|made|found|kept|drawn|chosen|applied|seen|known|it|this|that)'
)
METHODS = ('made',)  # names of methods in the field
FRAGMENT = re.compile(r'(Of|What|As|For|From|In|With|By|To|At|On) ')


def names(node: ast.AST) -> list[str]:
  """The names that a node gives to something."""
  if isinstance(node, ast.FunctionDef | ast.ClassDef):
    return [node.name]
  if isinstance(node, ast.arg):
    return [node.arg]
  if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
    return [node.id]
  if isinstance(node, ast.keyword):
    return [node.arg or '']
  return []


def complaints(path: pathlib.Path) -> list[str]:
  """What a file says in words of its own, a line each."""
  tree, where = ast.parse(path.read_text()), path.relative_to(ROOT)
  package = where.parts[0] == 'gm_jax'
  found = []
  for node in ast.walk(tree):
    line = f'{where}:{getattr(node, "lineno", 1)}'
    for name in names(node):
      word = name.strip('_')
      if word in WORDS:
        found.append(f'{line}: the name {name!r}; say {WORDS[word]}')
    bare = isinstance(node, ast.FunctionDef) and BARE.fullmatch(node.name)
    if bare and package and node.name not in METHODS:
      found.append(
        f'{line}: {node.name!r} names a function by a word that says nothing'
      )
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
      for phrase, better in PHRASES.items():
        if re.search(phrase, node.value) and path != pathlib.Path(__file__):
          found.append(f'{line}: {re.search(phrase, node.value)[0]!r}; say {better}')
    if package and isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
      text = ast.get_docstring(node) or ''
      if FRAGMENT.match(text):
        found.append(f'{line}: a docstring begins with a fragment, {text[:40]!r}')
  return found


def main() -> int:
  """Prints all complaints; returns the exit code."""
  files = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob('*.py'))]
  lines = [line for path in files for line in complaints(path)]
  print('\n'.join(lines) or f'{len(files)} files use the common vocabulary')
  return bool(lines)


if __name__ == '__main__':
  sys.exit(main())
