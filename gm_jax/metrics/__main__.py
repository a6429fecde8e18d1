"""Scores images beside others, from the command line.

  python -m gm_jax.metrics A B [--metrics=frechet,prdc,kernel] [--features=pixels]

A are the real images and B the samples: folders of images, .npz files with an array x
[N, H, W, C], or data sets by name as `gm_jax.data.registry` has them, with options
after a '?' (folder:A?size=32&mode=RGB, npz:A.npz?levels=17, digits).
"""

import argparse
import contextlib
import json
import os
import pathlib
import sys

METRICS = 'frechet, prdc, kernel, inception_score, two_sample, neighbors, diversity'


class _Parser(argparse.ArgumentParser):
  """A parser whose errors are one line."""

  def error(self, message):
    self.exit(2, f'error: {" ".join(message.split())}\n')


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog='python -m gm_jax.metrics',
    description='Scores samples B beside real images A: folders, .npz files, or names.',
    epilog='Every table says how its numbers were made; compare only what agrees.',
  )
  parser.add_argument('real', metavar='A', help='the real images')
  parser.add_argument('fake', metavar='B', help='the samples')
  parser.add_argument(
    '--metrics', default='frechet,prdc,kernel', help=f'with commas between: {METRICS}'
  )
  parser.add_argument(
    '--features', default='', help='pixels, classifier (of the classes of A, whose'
    ' sub-folders or labels name them), or inception:FILE, with ?resize=clean after it;'
    ' the classifier where A has classes, else pixels',
  )  # fmt: skip
  parser.add_argument(
    '--num', type=int, help='images of each, at most, drawn by --seed'
  )
  parser.add_argument('--seed', type=int, default=0, help='of all choices')
  parser.add_argument('--k', type=int, default=5, help='of the neighbor in prdc')
  parser.add_argument('--lpips', default='', help='a file of weights, for diversity')
  parser.add_argument('--json', help='file that the numbers are written to')
  parser.add_argument('--picture', help='PNG file of neighbors: samples at the left')
  return parser


def main(argv: list[str] | None = None) -> int:
  """Prints a table, or one line of what is wrong; returns the exit code."""
  chosen = _parser().parse_args(argv)
  # Below, so that --help and mistakes take no time.
  from gm_jax.data import dataset

  try:
    _run(chosen)
    sys.stdout.flush()
  except BrokenPipeError:
    with contextlib.suppress(OSError):
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
  except (dataset.DataError, ValueError, OSError, MemoryError) as error:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('error: stopped', file=sys.stderr)
    return 130
  return 0


def _run(chosen) -> None:
  import jax
  import numpy as np

  from gm_jax import caches
  from gm_jax.metrics import extractors, scores

  names = chosen.metrics.split(',')
  scores.check_names(names)
  _check(chosen, names, scores.NEIGHBORS)
  if caches.folder() is not None and not jax.config.jax_compilation_cache_dir:
    jax.config.update('jax_compilation_cache_dir', str(caches.folder()))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  perceptual = scores.perceptual(chosen.lpips) if chosen.lpips else None
  real, fake = (
    _Images(path, chosen.num, chosen.seed) for path in (chosen.real, chosen.fake)
  )
  _check_alike(real, fake)
  features = chosen.features or ('classifier' if real.num_classes else 'pixels')
  with contextlib.redirect_stdout(sys.stderr):  # the table alone is the output
    extractor = extractors.by_name(features, real.labeled)
  sets = scores.Sets(
    real=real,
    fake=fake,
    real_statistics=extractors.statistics(extractor, real),
    fake_statistics=extractors.summary(*extractors.extract(extractor, fake)),
    k=chosen.k,
    perceptual=perceptual,
  )
  found = scores.score(jax.random.key(chosen.seed), names, sets)
  protocol = extractors.Protocol(
    extractor, len(real), len(fake), real.chosen, real.shape[1:3], True
  )
  _print(found, protocol)
  if chosen.json:
    record = {
      'real': chosen.real, 'fake': chosen.fake, 'protocol': protocol.line(),
      'values': {name: float(value) for name, (value, _) in found.values.items()},
      'kinds': {name: kind for name, (_, kind) in found.values.items()},
    }  # fmt: skip
    pathlib.Path(chosen.json).write_text(json.dumps(record, indent=2) + '\n')
  if chosen.picture:
    rows = scores.neighbor_rows(np.asarray(fake[: scores.ROWS]), real,
                                found.arrays[scores.NEIGHBORS])  # fmt: skip
    _draw(rows, chosen.picture)


