"""Bijections against the determinant of their Jacobian, and against themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import bijectors, flow_layers, monotone
from gm_jax.models import flows

SPLINE = monotone.rational_quadratic(4, 2.0)
VECTOR, IMAGE = (5,), (4, 4, 2)


def residual(outputs):
  return flows.Residual(outputs, 8, 1)


def convolutions(outputs):
  return flows.Convolutions(outputs, 6)


def glow(levels, steps, shape, width=6):
  """A multi-scale flow of images, each level halved by a learned prior."""
  height, row, channels = shape[0] // 2, shape[1] // 2, 4 * shape[2]
  make = functools.partial(flows.Convolutions, width=width)
  affine = flow_layers.coupling(make, monotone.sigmoid_affine())
  step = bijectors.chain(
    flow_layers.actnorm(), flow_layers.linear(np.arange(channels)[::-1]), affine
  )
  found = [bijectors.squeeze(), bijectors.repeated(step, steps)]
  if levels == 1:
    return bijectors.chain(*found, bijectors.flatten((height, row, channels)))
  inner = glow(levels - 1, steps, (height, row, channels // 2), width)
  prior = flow_layers.coupling(make, monotone.affine())
  split = bijectors.factored(inner, (height, row, channels))
  return bijectors.chain(*found, prior, split)


CASES = {
  'elementwise': (bijectors.elementwise(monotone.affine()), VECTOR),
  'permutation': (bijectors.permutation([2, 0, 1, 4, 3]), VECTOR),
  'squeeze': (bijectors.squeeze(), IMAGE),
  'logit': (bijectors.logit(0.2), VECTOR),
  'actnorm': (flow_layers.actnorm(), VECTOR),
  'actnorm of images': (flow_layers.actnorm(), IMAGE),
  'linear': (flow_layers.linear([2, 0, 1, 4, 3]), VECTOR),
  'linear of images': (flow_layers.linear([1, 0]), IMAGE),
  'nice': (flow_layers.coupling(residual, monotone.additive()), VECTOR),
  'realnvp': (flow_layers.coupling(residual, monotone.affine()), VECTOR),
  'spline coupling': (flow_layers.coupling(residual, SPLINE), VECTOR),
  'coupling of images': (flow_layers.coupling(convolutions, SPLINE), IMAGE),
  'maf': (flow_layers.autoregressive(5, monotone.affine(), hidden=(9,)), VECTOR),
  'spline maf': (flow_layers.autoregressive(5, SPLINE, hidden=(9,)), VECTOR),
  'planar': (flow_layers.planar(), VECTOR),
  'radial': (flow_layers.radial(), VECTOR),
  'glow': (glow(2, 2, IMAGE), IMAGE),
}
CASES |= {
  'iaf': (bijectors.inverted(CASES['maf'][0]), VECTOR),
  'repeated': (
    bijectors.repeated(
      bijectors.chain(CASES['spline coupling'][0], bijectors.reverse()), 3
    ),
    VECTOR,
  ),
}  # fmt: skip


def moved(params, scale=0.5):
  """Parameters away from where maps are the identity."""
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(3)
  return tree.unflatten([a + scale * rng.normal(size=a.shape) for a in leaves])


COSTLY = {
  'glow',
  'spline maf',
  'coupling of images',
}  # other maps are of the same parts


@pytest.mark.parametrize(
  'name',
  [pytest.param(n, marks=pytest.mark.slow if n in COSTLY else ()) for n in CASES],
)
def test_determinants_are_those_of_jacobians_and_the_inverse_goes_back(name):
  bijection, shape = CASES[name]
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(4).normal(size=(3, *shape)))
    x = jnp.tanh(x) if name == 'logit' else x  # of [-1, 1]
    # Deep ones less: errors of rounding grow by every layer's scale.
    params = jax.jit(bijection.init)(jax.random.key(0), x)
    params = moved(params, 0.1 if name == 'glow' else 0.5)
    z, log_det = jax.jit(bijection.forward)(params, x)
    back, log_back = jax.jit(bijection.inverse)(params, z)
    np.testing.assert_allclose(back, x, atol=1e-10)
    np.testing.assert_allclose(log_back, -log_det, atol=1e-9)

    def one(x):
      return bijection.forward(params, x[None])[0].ravel()

    jacobians = jax.jit(jax.vmap(jax.jacobian(one)))(x).reshape(3, z[0].size, -1)
    np.testing.assert_allclose(np.linalg.slogdet(jacobians)[1], log_det, atol=1e-9)


@pytest.mark.parametrize(
  ('name', 'bijection', 'shape'),
  [
    pytest.param('glow', glow(3, 32, (8, 8, 3), 16), (8, 8, 3), marks=pytest.mark.slow),
    (
      'maf',
      bijectors.repeated(
        bijectors.chain(
          flow_layers.autoregressive(6, monotone.affine(), hidden=(32,)),
          bijectors.reverse(),
        ),
        10,
      ),
      (6,),
    ),
    (
      'spline coupling',
      bijectors.repeated(
        bijectors.chain(
          flow_layers.linear(np.arange(6)),
          flow_layers.coupling(residual, monotone.rational_quadratic()),
        ),
        10,
      ),
      (6,),
    ),
  ],
)
def test_float32_goes_back_at_the_depth_of_the_papers(name, bijection, shape):
  x = jax.random.normal(jax.random.key(5), (128, *shape))
  params = moved(jax.jit(bijection.init)(jax.random.key(0), x), 0.02)
  z, _ = jax.jit(bijection.forward)(params, x)
  assert np.abs(z.reshape(128, -1) - x.reshape(128, -1)).max() > 0.1
  back, _ = jax.jit(bijection.inverse)(params, z)
  np.testing.assert_allclose(back, x, atol=1e-3)


def test_a_number_depends_on_those_before_it_alone():
  bijection, shape = CASES['maf']
  x = jax.random.normal(jax.random.key(0), (1, *shape))
  params = moved(jax.jit(bijection.init)(jax.random.key(1), x))
  slopes = jax.jit(jax.jacobian(lambda x: bijection.forward(params, x[None])[0][0]))
  jacobian = slopes(x[0])
  np.testing.assert_array_equal(jnp.triu(jacobian, 1), 0)
  assert np.abs(jacobian[-1]).min() > 0


def test_data_set_the_scale_of_every_repeated_layer():
  layer = bijectors.chain(flow_layers.actnorm(), flow_layers.linear([1, 2, 0]))
  deep = bijectors.repeated(layer, 3)
  x = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (500, 3)) @ jnp.array(
    [[1.0, 0.9, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 5.0]]
  )
  params = deep.init(jax.random.key(1), x)
  for i in range(3):
    one = jax.tree.map(lambda a, i=i: a[i], params)
    scaled, _ = flow_layers.actnorm().forward(one[0], x)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)
    x, _ = layer.forward(one, x)


def test_the_linear_map_begins_as_a_rotation_of_determinant_one():
  bijection = flow_layers.linear([2, 0, 3, 1])
  params = bijection.init(jax.random.key(0), jnp.zeros((1, 4)))
  matrix, log_det = bijection.forward(params, jnp.eye(4))
  np.testing.assert_allclose(matrix @ matrix.T, np.eye(4), atol=1e-5)
  np.testing.assert_allclose(log_det, 0, atol=1e-5)
  other = bijection.init(jax.random.key(1), jnp.zeros((1, 4)))
  assert np.abs(bijection.forward(other, jnp.eye(4))[0] - matrix).max() > 0.1


def test_a_linear_map_of_the_identity_begins_as_its_permutation():
  bijection = flow_layers.linear([2, 0, 3, 1], matrix=flow_layers.identity)
  params = bijection.init(jax.random.key(0), jnp.zeros((1, 4)))
  x = jax.random.normal(jax.random.key(1), (5, 4))
  z, log_det = bijection.forward(params, x)
  np.testing.assert_array_equal(z, x[:, jnp.array([2, 0, 3, 1])])
  np.testing.assert_array_equal(log_det, 0)


def test_a_squeeze_parts_the_colors_of_a_checkerboard():
  board = (jnp.indices((4, 4)).sum(axis=0) % 2).reshape(1, 4, 4, 1)
  z, _ = bijectors.squeeze().forward((), board)
  np.testing.assert_array_equal(z[..., :2], 0)
  np.testing.assert_array_equal(z[..., 2:], 1)
  # Each of the 2 x 2 blocks keeps its pixels.
  x = jnp.arange(16).reshape(1, 4, 4, 1)
  z, _ = bijectors.squeeze().forward((), x)
  np.testing.assert_array_equal(jnp.sort(z[0, 0, 1]), [2, 3, 6, 7])


def test_a_learned_prior_is_the_density_of_its_gaussian():
  """A coupling and a split give N(mean, std) of the half that is done."""
  prior = flow_layers.coupling(residual, monotone.affine())
  whole = bijectors.chain(prior, bijectors.factored(bijectors.flatten((2,)), (4,)))
  x = jax.random.normal(jax.random.key(0), (6, 4))
  params = moved(whole.init(jax.random.key(1), x))
  z, log_det = whole.forward(params, x)
  found = jax.scipy.stats.norm.logpdf(z).sum(axis=1) + log_det
  raw = residual(4).apply({'params': params[0]}, x[:, :2]).reshape(6, 2, 2)
  log_scale, shift = 3 * np.tanh(raw[..., 0] / 3), raw[..., 1]
  logpdf = jax.scipy.stats.norm.logpdf
  expected = logpdf(x[:, :2]).sum(axis=1)
  expected += logpdf(x[:, 2:], -shift * np.exp(-log_scale), np.exp(-log_scale)).sum(1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_planar_and_radial_maps_stay_invertible_at_their_limits():
  x = jax.random.normal(jax.random.key(0), (50, 2))
  planar = {'w': jnp.array([2.0, 1.0]), 'u': jnp.array([-9.0, -9.0]), 'b': jnp.ones(())}
  z, log_det = flow_layers.planar().forward(planar, x)
  assert np.isfinite(log_det).all()
  np.testing.assert_allclose(flow_layers.planar().inverse(planar, z)[0], x, atol=1e-2)
  # At w . u = -2 without the constraint, numbers would meet: of one side of the plane
  # through 0 the determinant is negative.
  assert (1 - 2 * (1 - np.tanh(np.linspace(-1, 1, 50)) ** 2)).min() < 0
  radial = {'center': jnp.zeros(2), 'log_alpha': jnp.zeros(()), 'raw_beta': -8.0}
  z, log_det = flow_layers.radial().forward(radial, x)
  assert np.isfinite(log_det).all()
  np.testing.assert_allclose(flow_layers.radial().inverse(radial, z)[0], x, atol=1e-2)


def test_a_chain_costs_what_its_dearest_part_does():
  cheap, dear = bijectors.reverse(), CASES['maf'][0]
  both = bijectors.chain(cheap, dear)
  assert (both.forward_cost, both.inverse_cost) == ('one_pass', 'per_dimension')
  back = bijectors.inverted(both)
  assert (back.forward_cost, back.inverse_cost) == ('per_dimension', 'one_pass')
  other = bijectors.chain(both, flow_layers.planar())
  assert other.inverse_cost == 'iterative'


@pytest.mark.parametrize('name', ['maf', 'coupling of images'])
def test_conditions_reach_the_parameters(name):
  bijection, shape = CASES[name]
  x, condition = jnp.full((2, *shape), 0.5), jnp.array([[0.0, 1.0], [1.0, 0.0]])
  params = moved(jax.jit(bijection.init)(jax.random.key(1), x, condition), 0.2)
  z, _ = jax.jit(bijection.forward)(params, x, condition)
  assert np.abs(z[0] - z[1]).max() > 1e-3
  back, _ = jax.jit(bijection.inverse)(params, z, condition)
  np.testing.assert_allclose(back, x, atol=1e-4)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: bijectors.permutation([0, 0, 1]), r'a permutation, got \[0, 0, 1\]'),
    (lambda: bijectors.repeated(bijectors.reverse(), 0), 'repeated >= 1 times, got 0'),
    (
      lambda: bijectors.squeeze().forward((), jnp.zeros((1, 3, 4, 1))),
      r'x of shape \[3, 4, 1\] has odd ones',
    ),
    (
      lambda: CASES['realnvp'][0].init(jax.random.key(0), jnp.zeros((1, 1))),
      'a coupling needs two channels, got 1',
    ),
    (
      lambda: flow_layers.linear([0, 1]).init(jax.random.key(0), jnp.zeros((1, 3))),
      'x must have 2 channels, got 3',
    ),
  ],
)
def test_wrong_shapes_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
