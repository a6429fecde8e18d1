"""Images of which a part is hidden, completed several times, and how well.

For any method with the query `impute`. Errors are root mean squares of a hidden number
of an image in model space. Of draws from the true distribution of what is hidden given
the rest, the squared error of one is twice the variance between them, and that of the
mean of n is 1 + 1/n times it.
"""

import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.tasks import results

Mask = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _inside(y: np.ndarray, x: np.ndarray, top: float, left: float) -> np.ndarray:
  """A box of half the sides."""
  return (y >= top) & (y < top + 0.5) & (x >= left) & (x < left + 0.5)


# What is hidden, by name, of pixels at y and x in [0, 1), `[H, W]` each.
MASKS: Mapping[str, Mask] = types.MappingProxyType({
  'half': lambda y, x: y >= 0.5,  # the lower one
  'side': lambda y, x: x >= 0.5,  # the right one
  'center': lambda y, x: _inside(y, x, 0.25, 0.25),
  'border': lambda y, x: ~_inside(y, x, 0.25, 0.25),
  'box': lambda y, x: _inside(y, x, *np.random.default_rng(0).uniform(0, 0.5, 2)),
  'random': lambda y, x: np.random.default_rng(0).random(y.shape) < 0.5,
  'lines': lambda y, x: np.arange(y.size).reshape(y.shape) // y.shape[1] % 2 == 1,
})  # fmt: skip


def observed_of(mask: str | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """The pixels that are known, by name or as they are, checked.

  Args:
    mask: of `MASKS`, or bool `[H, W]`, True where known.
    shape: of an image, (H, W, C).

  Returns:
    Bool `[H, W]`, True where known; always the same for a name.

  Raises:
    ValueError: no images, no such name, another shape, or all or nothing is hidden.
  """
  if len(shape) != 3:
    raise ValueError(
      f'in-painting is of images [H, W, C], and an example of these data is'
      f' {list(shape)}'
    )
  name, size = 'the mask', shape[:2]
  if isinstance(mask, str):
    if mask not in MASKS:
      known = ', '.join(MASKS)
      raise ValueError(
        f'no mask {mask!r}; there are: {known}, or the path of a .npy or .png file'
      )
    y, x = np.meshgrid(*(np.arange(n) / n for n in size), indexing='ij')
    name, mask = f'mask = {mask!r}', ~MASKS[mask](y, x)
  if mask.shape != size:
    found, wanted = ('x'.join(map(str, s)) for s in (mask.shape, size))
    raise ValueError(f'a mask of {found} (height, width), but images are of {wanted}')
  if mask.all() or not mask.any():
    what = 'nothing' if mask.all() else 'everything'
    raise ValueError(f'{name} hides {what}: hide a part')
  return mask


def inpaint(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  condition: Callable[[int], Any] | None = None,
  mask: str | np.ndarray = 'half',
  split: str = 'test',
  num: int = 8,
  example: int = 0,
  completions: int = 8,
) -> base.Result:
  """Completes images of a split.

  Args:
    method: with the query `impute`.
    model: its parameters.
    key: of the completions.
    arrays: raw, by split.
    spec: of the data.
    condition: num -> conditions `[num, ...]` in model space, one an image; None is that
      of the image itself, where the data have it.
    mask: of `MASKS`, or bool `[H, W]`, True where known.
    split: whose images are completed.
    num: images, at most.
    example: the first of them.
    completions: of each image.

  Returns:
    `num`, `error` of one completion, `error_of_mean` of their mean, `spread`, their
    standard deviation, where there are several, and `known_change`, the largest
    difference of what is known; arrays `inputs` `[N, ...]`, `mask` `[H, W]`, `outputs`
    `[N * completions, ...]`, image by image, and a grid: an image, what is known of it,
    its completions in a row.

  Raises:
    ValueError: the method does not impute, no such mask, images of another shape, a
      number out of range.
  """
  query, raw = results.query_of(method, 'impute'), results.split_of(arrays, split)
  seen = observed_of(mask, spec.shape)
  if num < 1 or completions < 1 or not 0 <= example < len(raw['x']):
    raise ValueError(
      f'num and completions must be >= 1, and example from 0 to {len(raw["x"]) - 1},'
      f' got {num}, {completions} and {example}'
    )
  raw = {name: a[example : example + num] for name, a in raw.items()}
  images = results.images_of_shape(raw['x'], spec.shape)
  data = results.in_model_space(spec, raw)
  value = _condition(method.card, data, condition)
  x, observed = data['x'], jnp.broadcast_to(seen[..., None], spec.shape)

  def complete(inputs):
    index, one, value = inputs
    value = jax.tree.map(lambda a: a[None], value)
    what = (model, jax.random.fold_in(key, index), one[None], observed[None])
    return query(*what, num=completions, condition=value)[:, 0]

  out = jax.lax.map(complete, (jnp.arange(len(x)), x, value))  # [N, n, ...]
  hidden = 1 - seen.mean()
  gray = spec.transform.inverse(jnp.zeros_like(x))
  outputs = spec.transform.inverse(out.reshape(-1, *spec.shape))
  rows = outputs.reshape(out.shape)
  first = jnp.stack([images, jnp.where(observed, images, gray)], axis=1)
  return base.Result(
    _numbers(x, out, observed, f'{hidden:.0%} hidden'),
    {
      'inputs': images,
      'mask': jnp.asarray(seen),
      results.OUTPUTS: outputs,
      results.GRID: jnp.concatenate([first.astype(rows.dtype), rows], axis=1),
    },
  )


def _condition(card: base.Card, data: base.Batch, condition) -> Any:
  """The condition of each image, `[N, ...]`, or None."""
  if condition is not None:
    return jax.tree.map(jnp.asarray, condition(len(data['x'])))
  if not card.condition or any(name not in data for name in card.condition):
    return None
  return results.condition_of(card, data)


def _numbers(x, out, observed, what: str) -> dict:
  """Errors of completions `[N, n, ...]` of x `[N, ...]`, by name, with their kinds."""
  num, each = out.shape[:2]
  hidden = 1.0 - observed

  def root(squares):  # `[N, n, ...]`, of what is hidden
    mean = (squares * hidden).sum(axis=(2, 3, 4)).mean() / hidden.sum()
    return jnp.sqrt(mean)

  gap = out - x[:, None]
  size = f'N = {num} images, {each} completions of each'
  kind = f'root mean square, {size}'
  found = {
    'num': (jnp.asarray(num), f'images, {each} completions of each, {what}'),
    'error': (root(jnp.square(gap)), kind),
    'error_of_mean': (root(jnp.square(gap.mean(axis=1, keepdims=True))), kind),
    'known_change': (
      jnp.max(jnp.abs(gap) * observed), f'largest difference of what is known, {size}'
    ),
  }  # fmt: skip
  if each > 1:
    variance = out.var(axis=1, ddof=1, keepdims=True)
    found['spread'] = root(variance), f'standard deviation between completions, {size}'
  return found
