"""Inception-v3 against numpy, block by block; with its weights where they are named.

GM_JAX_INCEPTION names a file of the real weights. Without it nothing here needs more
than random ones.
"""

import functools
import os

import jax
import numpy as np
import numpy_networks
import pytest
from flax import traverse_util

from gm_jax.metrics import inception, weights

REAL = os.environ.get('GM_JAX_INCEPTION')
BLOCKS = {
  'mixed_35': (functools.partial(inception.Mixed35, 32), 'mixed_35'),
  'reduction_35': (inception.Reduction35, 'reduction_35'),
  'mixed_17': (functools.partial(inception.Mixed17, 128), 'mixed_17'),
  'reduction_17': (inception.Reduction17, 'reduction_17'),
  'mixed_8': (functools.partial(inception.Mixed8, inception.average), 'mixed_8'),
  'last': (functools.partial(inception.Mixed8, inception.maximum), 'last'),
}


def random_file(module, x, rng):
  """Arrays as a file has them, of the convolutions of a module."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)['params']
  arrays = {}
  for name, leaf in traverse_util.flatten_dict(shapes, sep='.').items():
    layer, _, part = name.rpartition('.')
    if part == 'kernel':
      height, width, inputs, outputs = leaf.shape
      size = (outputs, inputs, height, width)
      scale = np.float32(np.sqrt(2 / (inputs * height * width)))
      arrays[f'{layer}.weight'] = scale * rng.standard_normal(size, np.float32)
      arrays[f'{layer}.beta'] = 0.1 * rng.standard_normal(outputs, np.float32)
      arrays[f'{layer}.mean'] = 0.1 * rng.standard_normal(outputs, np.float32)
      # Some so small that eps of 1e-3 is most of it.
      arrays[f'{layer}.var'] = rng.uniform(1e-4, 2, outputs).astype('f')
  return arrays


ALSO = ('mixed_35', 'reduction_35', 'mixed_8')  # of which the others have all


@pytest.mark.parametrize(
  'name',
  [pytest.param(n, marks=pytest.mark.slow) if n in ALSO else n for n in BLOCKS],
)
def test_a_block_is_that_of_numpy(name):
  make, method = BLOCKS[name]
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 7, 9, 6), np.float32)
  block = make(name='b')
  arrays = random_file(make(), x, rng)
  params = traverse_util.unflatten_dict(inception.fold(arrays), sep='.')
  found = jax.jit(block.apply)({'params': params}, x)
  named = {f'b.{name}': array for name, array in arrays.items()}
  expected = getattr(numpy_networks.Inception(named), method)('b', x)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_images_are_resized_from_corner_to_corner():
  x = np.random.default_rng(0).uniform(0, 255, (1, 5, 310, 2)).astype('f')
  found = np.asarray(inception.resize(x))
  expected = x
  for axis in (1, 2):
    length = x.shape[axis]
    place = np.arange(299) * (length / 299)
    expected = np.apply_along_axis(
      lambda row, p=place, n=length: np.interp(p, np.arange(n), row), axis, expected
    )
  np.testing.assert_allclose(found, expected, atol=5e-3)  # of positions in float32


@pytest.mark.slow
def test_the_network_out_of_a_file_is_that_of_numpy(tmp_path):
  blank = np.zeros((1, 75, 75, 3), np.float32)
  arrays = random_file(inception.Inception(), blank, np.random.default_rng(1))
  assert len(arrays) == 4 * 94
  np.savez(tmp_path / 'random.npz', **arrays)
  params = inception.load(tmp_path / 'random.npz')
  x = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype('f')
  found = jax.jit(inception.Inception().apply)({'params': params}, x)
  expected = numpy_networks.Inception(arrays)(x)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def refused(path, call=inception.load):
  with pytest.raises(ValueError) as error:
    call(path)
  text = str(error.value)
  assert str(path) in text and '\n' not in text
  return text


def test_files_that_cannot_be_used_are_one_line(tmp_path):
  path = tmp_path / 'w.npz'
  assert 'no such file' in refused(path)
  path.write_bytes(b'PK\x03\x04 nothing')
  assert 'not an .npz file' in refused(path)
  np.savez(path, **{'conv.kernel': np.ones((3, 3, 3, 32))})
  assert 'it lacks conv.weight and 375 others' in refused(path)
  np.savez(path, a=np.array([{}], object))
  wanted = {'a': (2,)}

  def read(path):
    return weights.read(path, wanted, 'a network')

  assert 'not an .npz file' in refused(path, read)
  np.savez(path, a=np.ones(3))
  assert 'a is float64 [3], and that of a network is float [2]' in refused(path, read)
  np.savez(path, a=np.array([1, np.nan]))
  assert 'not finite' in refused(path, read)
  np.savez(path, a=np.ones(2, int))
  assert 'weights of another network' in refused(path, read)
  np.savez(path, a=np.random.default_rng(0).random(2))
  damaged = bytearray(path.read_bytes())
  damaged[150] ^= 1
  path.write_bytes(damaged)
  assert 'damaged' in refused(path, read)


@pytest.mark.parametrize('shape', [(2, 3, 32, 32), (2, 32, 32), (2, 8, 8, 4)])
def test_other_layouts_are_refused(shape):
  with pytest.raises(ValueError, match='images must be'):
    inception.features({}, np.zeros(shape))


@pytest.fixture(scope='module')
def real():
  if not REAL:
    pytest.skip('the real weights are not here: name their file in GM_JAX_INCEPTION')
  return inception.load(REAL)


def photographs():
  from sklearn import datasets

  small = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
  large = np.stack([p[:200, :240] for p in datasets.load_sample_images().images])
  return small, large


@pytest.mark.slow
def test_real_weights_give_the_features_of_numpy(real):
  arrays = dict(np.load(REAL, allow_pickle=False))
  images = photographs()[1][:1]
  found = jax.jit(inception.features)(real, images)
  x = (np.asarray(inception.resize(images)) - 128.0) / 128.0
  expected = numpy_networks.Inception(arrays)(x)
  np.testing.assert_allclose(found, expected, atol=1e-3)


# Names of torch-fidelity by ours: of the stem, and of the blocks of one kind.
STEM = ('Conv2d_1a_3x3', 'Conv2d_2a_3x3', 'Conv2d_2b_3x3', 'Conv2d_3b_1x1',
        'Conv2d_4a_3x3')  # fmt: skip
POOL = {'tower_2.conv': 'branch_pool'}
A = {'conv': 'branch1x1', **POOL}
A |= {'tower.conv': 'branch5x5_1', 'tower.conv_1': 'branch5x5_2'}
A |= {
  f'tower_1.conv{s}': f'branch3x3dbl_{i}' for i, s in enumerate(('', '_1', '_2'), 1)
}
B = {'conv': 'branch3x3'}
B |= {f'tower.conv{s}': f'branch3x3dbl_{i}' for i, s in enumerate(('', '_1', '_2'), 1)}
ENDS = ('', '_1', '_2', '_3', '_4')
C = {'conv': 'branch1x1', **POOL}
C |= {f'tower.conv{s}': f'branch7x7_{i}' for i, s in enumerate(ENDS[:3], 1)}
C |= {f'tower_1.conv{s}': f'branch7x7dbl_{i}' for i, s in enumerate(ENDS, 1)}
D = {f'tower.conv{s}': f'branch3x3_{i}' for i, s in enumerate(ENDS[:2], 1)}
D |= {f'tower_1.conv{s}': f'branch7x7x3_{i}' for i, s in enumerate(ENDS[:4], 1)}
E = {'conv': 'branch1x1', 'tower_conv': 'branch3x3_1', 'tower_2_conv': 'branch_pool'}
E |= {'tower_mixed_conv': 'branch3x3_2a', 'tower_mixed_conv_1': 'branch3x3_2b'}
E |= {'tower_1_conv': 'branch3x3dbl_1', 'tower_1_conv_1': 'branch3x3dbl_2'}
E |= {
  'tower_1_mixed_conv': 'branch3x3dbl_3a',
  'tower_1_mixed_conv_1': 'branch3x3dbl_3b',
}
PARTS = {'weight': 'conv.weight', 'beta': 'bn.bias', 'mean': 'bn.running_mean'}
PARTS |= {'var': 'bn.running_var'}


def their_state(torch, arrays):
  names = {f'conv{s}': name for s, name in zip(ENDS, STEM, strict=True)}
  theirs = ('5b', '5c', '5d', '6a', '6b', '6c', '6d', '6e', '7a', '7b', '7c')
  blocks = zip(theirs, 'AAABCCCCDEE', strict=True)
  for i, (theirs, kind) in enumerate(blocks):
    ours = f'mixed_{i}' if i else 'mixed'
    layers = {'A': A, 'B': B, 'C': C, 'D': D, 'E': E}[kind]
    names |= {f'{ours}.{k}': f'Mixed_{theirs}.{v}' for k, v in layers.items()}
  state = {
    f'{theirs}.{part}': torch.from_numpy(arrays[f'{ours}.{ending}'])
    for ours, theirs in names.items()
    for ending, part in PARTS.items()
  }
  ones = {k: v for k, v in state.items() if k.endswith('bn.bias')}
  state |= {k[:-4] + 'weight': torch.ones_like(v) for k, v in ones.items()}
  # A head of classes, which is not used.
  return state | {'fc.weight': torch.zeros(1008, 2048), 'fc.bias': torch.zeros(1008)}


@pytest.mark.slow
def test_real_weights_give_the_features_of_torch_fidelity(real, tmp_path):
  torch = pytest.importorskip('torch', reason="not installed: 'gm_jax[bench]'")
  theirs = pytest.importorskip(
    'torch_fidelity.feature_extractor_inceptionv3',
    reason="torch-fidelity is not installed: 'gm_jax[bench]'",
  )
  state = their_state(torch, dict(np.load(REAL, allow_pickle=False)))
  torch.save(state, tmp_path / 'w.pth')
  network = theirs.FeatureExtractorInceptionV3(
    'ours', ['2048'], feature_extractor_weights_path=str(tmp_path / 'w.pth')
  )
  for images in photographs():
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    expected = network(pixels)[0].numpy()
    found = jax.jit(inception.features)(real, images)
    np.testing.assert_allclose(found, expected, atol=1e-3)
