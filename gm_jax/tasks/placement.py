"""Are parts put where they were, and do they look as they did? For models of patches.

The data have `condition`, patches, and `mask` [N, H, W, P], where each was cut; the
method's samples are conditioned on the patches, and its query `sample_info` gives the
mask that it makes of them, [N, H, W, 1] in [0, 1].
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.losses import placement as losses
from gm_jax.tasks import density, quality, results

THRESHOLDS = np.arange(1, 20) / 20  # of the mean mask, of which the best is taken
CRITIC = 'critic'


def placement(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num: int = quality.TEST,
) -> base.Result:
  """Scores masks, places and looks of the parts of the test split.

  The intersection over union of masks, predicted ones above 1/2, has its bar in the
  best that a single mask for all images reaches: the train split's mean mask, above
  the threshold that is best there. The places are read off the painted image: each
  part of the real one, at its true scale, is sought in it by squared differences.

  Args:
    method: of patches, with the queries `sample_info` and `critic`.
    model: its parameters.
    key: of the samples.
    arrays: raw, 'test' and 'train', by split.
    spec: of the data.
    num: examples of each split, at most.

  Returns:
    `mask_iou` and `mask_iou_of_mean`; `place_error`, the mean distance in pixels from
    where a part was to where it is found, and `place_error_of_another`, of the painted
    image of another example; `appearance_error`, the mean absolute difference between
    painted and real pixels of the parts, of [-1, 1], likewise `..._of_another`;
    `margin_parts` and `margin_ground`, how much higher the critic's logits are of real
    images than of those with the parts, or the ground, of another; and
    `margin_positive`, the fraction of both that are above 0.

  Raises:
    ValueError: the method lacks a query, or the data lack patches or masks.
  """
  query = results.query_of(method, 'sample_info')
  critic = results.query_of(method, CRITIC)
  test, train = (_split(spec, arrays, split, num) for split in ('test', 'train'))
  condition = results.condition_of(method.card, test)
  x, each = test['x'], jnp.asarray(test['mask'])
  mask = each.max(axis=3, keepdims=True)
  size = len(x)
  image, found = query(model, key, size, condition=condition)

  iou = intersection_over_union(found['mask'] > 0.5, mask)
  mean = best_mean_mask(train['mask'])
  iou_of_mean = intersection_over_union(jnp.broadcast_to(mean, mask.shape), mask)
  errors = {}
  for name, painted in (('', image), ('_of_another', jnp.roll(image, 1, axis=0))):
    places = density.in_chunks(place_errors, painted, (x, each))
    looks = jnp.abs(mask * (painted - x)).mean(axis=3).sum() / mask.sum()
    errors |= {f'place_error{name}': places.mean(), f'appearance_error{name}': looks}

  other = jnp.roll(x, 1, axis=0)
  mixed = losses.composite(other, x, mask), losses.composite(x, other, mask)
  real, *fake = (
    density.in_chunks(lambda x: critic(model, key, x), y) for y in (x, *mixed)
  )
  margins = [(real - f).reshape(size, -1).mean(axis=1) for f in fake]
  n = f'N = {size}'
  kinds = {
    'place_error': f'pixels, best match of each part, {n}',
    'place_error_of_another': f'pixels, in another painted image, {n}',
    'appearance_error': f'mean absolute difference in the parts, {n}',
    'appearance_error_of_another': f'to another painted image, {n}',
  }
  return base.Result({
    'mask_iou': (iou.mean(), f'mean, predicted above 1/2, {n}'),
    'mask_iou_of_mean': (iou_of_mean.mean(), f'of the best single mask, {n}'),
    **{name: (errors[name], kind) for name, kind in kinds.items()},
    'margin_parts': (margins[0].mean(), f'mean of logits, {n}'),
    'margin_ground': (margins[1].mean(), f'mean of logits, {n}'),
    'margin_positive': ((jnp.stack(margins) > 0).mean(), f'fraction, {n}'),
  })  # fmt: skip


def intersection_over_union(first: base.Array, second: base.Array) -> base.Array:
  """The intersection of masks `[N, ...]` over their union, `[N]`; 1 of two empty ones.

  Args:
    first: `[N, ...]`, True or above 0 where it is.
    second: the same.
  """
  first, second = ((m > 0).reshape(len(m), -1) for m in (first, second))
  union = (first | second).sum(axis=1)
  return jnp.where(union > 0, (first & second).sum(axis=1) / jnp.maximum(union, 1), 1.0)


def best_mean_mask(masks: base.Array) -> base.Array:
  """The mean mask above the threshold at which its overlap with all is largest.

  Args:
    masks: `[N, H, W, P]`.

  Returns:
    `[H, W, 1]` bool.
  """
  union = masks.max(axis=3, keepdims=True)
  mean = union.mean(axis=0)

  def score(threshold):
    one = jnp.broadcast_to(mean > threshold, union.shape)
    return intersection_over_union(one, union).mean()

  thresholds = jnp.asarray(THRESHOLDS, jnp.float32)
  return mean > thresholds[jnp.argmax(jax.lax.map(score, thresholds))]


def place_errors(image: base.Array, real: tuple[base.Array, base.Array]) -> base.Array:
  """How far from its place each part of a real image is found in another image.

  Args:
    image: `[N, H, W, C]`, in which is sought.
    real: x `[N, H, W, C]` and masks `[N, H, W, P]`, boxes of parts.

  Returns:
    `[N, P]` pixels, from the part's place to that, within the image, at which the sum
    of squared differences to it is least; the nearest of equal ones.
  """
  x, masks = real
  height, width, num = masks.shape[1:]
  # Correlations with every shift, of images padded so that none wraps around.
  padded = 2 * height, 2 * width

  def transform(a):
    return jnp.fft.rfft2(a, s=padded, axes=(1, 2))

  def correlation(part, y):
    return jnp.fft.irfft2(jnp.conj(part) * y, s=padded, axes=(1, 2))

  squares = transform(jnp.square(image).sum(axis=3))
  channels = transform(image)
  down = jnp.fft.fftfreq(padded[0], 1 / padded[0])[:, None]
  right = jnp.fft.fftfreq(padded[1], 1 / padded[1])[None]
  far = jnp.sqrt(down**2 + right**2)

  def one(part):  # [N, H, W]
    cost = correlation(transform(part), squares)
    products = correlation(transform(part[..., None] * x), channels).sum(axis=3)
    cost = (
      cost
      - 2 * products
      + (part * jnp.square(x).sum(axis=3)).sum((1, 2))[:, None, None]
    )
    rows, columns = part.max(axis=2), part.max(axis=1)
    inside = _inside(rows, down[:, 0])[:, :, None] & _inside(columns, right[0])[:, None]
    cost = jnp.where(inside, cost, jnp.inf)
    least = cost.min(axis=(1, 2), keepdims=True)
    # What differs by rounding only is equal.
    near = cost <= least + 1e-4 * (1 + jnp.abs(least))
    return jnp.where(near, far, jnp.inf).min(axis=(1, 2))

  return jnp.stack([one(masks[..., p]) for p in range(num)], axis=1)


def _inside(line: base.Array, shift: base.Array) -> base.Array:
  """Whether a range, 1 in `[N, L]`, is within L after each shift `[S]`: `[N, S]`."""
  size = line.shape[1]
  first = jnp.argmax(line > 0, axis=1)[:, None]
  last = size - 1 - jnp.argmax(line[:, ::-1] > 0, axis=1)[:, None]
  return (first + shift >= 0) & (last + shift <= size - 1)


def _split(spec, arrays, name, num):
  """A split in model space; see `tasks.texts`."""
  data = results.in_model_space(spec, results.split_of(arrays, name), num)
  missing = [k for k in ('condition', 'mask') if k not in data]
  if missing or data['condition'].ndim != 5:
    raise ValueError(
      f'placement needs patches and where they were cut, as of patches:NAME; the {name}'
      f' split has {sorted(data)}'
    )
  return jax.lax.optimization_barrier(data)
