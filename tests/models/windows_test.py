"""The perceptron of windows: what a pixel sees, and that all see alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import windows

KEY, T = jax.random.key(0), jnp.array([0.3])
X = jax.random.normal(KEY, (1, 7, 6, 2))
NET = windows.WindowMLP(width=8, num_blocks=1, radius=1, outputs=3)


def made(place=1.0, net=NET):
  """(x, t, condition) -> outputs of a network no layer of which is 0."""
  condition = jnp.ones((1, 4))
  rng = np.random.default_rng(0)
  params = jax.eval_shape(net.init, KEY, X, T, condition)['params']
  params = jax.tree.map(lambda v: np.float32(rng.normal(size=v.shape)), params)
  params['place'] = place * params['place']
  return jax.jit(lambda x, t, c: net.apply({'params': params}, x, t, c))


def test_windows_are_those_cut_from_a_padded_image():
  padded = np.pad(X[0], ((2, 2), (2, 2), (0, 0)))
  found = windows.windows(X, 2)
  assert found.shape == (1, 7, 6, 50)
  for i, j in np.ndindex(7, 6):
    np.testing.assert_array_equal(found[0, i, j], padded[i : i + 5, j : j + 5].ravel())


def test_a_pixel_sees_its_window_the_time_and_the_condition_and_nothing_else():
  apply, condition = made(), jnp.ones((1, 4))
  before = apply(X, T, condition)
  moved = np.abs(apply(X.at[0, 3, 2, 0].add(1.0), T, condition) - before).max(axis=-1)
  near = np.zeros((7, 6), bool)
  near[2:5, 1:4] = True
  assert (moved[0][near] > 1e-4).all() and not moved[0][~near].any()
  for other in (apply(X, T + 1, condition), apply(X, T, 2 * condition)):
    assert (np.abs(other - before).max(axis=-1) > 1e-5).all()


def test_mixed_places_are_seen_from_everywhere_once_their_map_is_not_0():
  net, condition = NET.clone(mixes=True), jnp.ones((1, 4))
  before, after = (made(net=net)(x, T, condition) for x in (X, X.at[0, 0, 0].add(1.0)))
  assert (np.abs(after - before).max(axis=-1) > 1e-6).all()


def test_without_places_what_is_moved_is_told_the_same_elsewhere():
  condition = jnp.ones((1, 4))
  inside = jnp.zeros((1, 7, 6, 2)).at[:, 2:4, 2:4].set(X[:, :2, :2])
  shifted = jnp.roll(inside, (2, 1), (1, 2))
  for place in (0.0, 1.0):
    apply = made(place)
    one = jnp.roll(apply(inside, T, condition), (2, 1), (1, 2))
    other = apply(shifted, T, condition)
    is_same = np.allclose(one[:, 3:6, 3:5], other[:, 3:6, 3:5], atol=1e-5)
    assert is_same == (place == 0.0)


def test_it_begins_with_0_and_another_shape_is_one_line():
  out, _ = jax.jit(NET.init_with_output)(KEY, X, T)
  assert out.shape == (1, 7, 6, 3) and not out.any()
  with pytest.raises(ValueError, match=r'x must be \[B, H, W, C\], got \(1, 7\)'):
    NET.init(KEY, X[:, :, 0, 0], T)
