"""A report of a run as one HTML file that needs no other, and tables as text.

Pictures are embedded, the style stands inside, nothing is fetched: the file can
be mailed. It follows the reader's light or dark mode and fits a phone.
"""

import base64
import html
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from gm_jax.training import log

PNG_MAGIC = b'\x89PNG\r\n\x1a\n'

STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 56rem; margin: 0 auto;
  padding: 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2rem; border-bottom: 1px solid #8886; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; text-align: left; border-bottom: 1px solid #8884; }
.number { text-align: right; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { font-size: .875rem; opacity: .8; }
pre { overflow-x: auto; padding: .75rem; border-radius: 4px; background: #8882; }
"""


class Table(NamedTuple):
  """A table: titles of the columns, and rows of strings or numbers."""

  header: Sequence[str]
  rows: Sequence[Sequence[Any]]


class Image(NamedTuple):
  """A picture: a PNG file, and what it shows."""

  path: str | os.PathLike[str]
  caption: str


class Section(NamedTuple):
  """A section, written in the order of its fields."""

  heading: str
  paragraphs: Sequence[str] = ()
  tables: Sequence[Table] = ()
  images: Sequence[Image] = ()
  preformatted: Sequence[str] = ()  # the exact command, the versions


def write(
  path: str | os.PathLike[str], title: str, sections: Sequence[Section]
) -> None:
  """Writes a report.

  Args:
    path: the HTML file.
    title: what the report is about.
    sections: what it says; all text is escaped.

  Raises:
    ValueError: if an image is not a PNG file.
  """
  title = html.escape(title)
  body = '\n'.join(_section(section) for section in sections)
  with log.replacing(path) as temporary:
    temporary.write_text(
      '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
      '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
      f'<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n'
      f'<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n',
      encoding='utf-8',
    )


def versions() -> dict[str, str]:
  """All that a number depends on: versions, platform and devices, by name."""
  names = ('gm_jax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')
  devices = jax.devices()
  return {
    'python': platform.python_version(),
    **{name: _version(name) for name in names},
    'platform': f'{platform.system()} {platform.machine()}',
    'devices': f'{len(devices)} x {devices[0].device_kind} ({devices[0].platform})',
  }


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """An aligned table, for the console and as Markdown.

  Args:
    header: titles of the columns.
    rows: strings or numbers; floats are shown with four digits.

  Returns:
    Lines of equal width; columns of numbers are aligned right.

  Raises:
    ValueError: if a row has more or fewer cells than the header.
  """
  right = _numeric(header, rows)
  cells = [[_cell(v).replace('|', '\\|') for v in row] for row in [header, *rows]]
  widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    [
      cell.rjust(width) if is_right else cell.ljust(width)
      for cell, width, is_right in zip(line, widths, right, strict=True)
    ]
    for line in cells
  ]
  rule = [
    '-' * (w - 1) + (':' if r else '-') for w, r in zip(widths, right, strict=True)
  ]
  return '\n'.join(
    '| ' + ' | '.join(line) + ' |' for line in [lines[0], rule, *lines[1:]]
  )


def _section(section: Section) -> str:
  parts = [f'<h2>{html.escape(section.heading)}</h2>']
  parts += [f'<p>{html.escape(text)}</p>' for text in section.paragraphs]
  parts += [_table(table) for table in section.tables]
  parts += [_image(image) for image in section.images]
  parts += [f'<pre>{html.escape(text)}</pre>' for text in section.preformatted]
  return '\n'.join(parts)


def _table(table: Table) -> str:
  right = _numeric(table.header, table.rows)
  kinds = [' class="number"' if r else '' for r in right]

  def line(tag: str, row: Sequence[Any]) -> str:
    cells = (
      f'<{tag}{kind}>{html.escape(_cell(value))}</{tag}>'
      for value, kind in zip(row, kinds, strict=True)
    )
    return f'<tr>{"".join(cells)}</tr>'

  lines = [line('th', table.header), *(line('td', row) for row in table.rows)]
  return '<div class="wide"><table>\n' + '\n'.join(lines) + '\n</table></div>'


def _image(image: Image) -> str:
  content = pathlib.Path(image.path).read_bytes()
  if not content.startswith(PNG_MAGIC):
    raise ValueError(f'{image.path} is not a PNG file')
  data = base64.b64encode(content).decode()
  caption = html.escape(image.caption)
  return (
    f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
    f'<figcaption>{caption}</figcaption></figure>'
  )


def _numeric(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[bool]:
  """Which columns hold numbers; empty cells and None count as either."""
  for row in rows:
    if len(row) != len(header):
      raise ValueError(f'A row of {len(row)} cells under {len(header)} titles: {row}')
  columns = zip(*rows, strict=True) if rows else [()] * len(header)
  filled = [[v for v in map(_plain, c) if v not in (None, '')] for c in columns]
  return [bool(vs) and all(map(_is_number, vs)) for vs in filled]


def _plain(value: Any) -> Any:
  """The Python number of a numpy or jax scalar."""
  return value.item() if hasattr(value, 'item') else value


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> str:
  value = _plain(value)
  if value is None:
    return ''
  text = f'{value:.4g}' if isinstance(value, float) else str(value)
  return ' '.join(text.split())


def _version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return 'not installed'
