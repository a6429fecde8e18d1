"""Words of the command line become what batches have, or one line says why not."""

import functools

import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import dataset, registry, transforms, words

GARMENTS = (
  'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker',
  'Bag', 'Ankle boot', 'Scarf', 'Hat',
)  # fmt: skip
COLORS = ('', 'a', 'red', 'green', 'circle')


def data(**changes):
  """Points with every kind of array that words can say."""
  float32, int32 = np.dtype(np.float32), np.dtype(np.int32)
  parts = {
    'condition': base.Part((3,), float32, None, transforms.identity()),
    'text': base.Part((4,), int32, len(COLORS), transforms.tokens()),
    'domain': base.Part((), int32, 2, transforms.tokens()),
  }
  spec = base.DataSpec((2,), float32, None, 12, None, transforms.identity(), parts)
  arrays = {'x': np.zeros((3, 2), np.float32)}
  return dataset.in_memory('data', spec, {'train': arrays})._replace(
    **{
      'class_names': GARMENTS,
      'domain_names': ('horse', 'zebra'),
      'tokenize': functools.partial(words.tokenize_words, vocabulary=COLORS),
      **changes,
    }
  )


def message(source, key, string):
  with pytest.raises(ValueError) as caught:
    source.encode(key, string)
  assert '\n' not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize(
  ('key', 'string', 'expected'),
  [
    ('label', '5', 5),
    ('label', 'sandal', 5),
    ('label', ' ANKLE BOOT ', 9),
    ('label', '0', 0),
    ('label', '11', 11),
    ('domain', 'Zebra', 1),
    ('domain', '0', 0),
    ('condition', '1,-2.5,1e3', [1, -2.5, 1000]),
    ('condition', ' 1, 2 ,3', [1, 2, 3]),
    ('text', 'a Red circle', [1, 2, 4, 0]),
    ('text', 'red red green a circle', [2, 2, 3, 1]),  # cut
  ],
)
def test_words_are_one_example(key, string, expected):
  found = data().encode(key, string)
  assert isinstance(found, np.ndarray)
  assert found.dtype == (np.float32 if key == 'condition' else np.int32)
  assert found.shape == np.shape(expected)
  np.testing.assert_array_equal(found, expected)


def test_what_makes_no_sense_is_said():
  found = message(data(), 'label', 'sandle')
  assert found.startswith(
    "no label 'sandle'; did you mean 'Sandal'? There are: T-shirt"
  )
  assert 'Ankle boot, ... (12 in all)' in found and 'Scarf' not in found
  assert message(data(), 'label', '12') == "label must be from 0 to 11, got '12'"
  assert message(data(), 'label', '-1') == "label must be from 0 to 11, got '-1'"
  unnamed = data(class_names=None)
  expected = "label must be an integer from 0 to 11, got 'sandal'"
  assert message(unnamed, 'label', 'sandal') == expected
  assert message(unnamed, 'label', '9' * 5000).startswith('label must be an integer')
  assert message(data(), 'domain', 'hores') == (
    "no domain 'hores'; did you mean 'horse'? There are: horse, zebra"
  )
  for wrong in ('1,2', '1,2,3,4', '1,2,x', '1,2,nan', '1,2,1e39', ''):
    expected = f'condition must be 3 numbers with commas between, got {wrong!r}'
    assert message(data(), 'condition', wrong) == expected
  assert message(data(), 'text', 'a gren circle') == (
    "no word 'gren'; did you mean 'green'? There are: a, red, green, circle"
  )
  for empty in ('', '  '):
    expected = 'text must have at least one word, got none'
    assert message(data(), 'text', empty) == expected
  assert message(data(), 'y', 'x') == (
    "data has no 'y' that words could say: only label, domain, condition, text"
  )
  assert message(registry.load('toy:ring'), 'label', '1') == (
    "ring has no 'label' that words could say: nothing"
  )


def test_names_go_before_numbers_and_case_decides_between_two():
  numbered = data(class_names=('2', '10', 'a', 'A', *map(str, range(20, 28))))
  assert [int(numbered.encode('label', w)) for w in ('2', '10', '3')] == [0, 1, 3]
  assert numbered.encode('label', 'A') == 3 and numbered.encode('label', 'a') == 2


def test_digits_and_domains_of_them_know_their_names():
  digits = registry.load('digits')
  assert digits.class_names == tuple('0123456789')
  assert digits.encode('label', '7') == 7
  for name in ('dynamic:digits', 'static:digits'):
    assert registry.load(name).class_names == digits.class_names
  assert registry.load('stacked:digits').encode('label', '123') == 123
  assert "from 0 to 999, got '1000'" in message(
    registry.load('stacked:digits'), 'label', '1000'
  )
  sides = 'digits', 'static:digits?crop=8'
  with pytest.raises(ValueError, match='has levels 2, digits 17'):
    registry.load(f'domains:{"|".join(sides)}')
  both = registry.load('domains:digits|digits?labels=100')
  assert both.encode('domain', 'digits?labels=100') == 1
  assert both.encode('label', '3') == 3


def test_text_is_tokenized_as_the_data_are(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('abc ' * 50)
  text = registry.load(f'text:{path}?length=4')
  np.testing.assert_array_equal(text.encode('text', 'cab'), [3, 1, 2, 0])
  np.testing.assert_array_equal(text.encode('text', 'bbbbbb'), [2] * 4)
  assert "string has 'z' at position 1" in message(text, 'text', 'az')


def test_a_word_that_stands_as_it_is_goes_before_case():
  vocabulary = ('', 'a', 'A', 'red', 'b')
  found = words.tokenize_words('a A RED B', vocabulary)
  np.testing.assert_array_equal(found, [1, 2, 3, 4])


def test_words_of_npz_files(tmp_path):
  x = np.zeros((20, 2), np.float32)
  captions = np.array(['naïve', 'ab'] * 10)
  np.savez(tmp_path / 'a.npz', x=x, text=captions, condition=x[:, 0])
  strings = registry.load(f'npz:{tmp_path / "a.npz"}')
  known = {row.tobytes() for row in strings.arrays('train')['text']}
  assert known == {strings.encode('text', w).tobytes() for w in ('naïve', 'ab')}
  np.testing.assert_array_equal(strings.encode('text', 'ö'), [195, 182, 0, 0, 0, 0])
  assert strings.encode('condition', '2').shape == (1,)
  assert message(strings, 'condition', '1,2') == (
    "condition must be a number, got '1,2'"
  )
  np.savez(tmp_path / 'b.npz', x=x, text=np.tile(np.arange(20)[:, None], 3))
  tokens = registry.load(f'npz:{tmp_path / "b.npz"}')
  np.testing.assert_array_equal(tokens.encode('text', '3, 19'), [3, 19, 0])
  assert message(tokens, 'text', '20') == (
    "text must be integers from 0 to 19 with commas between, got '20'"
  )
