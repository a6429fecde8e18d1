"""Images that somebody brings to a trained model."""

from gm_jax import base
from gm_jax.data import dataset, registry
from gm_jax.training import setup as setup_lib

FILES = ('folder:', 'npz:')  # kinds of which all are taken, whatever splits there are


def load(name: str, data_dir: str | None = None) -> dict[str, base.Array]:
  """All images of a folder or a file; the test split of other data sets.

  Args:
    name: of a data set, as --data takes it; of images in 256 levels.
    data_dir: of prepared data sets.

  Returns:
    Raw arrays by batch key, `x` `[N, H, W, C]` uint8 and what stands beside it.

  Raises:
    setup.UsageError: no data set of this name, or not of images in 256 levels.
    dataset.DataError: what is on disk cannot be used.
  """
  whole = {'whole': True} if name.startswith(FILES) else {}
  try:
    data = registry.load(name, data_dir=data_dir, **whole)
    if len(data.spec.shape) != 3 or data.spec.num_levels != 256:
      raise ValueError(f'--images={name} must be images of 256 levels')
    split = 'train' if whole and 'test' not in (data.rows or ()) else 'test'
    return data.arrays(split)
  except ValueError as error:
    raise setup_lib.UsageError(' '.join(str(error).split())) from error
  except dataset.DataError as error:
    raise dataset.DataError(' '.join(str(error).split())) from error
