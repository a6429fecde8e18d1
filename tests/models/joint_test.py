"""Networks with a condition see it, in the form that their papers give."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import dcgan, joint, mlp

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (5, 2, 3))
CONDITION = jax.nn.one_hot(jnp.array([0, 3, 1, 1, 2]), 4)


def test_conditioned_is_the_body_of_both_side_by_side():
  module, body = joint.Conditioned(mlp.MLP((7, 2))), mlp.MLP((7, 2))
  params = module.init(KEY, X, CONDITION)['params']
  both = np.concatenate([np.reshape(X, (5, 6)), CONDITION], axis=1)
  np.testing.assert_allclose(
    module.apply({'params': params}, X, CONDITION),
    body.apply({'params': params['body']}, both),
    rtol=1e-6,
  )


def test_projection_is_affine_in_features_with_weights_of_the_class():
  module = joint.Projection(mlp.MLP((8, 6)))
  params = module.init(KEY, X, CONDITION)['params']
  out = mlp.MLP((8, 6)).apply({'params': params['body']}, X)
  features = np.where(out > 0, out, 0.2 * out)
  weights = params['readout']['kernel'][:, 0] + params['condition']['kernel']  # [K, F]
  bias = params['readout']['bias'] + 1.5
  params = {**params, 'readout': {**params['readout'], 'bias': bias}}
  expected = (features * (CONDITION @ weights)).sum(axis=1, keepdims=True) + bias
  found = module.apply({'params': params}, X, CONDITION)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  nothing = module.apply({'params': params}, X, 0 * CONDITION)
  expected = features @ params['readout']['kernel'] + bias
  np.testing.assert_allclose(nothing, expected, rtol=1e-5, atol=1e-6)


def test_batch_statistics_of_the_body_are_carried():
  module = joint.Conditioned(dcgan.Generator(8, 1, 4))
  z = jnp.ones((5, 3))
  variables = module.init(KEY, z, CONDITION)
  x, new = module.apply(variables, z, CONDITION, train=True, mutable=['batch_stats'])
  assert x.shape == (5, 8, 8, 1) and jax.tree.leaves(new)
  # Equal classes have equal images, of one z.
  np.testing.assert_array_equal(x[2], x[3])
  assert np.abs(x[0] - x[1]).max() > 0


@pytest.mark.parametrize('wrapper', [joint.Conditioned, joint.Projection])
@pytest.mark.parametrize('shape', [(5,), (4, 4), (5, 4, 1)])
def test_conditions_of_another_shape_are_refused(wrapper, shape):
  module: nn.Module = wrapper(mlp.MLP((2,)))
  with pytest.raises(ValueError, match=r'must be \[5, K\], got'):
    jax.eval_shape(module.init, KEY, X, jnp.zeros(shape))
