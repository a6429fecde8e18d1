"""The ledger of translation: what it translates, measures and prints."""

import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.ledger import translation  # noqa: E402
from gm_jax.data import registry  # noqa: E402

NUMBERS = {name: [i / 10] for i, name in enumerate((*translation.TWO, 'unchanged'))}


def test_a_line_has_its_numbers_and_what_is_left_as_it_is_has_no_way_back():
  row = translation.Row('a', NUMBERS, 7, 20, 1.4, [])
  line = translation.cells(row, translation.TWO)
  assert line == ['a', '0.000', '0.100', '0.200', '0.300', '7', '20', '1']
  assert len(line) == len(translation.TWO_HEADER)
  still = translation.unchanged([row], ('to_y', 'to_x'))
  line = translation.cells(still, translation.TWO)
  assert line == ['left as it is', '0.400', '0.400', '', '', '7', '', '']
  assert len(translation.DIGITS_HEADER) == len(translation.TWO_HEADER)
  assert len(translation.MANY_HEADER) == len(translation.MANY) + 4
  assert translation.shown_number([0.1, 0.3]) == '0.200 +- 0.100'


def test_images_that_are_shown_go_to_every_other_face_and_back():
  two = registry.load(
    'unpaired?paired=true:glyphs?size=16&num=9&faces=serif'
    '|glyphs?size=16&num=9&skip=9&faces=sans'
  )
  x, there, back = translation.shown(two)
  assert (len(x), there, back) == (translation.SHOWN, 1, 0)
  three = registry.load(
    'domains?paired=true:'
    + '|'.join(f'glyphs?size=16&num=9&faces={f}' for f in ('serif', 'sans', 'mono'))
  )
  x, there, back = translation.shown(three)
  half = translation.SHOWN // 2
  np.testing.assert_array_equal(there, [1] * half + [2] * half)
  np.testing.assert_array_equal(back, 0)
  np.testing.assert_array_equal(x[:half], x[half:])


def test_the_rows_leave_out_what_they_say():
  for name, weights in (
    ('cycle alone', (0.0, 10.0, 0.0)), ('GAN alone', (1.0, 0.0, 0.0)),
    ('CycleGAN', (1.0, 10.0, 5.0)),
  ):  # fmt: skip
    module, arg, _ = translation.CYCLE[name]
    config = module.get_config(arg)
    terms = ('adversarial_weight', 'cycle_weight', 'identity_weight')
    assert tuple(config[term] for term in terms) == weights
