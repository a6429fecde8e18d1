"""Images, and masks of them, that somebody brings to a trained model."""

import pathlib

import numpy as np

from gm_jax import base
from gm_jax.data import dataset, registry
from gm_jax.training import setup as setup_lib

MASKS = ('.npy', '.png')  # endings of files of masks
FILES = ('folder:', 'npz:')  # kinds of which all are taken, whatever splits there are


def load(
  name: str, data_dir: str | None = None, levels: int | None = 256
) -> dict[str, base.Array]:
  """All images of a folder or a file; the test split of other data sets.

  Args:
    name: of a data set, as --data takes it; of images in 256 levels.
    data_dir: of prepared data sets.
    levels: of the run's own images.

  Returns:
    Raw arrays by batch key, `x` `[N, H, W, C]` uint8 and what stands beside it.

  Raises:
    setup.UsageError: no data set of this name, or its images or the run's are not of
      256 levels.
    dataset.DataError: what is on disk cannot be used.
  """
  if levels != 256:
    have = 'real numbers' if levels is None else f'{levels} levels'
    raise setup_lib.UsageError(
      f'--images are of 256 levels, but those of this run are of {have}'
    )
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


def mask(text: str) -> str | np.ndarray:
  """A mask of images, where the text is a file's path; any other text as it is.

  Args:
    text: a path of a .npy file of booleans, zeros and ones, or of a .png file, white
      (at least half) where the image is known; or a name.

  Returns:
    Bool `[H, W]`, True where known, or the text.

  Raises:
    setup.UsageError: the file cannot be read, or is no mask.
  """
  if not text.lower().endswith(MASKS):
    return text
  try:
    found = _array(pathlib.Path(text))
  except (OSError, ValueError, EOFError, SyntaxError) as error:
    reason = getattr(error, 'strerror', None) or ' '.join(str(error).split())
    raise setup_lib.UsageError(f'mask={text} cannot be read: {reason}') from error
  if found.ndim == 3 and found.shape[2] == 1:
    found = found[..., 0]
  if found.ndim != 2 or not np.isin(found, (0, 1)).all():
    raise setup_lib.UsageError(
      f'mask={text} holds {found.dtype} {list(found.shape)}; a mask is [height, width]'
      ' of 1 where the image is known and 0 where it is hidden'
    )
  return found.astype(bool)


def _array(path: pathlib.Path) -> np.ndarray:
  if path.suffix.lower() == '.npy':
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, np.ndarray):
      raise ValueError('it holds several arrays')
    return found
  from PIL import Image  # heavy

  with Image.open(path) as image:
    return np.asarray(image.convert('L')) >= 128
