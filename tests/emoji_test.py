"""The captioned emoji: bases stay together, captions belong, wrong files are a line."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPT = ROOT / 'experiments' / 'emoji.py'
NUM = 40
COLORS = np.arange(NUM, dtype=np.uint8)
GOOD = {
  'images': np.stack([np.broadcast_to(
    (style * 100 + COLORS)[:, None, None, None], (NUM, 8, 8, 3)
  ) for style in (0, 1)]).astype(np.uint8),
  'styles': np.array(['flat', 'round']),
  'caption': np.array([f'thing {i}' for i in COLORS]),
  'base': np.array([f'{i // 2}' for i in COLORS]),
}  # fmt: skip


def run(tmp_path, arrays, *flags):
  np.savez(tmp_path / 'in.npz', **arrays)
  command = [sys.executable, SCRIPT, tmp_path / 'in.npz', tmp_path / 'out.npz', *flags]
  return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_splits_hold_whole_bases_and_pictures_keep_their_captions(tmp_path):
  done = run(tmp_path, GOOD, '--size=4')
  assert done.returncode == 0, done.stderr
  seen = []
  with np.load(tmp_path / 'out.npz') as out:
    for split, bases in (('train', 16), ('validation', 2), ('test', 2)):
      x, text = out[f'x_{split}'], out[f'text_{split}']
      assert x.shape == (bases * 4, 4, 4, 3)
      numbers = [int(t.split()[1].rstrip(',')) for t in text]
      styles = [t.split()[2] for t in text]
      assert (x[:, 0, 0, 0] % 100 == numbers).all()
      assert (x[:, 0, 0, 0] // 100 == [s == 'round' for s in styles]).all()
      assert (out[f'label_{split}'] == styles).all()
      seen.append({n // 2 for n in numbers})
  assert set.union(*seen) == set(range(20)) and sum(map(len, seen)) == 20


def test_styles_share_the_training_bases_and_have_one_order_of_test_pictures(tmp_path):
  done = run(tmp_path, GOOD, '--size=4', '--by_style')
  assert done.returncode == 0, done.stderr
  numbers = {}
  for i, style in enumerate(('flat', 'round')):
    with np.load(tmp_path / f'out_{style}.npz') as out:
      for split in ('train', 'test'):
        x, text = out[f'x_{split}'], out[f'text_{split}']
        found = [int(t.split()[1].rstrip(',')) for t in text]
        assert (x[:, 0, 0, 0] == 100 * i + np.array(found)).all()
        numbers[style, split] = found
  assert numbers['flat', 'test'] == numbers['round', 'test']
  bases = [{n // 2 for n in numbers[style, 'train']} for style in ('flat', 'round')]
  assert not bases[0] & bases[1] and len(bases[0] | bases[1]) == 16
  assert not (bases[0] | bases[1]) & {n // 2 for n in numbers['flat', 'test']}


@pytest.mark.slow
@pytest.mark.parametrize(
  ('changes', 'flags', 'word'),
  [
    ({'caption': GOOD['caption'][:7]}, (), 'caption has 7, but images have 40'),
    ({'base': GOOD['base'][:7]}, (), 'base has 7, but images have 40'),
    ({'images': GOOD['images'][0]}, (), 'images must be uint8 [S, N, H, W, C]'),
    ({}, ('--size=3',), 'size must divide 8 x 8 images, got 3'),
    ({}, ('--size=4', '--styles=square'), "no style 'square'; there are: flat, round"),
  ],
)
def test_wrong_files_are_one_line(tmp_path, changes, flags, word):
  done = run(tmp_path, {**GOOD, **changes}, *flags)
  assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
  assert word in done.stderr
