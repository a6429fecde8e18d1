"""A few key patches of every image, without their places: what Puzzle-GANs are given.

Patches are cut where the image has most contrast, windows of several heights and
widths: each has the most standard deviation of its pixels, less where others lie
already. Each is resized to the size of the whole image, so that it tells neither its
place nor its scale nor its aspect. Nothing is flipped: a mirrored character is another.

The heights and widths of the patches of example i are a function of the split and i,
their places of these and the image, so that they are the same in every epoch.

Source: Unsupervised Holistic Image Generation from Key Local Patches, Lee et al., 2017,
arXiv:1703.10730, section 4, where proposals of objects (Edge Boxes) are cut.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import dataset, transforms

MOST = 16  # patches of an image
LEAST = 2  # pixels of a side


def patches(
  name: str,
  load: Callable[..., dataset.Dataset],
  *,
  parts: int = 3,
  smallest: float = 0.2,
  largest: float = 0.35,
  **options,
) -> dataset.Dataset:
  """Makes patches of another set's images, beside them.

  `condition` `[B, P, H, W, C]` are the patches, pixels as those of x; `mask`
  `[B, H, W, P]` bool is True where each was cut. Whatever else the set has stays.

  Args:
    name: of the other set, as `load` knows it: 'glyphs', 'folder:/pics'.
    load: (name, **options) -> the other Dataset.
    parts: P, patches of an image.
    smallest: side of a patch, of the image's, at least.
    largest: side of a patch, of the image's, at most.
    **options: of the other set.

  Returns:
    A Dataset.

  Raises:
    ValueError: the other set has no images, or they are drawn anew in every batch; a
      number out of range.
  """
  if not 1 <= parts <= MOST:
    raise ValueError(f'parts must be from 1 to {MOST}, got {parts}')
  if not 0 < smallest <= largest <= 1:
    raise ValueError(
      f'smallest and largest must be 0 < smallest <= largest <= 1, got {smallest:g} and'
      f' {largest:g}'
    )
  data = load(name, **options)
  spec = data.spec
  if len(spec.shape) != 3:
    raise ValueError(
      f'patches are cut out of images [H, W, C], but {data.name} has shape'
      f' {list(spec.shape)}'
    )
  if data.rows is None:
    raise ValueError(
      f'{data.name} is drawn anew in every batch or has two domains: cut patches first,'
      ' as in dynamic:patches:NAME'
    )
  height, width, channels = spec.shape
  if largest * min(height, width) < LEAST:
    raise ValueError(
      f'images of {height} x {width} are too small for patches of at most {largest:g}'
      ' of a side'
    )
  sides = [
    np.arange(max(LEAST, round(smallest * n)), max(LEAST, round(largest * n)) + 1)
    for n in (height, width)
  ]

  def rows(split, inner):
    sizes = _sizes(split, inner.num, parts, sides)
    known = np.full((inner.num, parts, 4), -1, np.int16)  # boxes, once they are found

    def get(index):
      arrays = inner.get(index)
      fresh = known[index, 0, 0] < 0
      if fresh.any():
        known[index[fresh]] = boxes(arrays['x'][fresh], sizes[index[fresh]])
      found = known[index].astype(int)
      more = {'condition': cut(arrays['x'], found), 'mask': masks(found, spec.shape)}
      return {**arrays, **more}

    return dataset.Rows(inner.num, get, decodes=True)

  of_pixels = base.Part(
    (parts, *spec.shape), spec.dtype, spec.num_levels, spec.transform
  )
  of_mask = base.Part(
    (height, width, parts), jnp.dtype(jnp.float32), None, transforms.identity()
  )
  made = dataset.from_rows(
    f'patches:{data.name}',
    spec._replace(parts={**spec.parts, 'condition': of_pixels, 'mask': of_mask}),
    {split: rows(split, inner) for split, inner in data.rows.items()},
    memory=False,  # batch by batch: to cut all would take seconds at every start
    fingerprint=dataset.checksum('patches', data.fingerprint, parts, smallest, largest),
  )
  return data._replace(
    **{k: getattr(made, k) for k in ('name', 'spec', 'batches', 'arrays', 'rows')},
    fingerprint=made.fingerprint,
  )


def _sizes(split: str, num: int, parts: int, sides) -> np.ndarray:
  """Draws the heights and widths of the patches of a split, `[num, P, 2]`."""
  rng = np.random.default_rng(dataset.stream(split))
  return np.stack([rng.choice(s, (num, parts)).astype(np.int16) for s in sides], 2)


def boxes(x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  """Finds where windows of these sizes have most contrast.

  The score of a window is the root of the sum of its channels' variances, times the
  fraction of it that no earlier window covers; of equal ones the first is taken, from
  the top left.

  Args:
    x: `[N, H, W, C]` pixels.
    sizes: `[N, P, 2]` heights and widths.

  Returns:
    `[N, P, 4]` int, of each window its top, left, height and width.
  """
  num, height, width, _ = x.shape
  pixels = x.astype(np.float64 if x.dtype.kind == 'f' else np.int64)
  totals = [_integral(pixels), _integral((pixels**2).sum(axis=3, keepdims=True))]
  taken = np.zeros((num, height, width, 1), bool)
  found = np.concatenate([np.zeros_like(sizes), sizes], axis=2).astype(int)
  for p in range(sizes.shape[1]):
    covered = _integral(taken)
    for h, w in np.unique(sizes[:, p], axis=0):
      rows = np.flatnonzero((sizes[:, p] == (h, w)).all(axis=1))
      first, second, inside = (
        _windows(t[rows], h, w) / (h * w) for t in (*totals, covered)
      )
      variance = second[..., 0] - (first**2).sum(axis=3)
      # Rounded, so that equal windows are equal whatever the sums' last digits.
      score = np.sqrt(np.maximum(variance, 0)) * (1 - inside[..., 0])
      best = np.round(score, 6).reshape(len(rows), -1).argmax(axis=1)
      found[rows, p, :2] = np.stack(np.divmod(best, score.shape[2]), axis=1)
    taken |= masks(found[:, p : p + 1], x.shape[1:])
  return found


def cut(x: np.ndarray, found: np.ndarray) -> np.ndarray:
  """Cuts windows and resizes each to the size of the image, by a triangle filter.

  Args:
    x: `[N, H, W, C]` pixels.
    found: `[N, P, 4]` of `boxes`.

  Returns:
    `[N, P, H, W, C]` of the dtype of x; integers are rounded.
  """
  top, left, height, width = np.moveaxis(found, 2, 0)
  rows, columns = _resizing(top, height, x.shape[1]), _resizing(left, width, x.shape[2])
  channels = np.moveaxis(x, 3, 1)[:, None].astype(np.float32)  # [N, 1, C, H, W]
  out = rows[:, :, None] @ channels @ np.swapaxes(columns, 2, 3)[:, :, None]
  out = np.moveaxis(out, 2, 4)
  return np.floor(out + 0.5).astype(x.dtype) if x.dtype.kind in 'iu' else out


def masks(found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Marks the pixels of windows.

  Args:
    found: `[N, P, 4]` of `boxes`.
    shape: (H, W, ...) of the images.

  Returns:
    `[N, H, W, P]` bool.
  """
  top, left, height, width = (v[:, None] for v in np.moveaxis(found, 2, 0))
  y, x = (np.arange(n)[:, None] for n in shape[:2])
  rows, columns = (y >= top) & (y < top + height), (x >= left) & (x < left + width)
  return rows[:, :, None] & columns[:, None]


