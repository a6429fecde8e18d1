"""Windows of a text, their tokens, and files that are none."""

from pydoc_data import topics

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gm_jax.data import dataset, registry, text, words

STORY = ''.join(f'Line {n}: größer als früher, 数 {n * n}.\n' for n in range(40))


@pytest.fixture
def path(tmp_path):
  path = tmp_path / 'story.txt'
  path.write_bytes(STORY.encode())
  return str(path)


def test_the_manual_is_pythons_own_text():
  data = registry.load('manual?length=40')
  begin = text.decode(data.arrays('train', 1)['x'][0], data.vocabulary)
  assert topics.topics[min(topics.topics)].startswith(begin)
  assert data.name == 'manual' and data.spec.num_train > 300_000


def test_windows_are_the_texts_own(path):
  data = text.text(path, length=16)
  num, held = len(STORY), len(STORY) // 20
  parts = {
    'train': STORY[: num - 2 * held],
    'validation': STORY[num - 2 * held : num - held],
    'test': STORY[num - held :],
  }
  strides = {'train': 1, 'validation': 16, 'test': 16}
  for split, part in parts.items():
    x = data.arrays(split)['x']
    windows = [part[i : i + 16] for i in range(0, len(part) - 15, strides[split])]
    assert x.dtype == np.int32
    assert [text.decode(row, data.vocabulary) for row in x] == windows
  spec = data.spec
  assert spec.shape == (16,) and spec.dtype == jnp.int32
  assert spec.num_train == len(parts['train']) - 15
  assert data.vocabulary == tuple(sorted(set(STORY)))
  assert spec.num_levels == len(set(STORY)) and spec.transform.measure == 'mass'
  batch = next(data.batches('train', 4, seed=0, start=9))
  assert all(text.decode(row, data.vocabulary) in STORY for row in batch['x'])


def test_character_of_the_test_text_alone_has_a_token(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('ab' * 50 + 'z')
  data = registry.load(f'text:{path}?length=5')
  assert data.vocabulary == ('a', 'b', 'z')
  np.testing.assert_array_equal(
    words.tokenize_characters('zab', data.vocabulary), [2, 0, 1]
  )


@given(st.text(STORY, max_size=50))
def test_decoding_undoes_encoding(string):
  vocabulary = sorted(set(STORY))
  tokens = words.tokenize_characters(string, vocabulary)
  assert tokens.dtype == np.int32 and tokens.shape == (len(string),)
  assert text.decode(tokens, vocabulary) == string


def test_what_is_not_in_the_vocabulary_is_named():
  with pytest.raises(
    ValueError, match="string has 'q' at position 2, which is not among the 2"
  ):
    words.tokenize_characters('abqz', ('a', 'b'))
  for tokens in ([0, 2], [0, -1]):
    with pytest.raises(
      ValueError, match=f'tokens must be from 0 to 1, got {tokens[1]}'
    ):
      text.decode(np.array(tokens), ('a', 'b'))


def test_byte_order_mark_is_no_character(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes(b'\xef\xbb\xbf' + b'ab' * 50)
  assert text.text(str(path), length=2).vocabulary == ('a', 'b')


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'empty'),
    (b'abc\xff' * 99, 'not UTF-8 text: byte 3 is 0xff'),
    (b'\xef\xbb\xbfabc\xff' * 99, 'not UTF-8 text: byte 6 is 0xff'),
    (b'\xe2\x82' + b'a' * 99, 'not UTF-8 text: byte 0 is 0xe2'),
    (b'a' * 1279, '1279 characters are too few.*so 1280 are needed'),
  ],
)
def test_damaged_files_are_named(tmp_path, content, message):
  path = tmp_path / 'a.txt'
  path.write_bytes(content)
  with pytest.raises(dataset.DataError, match=f'a.txt: {message}'):
    text.text(str(path))


def test_missing_file_and_folder(tmp_path):
  for path in (tmp_path, tmp_path / 'none'):
    with pytest.raises(dataset.DataError, match='no such file'):
      text.text(str(path))
