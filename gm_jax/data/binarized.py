"""Images of zeros and ones: every pixel drawn with its brightness as probability.

  P(x_d = 1) = raw_d / (K - 1)

`dynamic` draws training images anew whenever they are seen, `static` once and for
all. These are two data sets, and neither is the static MNIST that papers since 2011
share, which is one particular draw in a file of its own: log-likelihoods of different
ones do not compare. Validation and test images are drawn once in both.

Source: On the Quantitative Analysis of Deep Belief Networks, Salakhutdinov and Murray,
2008, ICML, section 4, which draws anew for each update.
"""

import itertools
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from gm_jax.data import dataset, transforms


def dynamic(name: str, load: Callable[..., dataset.Dataset], **options):
  """Makes zeros and ones of another set's images, drawn anew in every batch.

  Args:
    name: of the other set, as `load` knows it: 'digits', 'tfds:mnist'.
    load: (name, **options) -> the other Dataset.
    **options: of the other set.

  Returns:
    A Dataset, raw `x` of 0 and 1, which is what the model sees.

  Raises:
    ValueError: the other set has no levels, or an option `transform` is given.
  """
  return _binarize('dynamic', name, load, options)


def static(name: str, load: Callable[..., dataset.Dataset], **options):
  """Makes zeros and ones of another set's images, drawn once; see `dynamic`."""
  return _binarize('static', name, load, options)


def _binarize(kind: str, name: str, load: Callable, options: dict) -> dataset.Dataset:
  if 'transform' in options:
    raise ValueError(f'{kind}:{name} is of 0 and 1, which no transform changes')
  data = load(name, **options)
  if 'y' in data.spec.parts:
    raise ValueError(
      f'{data.name} has two domains: draw each, as in unpaired:{kind}:NAME|{kind}:NAME'
    )
  levels = data.spec.num_levels
  if levels is None or data.vocabulary or len(data.spec.shape) != 3:
    raise ValueError(
      f'only images of levels can be drawn as 0 and 1, but {data.name} has shape'
      f' {list(data.spec.shape)} and {levels or "no"} levels'
    )

  def draw(arrays: dict, *stream: int) -> dict:
    rng = np.random.default_rng(stream)
    noise = rng.random(arrays['x'].shape, np.float32)
    return {**arrays, 'x': (noise * (levels - 1) < arrays['x']).astype(np.uint8)}

  def arrays(split: str, num: int | None = None) -> dict:
    whole = data.arrays(split, None if data.spec.num_train else num)
    return {k: v[:num] for k, v in draw(whole, dataset.stream(split)).items()}

  def batches(split, batch_size, *, seed, start=0, shard=(0, 1)) -> Iterator[dict]:
    found = data.batches(split, batch_size, seed=seed, start=start, shard=shard)
    for position, batch in zip(itertools.count(start), found, strict=False):
      yield draw(batch, dataset.stream(split), seed, position, shard[0])

  spec = data.spec._replace(
    dtype=jnp.dtype(jnp.int32), num_levels=2, transform=transforms.levels(2)
  )
  named = f'{kind}:{data.name}'
  if kind == 'dynamic':
    return data._replace(
      name=named,
      spec=spec,
      batches=batches,
      arrays=arrays,
      rows=None,
      fingerprint=dataset.checksum(kind, data.fingerprint),
    )
  if not data.spec.num_train:
    raise ValueError(f'{data.name} is endless: it cannot be drawn once; use dynamic:')
  splits = {split: arrays(split) for split in _splits(data)}
  once = dataset.in_memory(named, spec, splits)
  return once._replace(
    class_names=data.class_names, domain_names=data.domain_names, tokenize=data.tokenize
  )


def _splits(data: dataset.Dataset) -> list[str]:
  """Finds out which of 'train', 'validation' and 'test' there are."""
  found = []
  for split in ('train', 'validation', 'test'):
    try:
      data.arrays(split, 1)
    except ValueError:
      continue
    found.append(split)
  return found
