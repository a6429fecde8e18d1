"""Networks that translate: what a patch sees, the papers' sizes, single images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import translation


def window(critic, size, at):
  """Rows of the image that a logit depends on."""
  x = jax.random.normal(jax.random.key(0), (1, size, size, 1))
  params = jax.jit(critic.init)(jax.random.key(1), x)

  @jax.jit
  def slope(x):
    return jax.grad(lambda x: critic.apply(params, x)[0, at, at])(x)

  rows = np.flatnonzero(np.abs(slope(x)[0, :, :, 0]).max(axis=1) > 0)
  return rows


class Plain(translation.PatchCritic):
  """The critic without normalization, which lets every pixel see all."""


@pytest.mark.parametrize(('halvings', 'patch'), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_patch_of_its_size(halvings, patch, monkeypatch):
  monkeypatch.setattr(translation, 'instance_norm', lambda x: x)
  size = 2**halvings * -(-3 * patch // 2**halvings)
  critic = Plain(2, halvings)
  rows = window(critic, size, size // 2**halvings // 2)
  assert rows[-1] - rows[0] + 1 == len(rows) == patch


def test_the_papers_critic_has_thirty_by_thirty_logits_and_its_weights():
  critic, x = translation.PatchCritic(), jax.ShapeDtypeStruct((1, 256, 256, 3), 'f4')
  logits, variables = jax.eval_shape(critic.init_with_output, jax.random.key(0), x)
  assert logits.shape == (1, 30, 30)
  sizes = [3, 64, 128, 256, 512, 1]
  expected = sum(16 * a * b for a, b in zip(sizes, sizes[1:], strict=False))
  expected += 64 + 1 + 2 * (128 + 256 + 512)  # biases; gains and shifts
  assert sum(a.size for a in jax.tree.leaves(variables)) == expected


def test_the_papers_translators_have_their_layers():
  x = jax.ShapeDtypeStruct((1, 256, 256, 3), 'f4')
  for blocks, label in ((9, 0), (6, 5)):
    net = translation.Translator(3, num_blocks=blocks)
    args = (jax.ShapeDtypeStruct((1, label), 'f4'),) if label else ()
    out, variables = jax.eval_shape(net.init_with_output, jax.random.key(0), x, *args)
    assert out.shape == x.shape
    expected = 49 * (3 + label) * 64 + 49 * 64 * 3 + 3  # 7x7 at both ends
    expected += 2 * 16 * (64 * 128 + 128 * 256)  # down and up, 4x4
    expected += 2 * blocks * 9 * 256 * 256
    expected += 2 * (64 + 128 + 256 + 128 + 64 + 2 * blocks * 256)  # normalization
    assert sum(a.size for a in jax.tree.leaves(variables)) == expected


def test_the_papers_critic_of_domains_ends_in_two_by_two_patches():
  net = translation.DomainCritic(5)
  x = jax.ShapeDtypeStruct((1, 128, 128, 3), 'f4')
  (patches, domains), variables = jax.eval_shape(
    net.init_with_output, jax.random.key(0), x
  )
  assert patches.shape == (1, 4) and domains.shape == (1, 5)
  widths = [3, *(64 * 2**i for i in range(6))]
  expected = sum(16 * a * b + b for a, b in zip(widths, widths[1:], strict=False))
  assert sum(a.size for a in jax.tree.leaves(variables)) == (
    expected + 9 * 2048 + 4 * 2048 * 5
  )


@pytest.mark.parametrize('name', ['instance_norm', 'layer_norm'])
def test_instance_normalization_loses_contrast_and_brightness(name):
  """A translator of it cannot give back the gray of an image's ground."""
  normalize = getattr(translation, name)
  net = translation.Translator(1, 4, 1, 1, 3, normalize)
  x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 1), minval=-0.5, maxval=0.5)
  params = jax.jit(net.init)(jax.random.key(1), x)
  # Kernels that let numbers through, far above the normalization's epsilon.
  params = jax.tree.map(lambda p: 20 * p if p.ndim == 4 else p, params)
  apply = jax.jit(lambda x: net.apply(params, x))
  gap = np.abs(apply(x) - apply(0.5 * x + 0.4)).max()
  assert gap < 0.02 if name == 'instance_norm' else gap > 0.1


def test_a_translator_of_changes_begins_as_the_identity_and_reaches_both_ends():
  net = translation.Changed(translation.Translator(1, 4, 1, 1, 3))
  x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 1), minval=-1.0)
  params = jax.jit(net.init)(jax.random.key(1), x)
  assert np.abs(net.apply(params, x) - x).mean() < 0.25
  bias = params['params']['body']['Conv_3']
  bias['bias'] = jnp.full(1, 100.0)
  np.testing.assert_allclose(net.apply(params, -jnp.ones_like(x)), 1.0, atol=1e-4)


NETWORKS = {
  'translator': translation.Translator(1, 4, 1, 1, 3),
  'patches': translation.PatchCritic(4, 1),
  'domains': translation.DomainCritic(3, 4, 2),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_an_image_alone_is_as_among_others_in_training_too(name):
  net = NETWORKS[name]
  x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
  label = (jnp.eye(4)[:, :2],) if name == 'translator' else ()
  variables = jax.jit(net.init)(jax.random.key(1), x, *label)
  assert set(variables) == {'params'}  # no statistics that would differ afterwards
  apply = jax.jit(lambda x, *c: net.apply(variables, x, *c, train=True))
  whole = jax.tree.leaves(apply(x, *label))
  alone = jax.tree.leaves(apply(x[2:3], *(c[2:3] for c in label)))
  for a, b in zip(whole, alone, strict=True):
    np.testing.assert_allclose(a[2:3], b, atol=1e-5)


def test_a_convolution_reflects_the_image_at_its_border():
  net = translation.Conv(1, 3)
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  kernel = jnp.zeros((3, 3, 1, 1)).at[0, 1].set(1.0)  # the pixel above
  out = net.apply({'params': {'kernel': kernel}}, x)
  expected = jnp.concatenate([x[:, 1:2], x[:, :3]], axis=1)
  np.testing.assert_allclose(out, expected)


@pytest.mark.parametrize('name', NETWORKS)
def test_images_of_the_wrong_size_are_one_line(name):
  size = {'translator': 7, 'patches': 4, 'domains': 6}[name]
  with pytest.raises(
    ValueError, match=r'\[B, H, W, C\], H and W multiples of'
  ) as error:
    jax.eval_shape(
      NETWORKS[name].init, jax.random.key(0), jnp.zeros((2, size, size, 1))
    )
  assert '\n' not in str(error.value)
