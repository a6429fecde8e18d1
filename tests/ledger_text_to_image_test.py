"""The ledger of text to image: what it asks for, measures and prints."""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs.parts import texts  # noqa: E402
from experiments.ledger import text_to_image  # noqa: E402
from gm_jax.data import glyph_factors, registry  # noqa: E402
from gm_jax.tasks import texts as tasks  # noqa: E402

EACH = (*text_to_image.NAMES, 'all', 'mismatched', 'chance')
NUMBERS = {
  f'{split}_{name}': i + 10 * j
  for j, split in enumerate(text_to_image.SPLITS)
  for i, name in enumerate(EACH)
}


def test_cells_are_a_line_a_split_and_real_images_have_no_steps():
  row = text_to_image.Row(
    'a', NUMBERS, {'test': 7, 'held_out': 5}, 20, 1.4, np.zeros(0)
  )
  test, held = text_to_image.cells(row)
  assert test[:3] == ['a', 'test', '0.000'] and held[:3] == ['a', 'held out', '10.000']
  assert test[-4:] == ['9.000', '7', '20', '1'] and held[-3:] == ['5', '20', '1']
  assert len(test) == len(held) == len(text_to_image.HEADER)
  real = text_to_image.cells(row._replace(steps=0))
  assert [line[-2:] for line in real] == [['', '']] * 2
  names = ('margin', 'margin_positive', 'retrieval', 'retrieval_of_samples')
  row = row._replace(numbers=dict(zip(names, (1.5, 0.75, 1.0, 0.5), strict=True)))
  assert text_to_image.scores(row) == ['a', '1.500', '0.750', '1.000', '0.500']
  assert len(text_to_image.SCORES) == 5


@pytest.mark.slow
def test_a_short_run_asks_for_every_held_out_pair(tmp_path, monkeypatch):
  data = registry.load(texts.GLYPHS)
  asked = text_to_image.sentences(data)
  pairs = [pair.split(':') for pair in texts.HELD_OUT.split(',')]
  assert len(asked) == text_to_image.SHOWN * len(pairs)
  for i, tokens in enumerate(asked):
    words = [glyph_factors.VOCABULARY[token] for token in tokens]
    assert set(pairs[i // text_to_image.SHOWN]) <= set(words)

  def first_of(num):  # says class 0 of whatever it sees
    return lambda x: jnp.eye(num)[0] + 0 * x[:, 0, 0, :1]

  def readers(data):
    found = {}
    for name in text_to_image.NAMES:
      position = glyph_factors.CAPTION.index(name)
      tokens = np.unique(data.arrays('train')['text'][:, position])
      found[name] = tasks.Attribute(position, tokens, first_of(len(tokens)), 0.5)
    return found

  monkeypatch.setattr(texts, 'readers', readers)
  fits = {'GAN-CLS': text_to_image.FITS['GAN-CLS']}
  monkeypatch.setattr(text_to_image, 'FITS', fits)
  found = text_to_image.run('smoke', out=tmp_path)
  real, model = (found['tables']['agreement'].rows[i] for i in (0, 2))
  assert real[0] == 'real images, 28 x 28' and model[0] == 'GAN-CLS'
  # These readers look at nothing: of samples they say what they say of real images.
  assert real[2:-3] == model[2:-3]
  assert (tmp_path / 'text_to_image.png').exists()
