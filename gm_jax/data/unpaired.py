"""Two data sets as the two domains of one: `x` and `y`, which do not belong together.

Each domain has an order of its own and its own epochs, so that the sizes may differ and
nothing is learned from which x stands beside which y. Where the test examples of one
index do belong together, `arrays('pairs')` gives them, for evaluation alone.
"""

from gm_jax import base
from gm_jax.data import dataset, splits


def unpaired(
  x: dataset.Dataset, y: dataset.Dataset, *, paired: bool = False
) -> dataset.Dataset:
  """Joins two data sets into one of batches with `x` and `y`.

  Whatever the first set has beside x stays, as `label`; of the second only its x is
  taken, which becomes `y`, in a space of its own: `spec.parts['y']`.

  Args:
    x: the first domain.
    y: the second domain, of any shape.
    paired: whether test examples of one index belong together. Then `arrays('pairs')`
      gives them; no batches do.

  Returns:
    A Dataset. Its `arrays` have as many x as y, those of the smaller domain.

  Raises:
    ValueError: the first set has `y` already, or the sets cannot be paired.
  """
  name = f'unpaired:{x.name}|{y.name}'
  if 'y' in x.spec.parts:
    raise ValueError(f'{x.name} has a second domain already: it cannot be {name}')
  if paired:
    splits.check_aligned((x, y))

  def batches(split, batch_size, *, seed, start=0, shard=(0, 1)):
    splits.refuse_pairs(name, split)
    options = {'start': start, 'shard': shard}
    of_x = x.batches(split, batch_size, seed=seed, **options)
    of_y = y.batches(split, batch_size, seed=dataset.derive_seed(seed, 'y'), **options)
    return map(_join, of_x, of_y)

  def arrays(split, num=None):
    if split == splits.PAIRS:
      splits.check_paired(name, paired)
      split = 'test'
    joined = _join(x.arrays(split, num), y.arrays(split, num))
    least = min(map(len, joined.values()))
    return {key: array[:least] for key, array in joined.items()}

  spec = y.spec
  part = base.Part(spec.shape, spec.dtype, spec.num_levels, spec.transform)
  return x._replace(
    name=name,
    spec=x.spec._replace(parts={**x.spec.parts, 'y': part}),
    batches=batches,
    arrays=arrays,
    rows=None,
    fingerprint=dataset.checksum('unpaired', x.fingerprint, y.fingerprint),
  )


def _join(of_x: dict, of_y: dict) -> dict:
  return {**of_x, 'y': of_y['x']}