def _integral(x: np.ndarray) -> np.ndarray:
  """Sums of x `[N, H, W, C]` above and left of every corner, `[N, H + 1, W + 1, C]`."""
  return np.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0))).cumsum(axis=1).cumsum(axis=2)


def _windows(total: np.ndarray, h: int, w: int) -> np.ndarray:
  """Sums over every window of one size, `[N, H + 1 - h, W + 1 - w, C]`."""
  bottom, top = total[:, h:], total[:, :-h]
  return bottom[:, :, w:] - bottom[:, :, :-w] - top[:, :, w:] + top[:, :, :-w]


def _resizing(start: np.ndarray, length: np.ndarray, size: int) -> np.ndarray:
  """Weights of pixels that resize a range of them to all, `[..., size, size]`.

  Output i is a mean of the range's pixels about the place (i + 1/2) length / size, by
  a triangle that is as wide as an output pixel, or as an input pixel where that is
  wider: linear interpolation.
  """
  start, length = (v[..., None, None] for v in (start, length))
  scale = length / size
  place = start + (np.arange(size)[:, None] + 0.5) * scale
  pixel = np.arange(size)
  weight = np.maximum(0, 1 - np.abs(pixel + 0.5 - place) / np.maximum(scale, 1))
  weight = weight * ((pixel >= start) & (pixel < start + length))
  return (weight / weight.sum(axis=-1, keepdims=True)).astype(np.float32)
