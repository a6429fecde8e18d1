"""Pixels out of encoded images, the same for every source of them.

An image is made upright, transparency is laid on white, 16 bits become 8, and then it
is converted to gray ('L') or color ('RGB'). Where a size is asked for, the largest
central square is cut out and resized with antialiasing (Lanczos).

Damage is found as far as a format allows. PNG has a checksum of every chunk, and all of
them are checked. JPEG, WebP, GIF, BMP, PPM and AVIF have none of their pixels: of these
a flipped byte is noticed only where nothing can be decoded after it.
"""

import contextlib
import io
import pathlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

MAX_PIXELS = 2**26  # of an image file, by its header: 64 Mpixel
MAX_SIZE = 4096
GRAY = frozenset({'1', 'L', 'LA', 'La', 'I', 'I;16', 'I;16L', 'I;16B', 'I;16N'})
ORIENTATION = 0x0112  # the tag of EXIF and TIFF: how the camera was held
# By orientation, the name of what makes an image upright, of `PIL.Image.Transpose`.
TURNS = {
  2: 'FLIP_LEFT_RIGHT', 3: 'ROTATE_180', 4: 'FLIP_TOP_BOTTOM', 5: 'TRANSPOSE',
  6: 'ROTATE_270', 7: 'TRANSVERSE', 8: 'ROTATE_90',
}  # fmt: skip
# What may hold an orientation in a PNG file, and may stand after the pixels.
PNG_MARKS = (b'eXIf', b'Raw profile type exif', b'XML:com.adobe.xmp')


def check_size(size: int | None) -> None:
  """Raises ValueError unless a side in pixels can be `size`."""
  if size is not None and not 1 <= size <= MAX_SIZE:
    raise ValueError(f'size must be from 1 to {MAX_SIZE}, got {size}')


def has_avif() -> bool:
  """Tells whether this build of Pillow decodes AVIF."""
  from PIL import features  # heavy

  return 'avif' in features.modules and features.check('avif')


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
  """Reads (height, width) as `decode` has them, and whether there is color.

  The file's header is enough, unless it says that the image lies on its side.

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
      color = _has_color(image)
      turned = width != height and _may_lie_on_its_side(image, file)
    if turned:
      with _opened(file) as image:
        width, height = _upright(image).size
    return (height, width), color
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
  with _opened(file) as image:
    image = _upright(image)
    if image.mode != mode or 'transparency' in image.info:
      image = _simplify(image).convert(mode)
    if size is not None and image.size != (size, size):
      image = _resize(image, size)
    width, height = image.size
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, -1)


def _opened(file: str | BinaryIO) -> Any:
  """Opens an image as bytes: of a path, Pillow may read it another way.

  Raises:
    ValueError: a checksum of a PNG file is wrong.
    Exception: whatever PIL meets in a file that is no image.
  """
  from PIL import Image  # heavy

  data = pathlib.Path(file).read_bytes() if isinstance(file, str) else file.read()
  image = Image.open(io.BytesIO(data))
  if image.format == 'PNG':
    _check_png(data)
  return image


def _check_png(data: bytes) -> None:
  """Raises ValueError where a chunk has a wrong CRC, which PIL skips among pixels."""
  begin = 8
  while begin + 12 <= len(data):
    (length,) = struct.unpack_from('>I', data, begin)
    end = begin + 8 + length
    if end + 4 > len(data):
      raise ValueError('it is cut off, or damaged')
    if zlib.crc32(data[begin + 4 : end]) != struct.unpack_from('>I', data, end)[0]:
      raise ValueError('a checksum in it is wrong: it is damaged')
    if data[begin + 4 : begin + 8] == b'IEND':
      return
    begin = end + 4


def _upright(image: Any) -> Any:
  """Decodes an image, and turns it as its orientation says."""
  from PIL import Image  # heavy

  image.load()  # which itself turns a TIFF, and then takes the orientation away
  turn = TURNS.get(_orientation(image))
  return image.transpose(Image.Transpose[turn]) if turn else image


def _orientation(image: Any) -> int:
  try:
    return image.getexif().get(ORIENTATION, 1)
  except Exception:  # of many types: damage beside the pixels does no harm
    return 1


def _may_lie_on_its_side(image: Any, file: str) -> bool:
  """Tells whether upright height and width may be others than those of the header."""
  # PIL would decode the whole image to find what stands after the pixels.
  if image.format == 'PNG':
    data = pathlib.Path(file).read_bytes()
    return any(mark in data for mark in PNG_MARKS)
  return _orientation(image) not in (1, 2, 3, 4)


def _simplify(image: Any) -> Any:
  """Brings an image to 8 bits, without transparency."""
  from PIL import Image  # heavy

  if image.mode == 'F':
    raise ValueError('its pixels are floats')
  if image.mode.startswith('I'):
    whole = np.asarray(image).astype(np.int64)
    if whole.min() < 0 or whole.max() > 65535:
      raise ValueError('its pixels have more than 16 bits')
    return Image.fromarray(((whole * 255 + 32767) // 65535).astype(np.uint8))
  if not image.has_transparency_data:
    return image
  white = Image.new('RGBA', image.size, 'white')
  return Image.alpha_composite(white, image.convert('RGBA')).convert('RGB')


def _resize(image: Any, size: int) -> Any:
  from PIL import Image  # heavy

  width, height = image.size
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  # Not by `resize`'s own box, which lets pixels beyond it in at the edges.
  square = image.crop((left, top, left + side, top + side))
  return square.resize((size, size), Image.Resampling.LANCZOS)


def _has_color(image: Any) -> bool:
  if image.mode in ('P', 'PA'):
    palette = np.reshape(image.getpalette('RGB'), (-1, 3))
    return bool((palette != palette[:, :1]).any())
  return image.mode not in GRAY