def _check(chosen, names, neighbors) -> None:
  same = all(map(os.path.exists, (chosen.real, chosen.fake))) and os.path.samefile(
    chosen.real, chosen.fake
  )
  if same or chosen.real == chosen.fake:
    raise ValueError(f'A and B are the same, {chosen.real}')
  if chosen.num is not None and chosen.num < 1:
    raise ValueError(f'--num must be 1 or more, got {chosen.num}')
  if chosen.seed < 0:
    raise ValueError(f'--seed must be 0 or more, got {chosen.seed}')
  if chosen.picture and neighbors not in names:
    raise ValueError('--picture is of neighbors: add it to --metrics')
  for path in filter(None, (chosen.json, chosen.picture)):
    if not pathlib.Path(path).absolute().parent.is_dir():
      raise ValueError(f'{path}: its folder does not exist')


def _check_alike(real, fake) -> None:
  if real.shape[1:] != fake.shape[1:]:
    sizes = ['x'.join(map(str, images.shape[1:])) for images in (real, fake)]
    raise ValueError(
      f'images of A are {sizes[0]} and of B {sizes[1]} (height, width, channels): as'
      ' folder:PATH?size=32 or folder:PATH?mode=RGB they become alike'
    )


class _Images:
  """All images of a data set, `[N, H, W, C]` uint8, decoded as slices are taken."""

  def __init__(self, path: str, num: int | None, seed: int):
    import jax
    import numpy as np

    from gm_jax.metrics import extractors

    data = _load(path)
    self._rows = list((data.rows or {}).values())
    self._starts = np.cumsum([0, *(rows.num for rows in self._rows)])
    total = int(self._starts[-1])
    extractors.check_layout((total, *data.spec.shape), path)
    self._order = np.arange(total)
    if num is not None and num < total:
      chosen = np.random.default_rng(seed).permutation(total)[:num]
      self._order = np.sort(chosen)
    self.path, self.num_classes = path, data.spec.num_classes
    self.shape = (len(self._order), *data.spec.shape)
    self.chosen = 'all' if len(self) == total else f'of {total}, drawn by seed {seed}'
    levels = data.spec.num_levels
    if levels:
      self._pixels = lambda part: extractors.scaled(self._arrays(part)['x'],
                                                    (0, levels - 1))  # fmt: skip
      return
    # Floats lie in memory; the way to model space finds their interval.
    forward, raw = data.spec.transform.forward, self._arrays(slice(None))['x']
    whole = np.asarray(forward(jax.random.key(0), raw))
    whole = extractors.as_images(whole, interval=(-1, 1), what=f'{path}, x')
    self._pixels = whole.__getitem__

  def _arrays(self, part: slice) -> dict:
    """Raw arrays of some of the images, of whatever split they are."""
    import numpy as np

    index = self._order[part]
    place = np.searchsorted(self._starts, index, side='right') - 1
    found = [
      rows.get(index[place == i] - self._starts[i])
      for i, rows in enumerate(self._rows)
      if (place == i).any()
    ]
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, part: slice):
    return self._pixels(part)

  def labeled(self) -> tuple:
    """The name, images with labels to train on and to test with, number of classes."""
    import numpy as np

    if not self.num_classes:
      raise ValueError(
        f'{self.path} has no classes for the features of a classifier: make a'
        ' sub-folder a class, or name --features=pixels or inception:FILE'
      )
    images, labels = self[:], self._arrays(slice(None))['label']
    order = np.random.default_rng(0).permutation(len(self))
    held = max(1, len(self) // 10)  # as many as a split of tenths holds out
    test, train = np.split(order, [held])
    name = os.path.basename(os.path.normpath(self.path)) or 'images'
    pairs = [(images[part], labels[part]) for part in (train, test)]
    return name, *pairs, self.num_classes


def _load(path: str):
  """The data set of a path or of a name."""
  from gm_jax.data import registry

  if os.path.isdir(path):
    return registry.load(f'folder:{path}{_END * ("?" in path)}')
  if path.endswith('.npz') or os.path.isfile(path):
    return registry.load(f'npz:{path}{_END * ("?" in path)}')
  if ':' not in path and os.sep in path:
    raise ValueError(f'{path}: no such folder or file')
  return registry.load(path)


_END = '?'  # a path that holds one ends in one, as `registry` says


def _print(found, protocol) -> None:
  for name, (value, kind) in found.values.items():
    print(f'{name:<24} {float(value):<12.6g} {kind}')
  print(f'protocol                 {protocol.line()}')


def _draw(rows, path: str) -> None:
  """Draws images [rows, columns, H, W, C] with lines of white between."""
  import numpy as np
  from PIL import Image

  rows = np.pad(rows, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=255)
  height, width = rows.shape[0] * rows.shape[2], rows.shape[1] * rows.shape[3]
  picture = rows.transpose(0, 2, 1, 3, 4).reshape(height, width, -1)
  scale = max(1, 512 // height)
  image = Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture)
  image = image.resize((width * scale, height * scale), Image.Resampling.NEAREST)
  image.save(path, 'PNG')


if __name__ == '__main__':
  sys.exit(main())
