"""LPIPS against numpy; with its weights where they are named.

GM_JAX_LPIPS names files of the real weights, with commas between.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import numpy_networks
import pytest
from flax import traverse_util

from gm_jax.metrics import lpips

REAL = [path for path in os.environ.get('GM_JAX_LPIPS', '').split(',') if path]
NETWORKS = ['AlexNet', pytest.param('VGG16', marks=pytest.mark.slow)]


@functools.cache
def random_file(network):
  """Arrays as a file has them."""
  trunk, rng = lpips.Trunk(lpips.NETWORKS[network]), np.random.default_rng(0)
  image = np.zeros((1, 64, 64, 3), np.float32)
  shapes = jax.eval_shape(trunk.init, jax.random.key(0), image)['params']
  arrays, sizes = {}, [layer.channels for layer in trunk.layers if layer.tapped]
  for name, leaf in traverse_util.flatten_dict(shapes, sep='.').items():
    scale = np.float32(np.sqrt(2 / max(1, np.prod(leaf.shape[:-1]))))
    arrays[f'{network}_0.{name}'] = scale * rng.standard_normal(leaf.shape, np.float32)
  for i, size in enumerate(sizes):
    arrays[f'NetLinLayer_{i}.Conv_0.kernel'] = rng.random((1, 1, size, 1), np.float32)
  return arrays


def pairs():
  x = np.random.default_rng(1).integers(0, 256, (3, 35, 40, 3)).astype(np.float32)
  y = x.copy()
  y[0] = 255 - y[0]
  y[1, 10:20] += 8
  return x, y  # of which the last are equal


@functools.cache
def distance():
  return jax.jit(lpips.distance)


@pytest.mark.parametrize('network', NETWORKS)
def test_the_distance_is_that_of_numpy(network, tmp_path):
  np.savez(tmp_path / 'w.npz', **random_file(network))
  weights = lpips.load(tmp_path / 'w.npz')
  assert weights.name == network
  x, y = pairs()
  found = distance()(weights, x, y)
  expected = numpy_networks.lpips(random_file(network), network, x, y)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)
  np.testing.assert_allclose(distance()(weights, y, x), found, rtol=1e-6, atol=1e-12)
  assert found[0] > found[1] > 1e-6 and abs(found[2]) < 1e-12


@pytest.mark.slow
def test_its_gradient_is_finite_where_a_layer_is_zero(tmp_path):
  arrays = {k: v if 'NetLin' in k else 0 * v for k, v in random_file('AlexNet').items()}
  np.savez(tmp_path / 'w.npz', **arrays)
  weights, (x, y) = lpips.load(tmp_path / 'w.npz'), pairs()
  slope = jax.grad(lambda x: lpips.distance(weights, x, y).sum())(jnp.array(x))
  assert np.isfinite(slope).all()


def test_wrong_images_are_named():
  blank = lpips.Lpips('AlexNet', {}, ())
  x = np.zeros((2, 40, 40, 3))
  for wrong in (np.zeros((2, 3, 40, 40)), np.zeros((2, 28, 28, 1)), np.zeros((2, 9))):
    with pytest.raises(ValueError, match=r'\[B, H, W, C\]'):
      lpips.distance(blank, wrong, wrong)
  with pytest.raises(ValueError, match='alike'):
    lpips.distance(blank, x, x[:1])


def test_files_of_other_networks_are_one_line(tmp_path):
  path = tmp_path / 'w.npz'
  with pytest.raises(ValueError, match='no such file of weights of LPIPS'):
    lpips.load(path)
  np.savez(path, **{'conv.weight': np.ones(3, 'f')})
  with pytest.raises(ValueError, match='lacks AlexNet_0.Conv_0.bias and 14 others'):
    lpips.load(path)
  arrays = dict(random_file('AlexNet'))
  del arrays['NetLinLayer_4.Conv_0.kernel']
  np.savez(path, **arrays)
  with pytest.raises(ValueError, match='lacks NetLinLayer_4.Conv_0.kernel$'):
    lpips.load(path)


@pytest.mark.slow
@pytest.mark.parametrize('path', REAL or [None])
def test_real_weights_give_the_distance_of_torch(path):
  if path is None:
    pytest.skip('the real weights are not here: name their files in GM_JAX_LPIPS')
  torch = pytest.importorskip('torch', reason="not installed: 'gm_jax[bench]'")
  from sklearn import datasets

  weights, arrays = lpips.load(path), dict(np.load(path, allow_pickle=False))
  photographs = datasets.load_sample_images().images
  x = np.stack([p[100:164, :96] for p in photographs])
  y = np.stack([photographs[0][104:168, :96], photographs[0][:64, :96]])
  alexnet = weights.name == 'AlexNet'
  kinds = {0: {'stride': 4, 'padding': 2}, 1: {'padding': 2}} if alexnet else {}
  ends = range(5) if alexnet else (1, 3, 6, 9, 12)

  def units(images):
    t = torch.from_numpy(images.transpose(0, 3, 1, 2)).float() / 127.5 - 1
    shift, scale = [-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]
    t = (t - torch.tensor(shift)[:, None, None]) / torch.tensor(scale)[:, None, None]
    for i in range(5 if alexnet else 13):
      if i in ((1, 2) if alexnet else (2, 4, 7, 10)):
        t = torch.nn.functional.max_pool2d(t, 3 if alexnet else 2, 2)
      name = f'{weights.name}_0.Conv_{i}'
      kernel = torch.from_numpy(arrays[f'{name}.kernel']).permute(3, 2, 0, 1)
      bias = torch.from_numpy(arrays[f'{name}.bias'])
      more = kinds.get(i, {'padding': 1})
      t = torch.relu(torch.nn.functional.conv2d(t, kernel, bias, **more))
      if i in ends:
        yield t / (t.square().sum(1, keepdim=True).sqrt() + 1e-10)

  total = 0.0
  for i, (u, v) in enumerate(zip(units(x), units(y), strict=True)):
    head = torch.from_numpy(arrays[f'NetLinLayer_{i}.Conv_0.kernel'])
    kernel = head.permute(3, 2, 0, 1)
    weighted = torch.nn.functional.conv2d((u - v).square(), kernel)
    total = total + weighted.mean((1, 2, 3))
  np.testing.assert_allclose(distance()(weights, x, y), total.numpy(), rtol=1e-4)
