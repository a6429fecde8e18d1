"""Vector quantization: averages against their closed form, codes that stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.losses import quantization


def test_nearest_is_that_of_float64_at_any_offset():
  rng = np.random.default_rng(0)
  for offset in (0.0, 1000.0):
    codes = (rng.normal(size=(17, 3)) + offset).astype('f4')
    z = (rng.normal(size=(5, 40, 3)) + offset).astype('f4')
    wide = z.astype(np.float64)[..., None, :] - codes.astype(np.float64)
    exact = (wide**2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(quantization.nearest(z, codes), exact)


def test_gradient_of_the_decoder_passes_straight_through():
  z, codes = jnp.array([[0.3, 0.9]]), jnp.array([[0.0, 0.0], [1.0, 1.0]])
  decoder = lambda q: jnp.sin(3 * q).sum()  # noqa: E731

  def loss(z):
    quantized = codes[quantization.nearest(z, codes)]
    return decoder(quantization.straight_through(z, quantized))

  chosen = codes[quantization.nearest(z, codes)]
  value, gradient = jax.value_and_grad(loss)(z)
  assert value == decoder(chosen)
  np.testing.assert_array_equal(gradient, jax.grad(decoder)(chosen))
  third = jnp.float32(1 / 3)  # z + (q - z) would round
  assert quantization.straight_through(jnp.array([1e4]), third[None])[0] == third


def test_terms_move_one_side_each():
  z, e = (
    jnp.array([[[1.0, 2.0]], [[0.0, 0.0]]]),
    jnp.array([[[0.0, 0.0]], [[3.0, 4.0]]]),
  )
  for term, moved in ((quantization.commitment, 0), (quantization.codebook_loss, 1)):
    np.testing.assert_allclose(term(z, e), [5.0, 25.0])
    gradient = jax.grad(lambda *a, term=term: term(*a).sum(), (0, 1))(z, e)
    np.testing.assert_allclose(gradient[moved], 2 * (z - e) * (1 - 2 * moved))
    assert not gradient[1 - moved].any()


def test_averages_are_their_closed_form():
  rng, decay, steps = np.random.default_rng(1), 0.9, 30
  book = quantization.codebook(jnp.array(rng.normal(size=(4, 2)), jnp.float32))
  step = jax.jit(lambda *a: quantization.updated(*a, decay=decay))
  top, bottom = np.zeros((4, 2)), np.zeros(4)
  for i in range(steps):
    z = rng.normal(size=(3, 5, 2)).astype('f4')
    index = rng.integers(0, 3, (3, 5))  # nobody chooses the last
    book = step(book, z, index)
    weight = decay ** (steps - 1 - i)
    for k in range(4):
      top[k] += weight * z[index == k].sum(0)
      bottom[k] += weight * (index == k).sum()
  # The last step chose each of the three: all are at their averages.
  np.testing.assert_allclose(book.codes[:3], top[:3] / bottom[:3, None], rtol=1e-4)
  np.testing.assert_allclose(book.counts, (1 - decay) * bottom, rtol=1e-5)


def test_a_code_without_vectors_does_not_move():
  codes = jnp.array([[0.3, -7.0], [100.0, 3.0]])
  book = quantization.codebook(codes)
  step = jax.jit(quantization.updated)
  book = step(book, jnp.array([[99.0, 4.0]]), jnp.array([1]))
  moved = book.codes[1]
  np.testing.assert_allclose(moved, [99.0, 4.0], rtol=1e-6)  # its vector, undamped
  for _ in range(3000):
    book = step(book, jnp.array([[0.0, 1.0]]), jnp.array([0]))
  np.testing.assert_array_equal(book.codes[1], moved)
  np.testing.assert_allclose(book.codes[0], [0.0, 1.0], atol=1e-6)


def test_dead_codes_begin_anew_on_different_vectors():
  book = quantization.codebook(jnp.zeros((4, 2)))
  z = jnp.arange(12.0).reshape(6, 2)
  book = quantization.updated(book, z[:1].repeat(50, 0), jnp.full(50, 2))
  new = quantization.restarted(book, jax.random.key(0), z, least=0.1)
  assert (new.codes[2] == z[0]).all() and new.counts[2] == book.counts[2] > 0
  others = np.asarray(new.codes)[[0, 1, 3]]
  assert len(np.unique(others, axis=0)) == 3
  assert all((np.asarray(z) == row).all(1).any() for row in others)
  assert not new.counts[jnp.array([0, 1, 3])].any()
  with pytest.raises(ValueError, match='3 vectors cannot fill 4 codes'):
    quantization.restarted(book, jax.random.key(0), z[:3], least=0.1)


def test_perplexity_is_the_number_of_codes_in_equal_use():
  counts = jnp.array([[5, 5, 0, 0], [7, 7, 7, 7], [9, 0, 0, 0], [0, 0, 0, 0]])
  np.testing.assert_allclose(quantization.perplexity(counts), [2, 4, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda b: quantization.nearest(jnp.zeros((3, 5)), b.codes), 'z must be'),
    (lambda b: quantization.updated(b, jnp.zeros((3, 2)), jnp.zeros(3)), 'integers'),
    (lambda b: quantization.updated(b, jnp.zeros((3, 2)), jnp.zeros(2, int)), 'index'),
    (lambda b: quantization.updated(b, jnp.zeros((3, 2)), jnp.zeros(3, int), decay=1.0),
     'decay'),
    (lambda b: quantization.straight_through(jnp.zeros((3, 2)), jnp.zeros(2)), 'shape'),
  ],
)  # fmt: skip
def test_what_makes_no_sense_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(quantization.codebook(jnp.zeros((4, 2))))
