"""Convolutional networks in numpy, by windows: what those of JAX are compared with."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows(x, size, stride, fill=None):
  """[B, H, W, C] -> [B, H', W', C, *size]; `fill` is what stands about the image."""
  if fill is not None:
    margins = ((0, 0), *((length // 2,) * 2 for length in size), (0, 0))
    x = np.pad(x, margins, constant_values=fill)
  return sliding_window_view(x, size, axis=(1, 2))[:, ::stride, ::stride]


def convolved(x, weight, stride=1, fill=None):
  """A convolution with a kernel [O, I, H, W], in float64."""
  taps = windows(x, weight.shape[2:], stride, fill)
  return np.tensordot(taps, weight.astype(np.float64), ((3, 4, 5), (1, 2, 3)))


def maximum(x, size=3, stride=2, fill=None):
  return windows(x, (size, size), stride, fill).max(axis=(-2, -1))


def average(x):
  """Of the pixels inside the image alone."""
  return np.nanmean(windows(x, (3, 3), 1, np.nan), axis=(-2, -1))


class Inception:
  """Blocks by the arrays of a file, the normalization in its place."""

  def __init__(self, arrays):
    self.arrays = arrays

  def conv(self, name, x, stride=1, fill=0.0):
    a = {p: self.arrays[f'{name}.{p}'] for p in ('weight', 'beta', 'mean', 'var')}
    y = convolved(x, a['weight'], stride, fill)
    return np.maximum((y - a['mean']) / np.sqrt(a['var'] + 1e-3) + a['beta'], 0)

  def tower(self, name, x, num, last=1):
    for i in range(num):
      stride = last if i == num - 1 else 1
      fill = None if stride == 2 else 0.0
      x = self.conv(f'{name}.conv{f"_{i}" if i else ""}', x, stride, fill)
    return x

  def mixed(self, name, x, towers):
    branches = [
      self.conv(f'{name}.conv', x),
      self.tower(f'{name}.tower', x, towers[0]),
      self.tower(f'{name}.tower_1', x, towers[1]),
      self.tower(f'{name}.tower_2', average(x), 1),
    ]
    return np.concatenate(branches, -1)

  def mixed_35(self, name, x):
    return self.mixed(name, x, (2, 3))

  def mixed_17(self, name, x):
    return self.mixed(name, x, (3, 5))

  def reduction_35(self, name, x):
    first = self.conv(f'{name}.conv', x, 2, None)
    return np.concatenate([first, self.tower(f'{name}.tower', x, 3, 2), maximum(x)], -1)

  def reduction_17(self, name, x):
    towers = [self.tower(f'{name}.tower{s}', x, n, 2) for s, n in (('', 2), ('_1', 4))]
    return np.concatenate([*towers, maximum(x)], -1)

  def mixed_8(self, name, x, pool=average):
    first = self.conv(f'{name}.tower_conv', x)
    second = self.conv(f'{name}.tower_1_conv_1', self.conv(f'{name}.tower_1_conv', x))
    branches = [
      self.conv(f'{name}.conv', x),
      self.conv(f'{name}.tower_mixed_conv', first),
      self.conv(f'{name}.tower_mixed_conv_1', first),
      self.conv(f'{name}.tower_1_mixed_conv', second),
      self.conv(f'{name}.tower_1_mixed_conv_1', second),
      self.conv(f'{name}.tower_2_conv', pool(x)),
    ]
    return np.concatenate(branches, -1)

  def last(self, name, x):
    return self.mixed_8(name, x, lambda x: maximum(x, 3, 1, -np.inf))

  def __call__(self, x):
    """[B, 299, 299, 3], or smaller, in [-1, 1] -> [B, 2048]."""
    x = self.conv('conv_1', self.conv('conv', x, 2, None), 1, None)
    x = self.conv('conv_3', maximum(self.conv('conv_2', x)))
    x = maximum(self.conv('conv_4', x, 1, None))
    x = self.mixed_35('mixed', x)
    for i in (1, 2):
      x = self.mixed_35(f'mixed_{i}', x)
    x = self.reduction_35('mixed_3', x)
    for i in (4, 5, 6, 7):
      x = self.mixed_17(f'mixed_{i}', x)
    x = self.mixed_8('mixed_9', self.reduction_17('mixed_8', x))
    return self.last('mixed_10', x).mean(axis=(1, 2))


def lpips(arrays, network, x, y):
  """The distance of images [B, H, W, 3] from 0 to 255, by the arrays of a file."""
  alexnet = network == 'AlexNet'
  ends = range(5) if alexnet else (1, 3, 6, 9, 12)
  pooled = (1, 2) if alexnet else (2, 4, 7, 10)

  def layers(x):
    x = x / 127.5 - 1
    x = (x - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    for i in range(5 if alexnet else 13):
      kernel = arrays[f'{network}_0.Conv_{i}.kernel'].transpose(3, 2, 0, 1)
      x = maximum(x, 3 if alexnet else 2) if i in pooled else x
      if alexnet and i == 0:  # a padding of 2 for a kernel of 11
        x = convolved(np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))), kernel, 4)
      else:
        x = convolved(x, kernel, 1, 0.0)
      x = np.maximum(x + arrays[f'{network}_0.Conv_{i}.bias'], 0)
      if i in ends:
        yield x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)

  heads = (arrays[f'NetLinLayer_{i}.Conv_0.kernel'].reshape(-1) for i in range(5))
  return sum(
    (np.square(u - v) @ head).mean(axis=(1, 2))
    for u, v, head in zip(layers(x), layers(y), heads, strict=True)
  )
