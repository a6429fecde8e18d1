"""Pixels out of encoded images, the same for every source of them.

An image is made upright, transparency is laid on white, 16 bits become 8, and then it
is converted to gray ('L') or color ('RGB'). Where a size is asked for, the largest
central square is cut out and resized with antialiasing (Lanczos).
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

MAX_PIXELS = 2**26  # of an image file, by its header: 64 Mpixel
MAX_SIZE = 4096
GRAY = frozenset({'1', 'L', 'LA', 'La', 'I', 'I;16', 'I;16L', 'I;16B', 'I;16N'})


def check_size(size: int | None) -> None:
  """Raises ValueError unless a side in pixels can be `size`."""
  if size is not None and not 1 <= size <= MAX_SIZE:
    raise ValueError(f'size must be from 1 to {MAX_SIZE}, got {size}')


@contextlib.contextmanager
def no_bombs() -> Iterator[None]:
  """Makes a context in which PIL raises where it would warn of a huge header.

  It is for one thread only, as every context of warnings; `header` is to be used in it.
  """
  from PIL import Image  # heavy

  with warnings.catch_warnings():
    warnings.simplefilter('error', Image.DecompressionBombWarning)
    yield


def header(file: str) -> tuple[tuple[int, int], bool]:
  """Reads (height, width), and whether there is color, by the file's header.

  Raises:
    ValueError: the header claims too many pixels.
    Exception: whatever PIL meets in a file that is no image.
  """
  from PIL import Image  # heavy

  try:
    with Image.open(file) as image:
      width, height = image.size
      if width * height > MAX_PIXELS:
        raise Image.DecompressionBombError
      if _is_turned(image):
        width, height = height, width
      return (height, width), _has_color(image)
  except (Image.DecompressionBombError, Image.DecompressionBombWarning):
    limit = MAX_PIXELS // 2**20
    raise ValueError(f'its header claims more than {limit} megapixels') from None


def decode(file: str | BinaryIO, *, size: int | None, mode: str) -> np.ndarray:
  """Decodes the pixels of a file, [H, W, C] uint8.

  Args:
    file: path or stream.
    size: H and W; those of the image if None.
    mode: 'L' (one channel) or 'RGB'.

  Raises:
    Exception: whatever PIL meets in a damaged file.
  """
  from PIL import Image, ImageOps  # heavy

  with Image.open(file) as image:
    image.load()
    if image.mode != mode or 'transparency' in image.info:
      image = _simplify(image).convert(mode)
    if image.getexif():
      image = ImageOps.exif_transpose(image)
    if size is not None and image.size != (size, size):
      image = _resize(image, size)
    width, height = image.size
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, -1)


def _simplify(image: Any) -> Any:
  """Brings an image to 8 bits, without transparency."""
  from PIL import Image  # heavy

  if image.mode == 'F':
    raise ValueError('its pixels are floats')
  if image.mode.startswith('I'):
    whole = np.asarray(image).astype(np.int64)
    if whole.min() < 0 or whole.max() > 65535:
      raise ValueError('its pixels have more than 16 bits')
    exif = image.getexif()
    image = Image.fromarray(((whole * 255 + 32767) // 65535).astype(np.uint8))
    image.info['exif'] = exif.tobytes() if exif else b''
    return image
  if not image.has_transparency_data:
    return image
  info, image = image.info, image.convert('RGBA')
  white = Image.new('RGBA', image.size, 'white')
  image = Image.alpha_composite(white, image).convert('RGB')
  image.info.update({k: v for k, v in info.items() if k != 'transparency'})
  return image


def _resize(image: Any, size: int) -> Any:
  from PIL import Image  # heavy

  width, height = image.size
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  # Not by `resize`'s own box, which lets pixels beyond it in at the edges.
  square = image.crop((left, top, left + side, top + side))
  return square.resize((size, size), Image.Resampling.LANCZOS)


def _is_turned(image: Any) -> bool:
  """Tells whether the camera lay on its side, where the header says so."""
  # Of other formats PIL would decode the whole image to find out.
  if image.format not in ('JPEG', 'MPO', 'WEBP', 'TIFF'):
    return False
  return image.getexif().get(0x0112, 1) >= 5


def _has_color(image: Any) -> bool:
  if image.mode in ('P', 'PA'):
    palette = np.reshape(image.getpalette('RGB'), (-1, 3))
    return bool((palette != palette[:, :1]).any())
  return image.mode not in GRAY
