"""Networks of styles: normalization by hand, heads, the paper's sizes, one image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import style

BODY = style.Body(4, 1, 8)
X = jax.random.uniform(jax.random.key(0), (4, 8, 8, 1), minval=-1.0)
DOMAIN = jnp.array([0, 2, 1, 2])
STYLE = jax.random.normal(jax.random.key(1), (4, 3))
NETWORKS = {
  'translator': (style.Translator(1, 4, 1, 1, square=2), (X, STYLE)),
  'encoder': (style.StyleEncoder(3, 5, BODY), (X, DOMAIN)),
  'mapping': (style.MappingNetwork(3, 5, 8, 2), (STYLE, DOMAIN)),
}


def test_the_style_is_the_mean_and_the_deviation_of_every_channel():
  net, x = style.AdaIN(), jax.random.normal(jax.random.key(2), (4, 5, 5, 2))
  params = jax.jit(net.init)(jax.random.key(3), x, STYLE)
  dense = params['params']['Dense_0']
  out = np.asarray(jax.jit(net.apply)(params, 3 * x + 1, STYLE))
  gamma, beta = np.split(STYLE @ dense['kernel'] + dense['bias'], 2, axis=1)
  np.testing.assert_allclose(out.mean(axis=(1, 2)), beta, atol=1e-5)
  np.testing.assert_allclose(out.std(axis=(1, 2)), np.abs(1 + gamma), rtol=1e-3)


def test_a_block_is_the_mean_of_both_ways_times_root_two():
  x = jax.random.normal(jax.random.key(2), (2, 4, 4, 3))
  for net, args, resized in (
    (style.Block(3), (x,), x),
    (style.Block(3, halve=True), (x,), style.downsample(x)),
    (style.StyledBlock(3, double=True), (x, STYLE[:2]), style.upsample(x)),
  ):
    params = jax.jit(net.init)(jax.random.key(3), *args)
    params['params']['SameConv_1']['kernel'] *= 0.0
    out = jax.jit(net.apply)(params, *args)
    np.testing.assert_allclose(out, resized / np.sqrt(2), rtol=1e-6)


def test_resampling_and_squares_of_pixels_are_undone():
  x = jax.random.normal(jax.random.key(2), (2, 4, 6, 3))
  np.testing.assert_allclose(style.downsample(style.upsample(x)), x, rtol=1e-6)
  deep = style.to_depth(x, 2)
  np.testing.assert_array_equal(style.from_depth(deep, 2), x)
  np.testing.assert_array_equal(deep[1, 1, 2].reshape(2, 2, 3), x[1, 2:4, 4:6])


def test_an_example_has_the_head_of_its_domain_and_no_other_has_a_gradient():
  values = jnp.arange(24.0).reshape(4, 3, 2)
  for domain in (DOMAIN, DOMAIN.astype(jnp.uint8)):
    found = style.of_domain(values, domain)
    np.testing.assert_array_equal(found, [values[i, c] for i, c in enumerate(DOMAIN)])
  slope = jax.grad(lambda v: style.of_domain(v, DOMAIN).sum())(values)
  np.testing.assert_array_equal(slope[..., 0], jax.nn.one_hot(DOMAIN, 3))
  net = style.Heads(3, (4, 2))
  params = jax.jit(net.init)(jax.random.key(3), STYLE, DOMAIN)
  out, layers = net.apply(params, STYLE, DOMAIN), params['params']['VmapMLP_0']
  for i, c in enumerate(DOMAIN):
    first, second = (layers[f'Dense_{n}'] for n in range(2))
    h = np.maximum(STYLE[i] @ first['kernel'][c] + first['bias'][c], 0)
    expected = h @ second['kernel'][c] + second['bias'][c]
    np.testing.assert_allclose(out[i], expected, rtol=1e-4, atol=1e-6)
  for wrong in (DOMAIN[:3], DOMAIN[:, None]):
    with pytest.raises(ValueError, match=r'\[B, K, ...\] and \[B\]'):
      style.of_domain(values, wrong)


def num_weights(net, *args):
  return sum(
    a.size for a in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0), *args))
  )


def residual(i, o, *, middle, norms=0):
  """Weights of a block: two 3x3 kernels with biases, a shortcut, `norms` more."""
  kernels = 9 * (i * middle + middle * o) + middle + o
  return kernels + (i * o if i != o else 0) + norms


def test_the_papers_networks_have_its_layers():
  x, z, s = (
    jax.ShapeDtypeStruct(t, 'f4') for t in ((1, 256, 256, 3), (1, 16), (1, 64))
  )
  domain = jax.ShapeDtypeStruct((1,), 'i4')
  full, own = 512 * 512 + 512, 512 * 64 + 64
  mapping = 16 * 512 + 512 + 3 * full + 2 * (3 * full + own)
  assert num_weights(style.MappingNetwork(2), z, domain) == mapping
  down = [64, 128, 256, 512, 512, 512, 512]  # to 4 x 4 pixels
  body = 27 * 64 + 64 + 16 * 512 * 512 + 512
  body += sum(residual(i, o, middle=i) for i, o in zip(down, down[1:], strict=False))
  assert num_weights(style.StyleEncoder(2), x, domain) == body + 2 * own
  assert num_weights(style.DomainsCritic(2), x) == body + 2 * (512 + 1)
  down = [64, 128, 256, 512, 512]  # to 16 x 16 pixels, and two blocks there
  ways = [*zip(down, down[1:], strict=False), (512, 512), (512, 512)]
  expected = 27 * 64 + 64 + 2 * 64 + 64 * 3 + 3
  expected += sum(residual(i, o, middle=i, norms=4 * i) for i, o in ways)
  expected += sum(
    residual(o, i, middle=i, norms=2 * (i + o) * (64 + 1)) for i, o in ways
  )
  assert num_weights(style.Translator(3), x, s) == expected


@pytest.mark.parametrize('name', NETWORKS)
def test_an_image_alone_is_as_among_others_in_training_too(name):
  net, args = NETWORKS[name]
  variables = jax.jit(net.init)(jax.random.key(1), *args)
  assert set(variables) == {'params'}  # no statistics that would differ afterwards
  apply = jax.jit(lambda *a: net.apply(variables, *a, train=True))
  alone = apply(*(a[2:3] for a in args))
  np.testing.assert_allclose(apply(*args)[2:3], alone, atol=1e-5)


@pytest.mark.parametrize('name', NETWORKS)
def test_what_does_not_fit_is_one_line(name):
  net, args = NETWORKS[name]
  cases = [((args[0], DOMAIN[:3]), r'and \[B\]')] if len(args) > 1 else []
  if args[0] is X:
    cases = [((X[:, :7], *args[1:]), r'\[B, H, W, C\], H and W multiples of')]
  if args[-1] is STYLE:
    cases.append(((X, STYLE[:3]), r'styles must be \[4, S\]'))
  for wrong, word in cases:
    with pytest.raises(ValueError, match=word) as error:
      jax.eval_shape(net.init, jax.random.key(0), *wrong)
    assert '\n' not in str(error.value)
