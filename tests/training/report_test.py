"""Reports: one file that needs no other, escaped; tables that line up."""

import base64
import html.parser
import os
import platform

import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.training import plots, report


class _Page(html.parser.HTMLParser):
  def __init__(self, text):
    super().__init__()
    self.tags, self.text = [], ''
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.text += data

  def named(self, name):
    return [attrs for tag, attrs in self.tags if tag == name]


def _write(tmp_path, **fields):
  path = tmp_path / 'report.html'
  section = report.Section('Samples & <b>more</b>', **fields)
  report.write(path, 'A <script>alert(1)</script> run', [section, section])
  return path, _Page(path.read_text(encoding='utf-8'))


def test_report_is_self_contained_and_its_images_are_the_files(tmp_path):
  picture = tmp_path / 'a.png'
  plots.image_grid(picture, np.zeros((2, 8, 8, 1)))
  path, page = _write(tmp_path, images=[report.Image(picture, 'two "gray" images')])
  images = page.named('img')
  assert len(images) == 2
  for image in images:
    kind, data = image['src'].split(',')
    assert kind == 'data:image/png;base64'
    content = base64.b64decode(data, validate=True)
    assert content == picture.read_bytes() and content[:8] == b'\x89PNG\r\n\x1a\n'
    assert image['alt'] == 'two "gray" images'
  for tag, attrs in page.tags:
    assert tag not in ('script', 'link', 'iframe')
    assert not attrs.keys() & {'href', 'srcset', 'style'}
  style = path.read_text().split('<style>')[1].split('</style>')[0]
  assert 'url(' not in style and '@import' not in style
  assert str(tmp_path) not in path.read_text()
  assert {'name': 'viewport'}.items() <= page.named('meta')[1].items()


def test_everything_is_escaped_and_present(tmp_path):
  evil = '<script>alert("x")</script> & <img src=http://a.b>'
  table = report.Table([evil, 'loss'], [[evil, np.float32(0.25)], ['a', None]])
  _, page = _write(tmp_path, paragraphs=[evil], tables=[table], preformatted=[evil])
  assert not page.named('script') and not page.named('img')
  assert page.text.count(evil) == 2 * 4
  assert 'A <script>alert(1)</script> run' in page.text
  assert 'Samples & <b>more</b>' in page.text and not page.named('b')
  assert len(page.named('td')) == 8 and '0.25' in page.text
  assert [a.get('class') for a in page.named('th')] == [None, 'number'] * 2


def test_a_file_that_is_no_png_is_refused_and_nothing_is_left(tmp_path):
  (tmp_path / 'a.png').write_bytes(b'GIF89a')
  with pytest.raises(ValueError, match='not a PNG'):
    _write(tmp_path, images=[report.Image(tmp_path / 'a.png', '')])
  assert [p.name for p in tmp_path.iterdir()] == ['a.png']


def test_versions_name_no_host_and_no_path():
  found = report.versions()
  assert list(found)[:7] == [
    'python',
    'gm_jax',
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'numpy',
  ]
  assert found['numpy'] == np.__version__ and 'cpu' in found['devices']
  joined = ' '.join(found.values())
  assert platform.node() not in joined and os.sep not in joined


def test_text_table_lines_up_and_is_markdown():
  rows = [['gan', 3, jnp.float32(1 / 3)], ['a|b\nc', 1200, None], ['', None, 1e-9]]
  text = report.text_table(['method', 'n', 'distance'], rows)
  assert text == (
    '| method |    n | distance |\n'
    '| ------ | ---: | -------: |\n'
    '| gan    |    3 |   0.3333 |\n'
    '| a\\|b c | 1200 |          |\n'
    '|        |      |    1e-09 |'
  )
  assert report.text_table(['a', 'b'], []) == '| a   | b   |\n| --- | --- |'
  assert report.text_table(['ok'], [[True], [2]]).endswith('| True |\n| 2    |')
  with pytest.raises(ValueError, match='1 cells under 2'):
    report.text_table(['a', 'b'], [['x']])
