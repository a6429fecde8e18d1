"""Normalization by a condition, and the networks that have it or judge by it."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import ac_gan, dcgan, infogan, joint, layers, mlp, sngan

KEY = jax.random.key(0)
CONDITION = jax.nn.one_hot(jnp.array([0, 3, 1, 1, 2]), 4)
X = 3.0 + 2.0 * jax.random.normal(KEY, (5, 4, 4, 6))


def normalized(module, variables, *args, train=True):
  y, new = module.apply(variables, *args, train=train, mutable=['batch_stats'])
  return y, new['batch_stats']


@pytest.mark.parametrize('train', [True, False])
def test_at_first_it_is_the_normalization_without_a_condition_and_not_nothing(train):
  module = layers.ConditionalBatchNorm()
  variables = module.init(KEY, X, CONDITION)
  plain = nn.BatchNorm(not train, momentum=0.9, use_bias=False, use_scale=False)
  expected, stats = plain.apply(
    {'batch_stats': variables['batch_stats']['normalization']}, X,
    mutable=['batch_stats'],
  )  # fmt: skip
  y, new = normalized(module, variables, X, CONDITION, train=train)
  np.testing.assert_allclose(y, expected, rtol=1e-6)
  chex.assert_trees_all_close(new['normalization'], stats['batch_stats'])
  if train:  # a gain of gamma alone, without the 1, would make this 0
    np.testing.assert_allclose(np.std(y, axis=(0, 1, 2)), 1, rtol=1e-3)


def test_gain_and_shift_are_of_the_example_s_class():
  module = layers.ConditionalBatchNorm()
  variables = module.init(KEY, X, CONDITION)
  gamma, beta = jax.random.normal(jax.random.key(1), (2, 4, 6))
  params = {'gamma': {'kernel': gamma}, 'beta': {'kernel': beta}}
  y, _ = normalized(module, {**variables, 'params': params}, X, CONDITION)
  x = np.asarray(X, np.float64)
  standard = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
  for i, c in enumerate([0, 3, 1, 1, 2]):
    np.testing.assert_allclose(
      y[i], (1 + gamma[c]) * standard[i] + beta[c], rtol=1e-3, atol=1e-4
    )
  # No class: the plain normalization, whatever was learned.
  y, _ = normalized(module, {**variables, 'params': params}, X, 0 * CONDITION)
  np.testing.assert_allclose(y, standard, rtol=1e-3, atol=1e-4)


def as_without_condition(tree):
  """Parameters, or statistics, of a conditional generator as of a plain one."""
  found = {}
  for name, leaf in tree.items():
    if not name.startswith('ConditionalBatchNorm'):
      found[name] = leaf
    elif 'gamma' in leaf:
      size = leaf['gamma']['kernel'].shape[1]
      found[name.removeprefix('Conditional')] = {
        'scale': jnp.ones(size), 'bias': jnp.zeros(size)
      }  # fmt: skip
    else:
      found[name.removeprefix('Conditional')] = leaf['normalization']
  return found


@pytest.mark.parametrize('remat', [False, True])
def test_a_generator_begins_as_the_one_without_a_condition(remat):
  module, z = dcgan.Generator(8, 1, 4, remat=remat), jax.random.normal(KEY, (5, 3))
  variables = jax.jit(module.init)(KEY, z, CONDITION)
  plain = {name: as_without_condition(tree) for name, tree in variables.items()}
  for train in (True, False):
    found, _ = normalized(module, variables, z, CONDITION, train=train)
    expected, _ = normalized(module, plain, z, train=train)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_conditions_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match=r'must be \[5, K\], got \(4, 4\)'):
    layers.ConditionalBatchNorm().init(KEY, X, CONDITION[:4])
  module = dcgan.Generator(8, 1, 4, normalize=False)
  with pytest.raises(ValueError, match='needs normalize=True'):
    module.init(KEY, jnp.ones((5, 3)), CONDITION)
  with pytest.raises(ValueError, match='image size 24 is not 4 or 7 times'):
    sngan.Generator(24, 1, 4).init(KEY, jnp.ones((5, 3)))


def test_projection_without_v_is_the_critic_without_a_condition():
  module = joint.Projection(mlp.MLP((8, 6)))
  x = jax.random.normal(KEY, (5, 7))
  params = module.init(KEY, x, CONDITION)['params']
  features = nn.leaky_relu(mlp.MLP((8, 6)).apply({'params': params['body']}, x), 0.2)
  unconditional = nn.Dense(1).apply({'params': params['readout']}, features)
  params = {**params, 'condition': {'kernel': jnp.zeros((4, 6))}}
  found = module.apply({'params': params}, x, CONDITION)
  np.testing.assert_allclose(found, unconditional, rtol=1e-6)


def test_concatenation_gives_the_first_layer_a_bias_of_the_class():
  module, body = joint.Conditioned(mlp.MLP((8, 1))), mlp.MLP((8, 1))
  x = jax.random.normal(KEY, (5, 7))
  params = module.init(KEY, x, CONDITION)['params']['body']
  kernel, bias = params['Dense_0']['kernel'], params['Dense_0']['bias']
  for i, c in enumerate([0, 3, 1, 1, 2]):
    own = {**params, 'Dense_0': {'kernel': kernel[:7], 'bias': bias + kernel[7 + c]}}
    np.testing.assert_allclose(
      module.apply({'params': {'body': params}}, x, CONDITION)[i],
      body.apply({'params': own}, x[i : i + 1])[0],
      rtol=1e-5,
      atol=1e-6,
    )


def test_a_spectral_projection_divides_both_weights_by_their_norms():
  module = joint.Projection(mlp.MLP((6,)), activation=nn.relu, spectral_norm=True)
  x = jax.random.normal(KEY, (5, 7))
  variables = module.init(KEY, x, CONDITION)
  for _ in range(30):  # power iteration settles
    _, new = module.apply(variables, x, CONDITION, train=True, mutable=['spectral'])
    variables = {'params': variables['params'], **new}
  found = module.apply(variables, x, CONDITION)
  params = variables['params']
  features = nn.relu(mlp.MLP((6,)).apply({'params': params['body']}, x))
  w, v = params['readout']['kernel'], params['condition']['kernel']
  w, v = (a / np.linalg.norm(a, 2) for a in (w, v))
  expected = features @ w + ((CONDITION @ v) * features).sum(1, keepdims=True)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_residual_generator_without_its_branches_enlarges_pixels():
  module, z = sngan.Generator(16, 1, 3), jax.random.normal(KEY, (5, 2))
  variables = jax.jit(module.init)(KEY, z, CONDITION)
  params = jax.tree.map(lambda a: a, variables['params'])
  for name in ('SameConv_1', 'SameConv_4'):  # the last of each branch
    params[name] = jax.tree.map(jnp.zeros_like, params[name])
  x = (z @ params['Dense_0']['kernel']).reshape(5, 4, 4, 3)
  for name in ('SameConv_2', 'SameConv_5'):
    x = x @ params[name]['kernel'][0, 0]
  x = np.kron(x, np.ones((1, 4, 4, 1)))
  x = nn.relu(x / np.sqrt(1 + 1e-5))  # of statistics 0 and 1, not yet moved
  x = jax.lax.conv_general_dilated(
    x, params['SameConv_6']['kernel'], (1, 1), 'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )  # fmt: skip
  found = module.apply({**variables, 'params': params}, z, CONDITION)
  np.testing.assert_allclose(found, np.tanh(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_residual_critic_s_features_are_homogeneous():
  # No normalization of examples, no bias at first: relu commutes with a factor.
  module, x = sngan.Discriminator(4), jax.random.normal(KEY, (2, 8, 8, 3))
  variables = jax.jit(module.init)(KEY, x)
  once, twice = (module.apply(variables, a) for a in (x, 2 * x))
  np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
  assert once.shape == (2, 4) and once.min() >= 0 and once.max() > 0
  # Features are summed over positions, and each image is by itself.
  np.testing.assert_allclose(module.apply(variables, x[1:]), once[1:], rtol=1e-5)


@pytest.mark.slow
def test_a_residual_critic_s_logit_is_linear_in_its_features_with_slope_one():
  x = jax.random.normal(KEY, (3, 8, 8, 2))
  module = sngan.Discriminator(4, num_outputs=1)
  variables = jax.jit(module.init)(KEY, x)
  kernel, bias = (variables['params']['Dense_0'][n] for n in ('kernel', 'bias'))
  features = sngan.Discriminator(4).apply(variables, x)
  expected = features @ (kernel / np.linalg.norm(kernel)) + bias
  np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-5)


@pytest.mark.slow
def test_a_residual_critic_halves_as_often_as_it_is_told():
  # Of an image of ones each convolution's output is one number inside; the sum over
  # positions counts them: four times as many where one block less halves.
  x = jnp.ones((1, 64, 64, 1))
  once, twice = sngan.Discriminator(3, 1, 1), sngan.Discriminator(3, 2, 2)
  maps = []
  for module in (once, twice):
    variables = jax.jit(module.init)(KEY, x)
    params = jax.tree.map(jnp.zeros_like, variables['params'])
    # Shortcuts alone, the identity on the first channel.
    for name in ('SameConv_2', 'SameConv_5'):
      if name in params:
        kernel = params[name]['kernel'].at[0, 0, 0, 0].set(1.0)
        params[name] = {**params[name], 'kernel': kernel}
    out = module.apply({**variables, 'params': params}, x)
    maps.append(out[0, 0])
  np.testing.assert_allclose(maps, [32.0**2, 16.0**2], rtol=1e-5)


@pytest.mark.slow
def test_ac_gan_s_critic_has_the_papers_layers_and_drops_out_in_training_alone():
  module, x = ac_gan.Discriminator(11), jnp.ones((2, 32, 32, 3))
  variables = jax.eval_shape(module.init, KEY, x)
  shapes = [
    leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    if jax.tree_util.keystr(path).endswith("['kernel']")
  ]  # fmt: skip
  widths = [3, 16, 32, 64, 128, 256, 512]
  expected = {(4 - i % 2, 4 - i % 2, *widths[i : i + 2]) for i in range(6)}
  assert set(shapes) == expected | {(4 * 4 * 512, 11)}
  small, x = ac_gan.Discriminator(3, 2), jax.random.normal(KEY, (2, 8, 8, 1))
  variables = jax.jit(small.init)(KEY, x)

  def out(key, train):
    rngs = {'dropout': jax.random.key(key)}
    return small.apply(variables, x, train=train, rngs=rngs, mutable=['batch_stats'])[0]

  np.testing.assert_array_equal(out(0, False), out(1, False))
  assert np.abs(out(0, True) - out(1, True)).max() > 0


def test_infogan_s_networks_are_a_dcgan_s_behind_a_dense_layer():
  module, z = infogan.Generator(8, 1, 4, 6), jax.random.normal(KEY, (5, 3))
  variables = jax.jit(module.init)(KEY, z)
  params, stats = variables['params'], variables['batch_stats']
  h = nn.relu(z @ params['Dense_0']['kernel'] / np.sqrt(1 + 1e-5))
  inner = {'params': params['Generator_0'], 'batch_stats': stats['Generator_0']}
  expected = dcgan.Generator(8, 1, 4).apply(inner, h)
  np.testing.assert_allclose(module.apply(variables, z), expected, rtol=1e-5)
  reader, x = infogan.Reader(14, 64, (1024, 128)), jnp.ones((2, 28, 28, 1))
  params = jax.eval_shape(reader.init, KEY, x)['params']
  assert params['Discriminator_0']['Dense_0']['kernel'].shape == (7 * 7 * 128, 1024)
  assert params['Dense_0']['kernel'].shape == (1024, 128)
  assert params['Dense_1']['kernel'].shape == (128, 14)
