"""How many floating-point operations one step of a GAN must take.

Only matrix products are counted, two operations a multiply-add. With B examples
of each kind, s_l the multiply-adds of layer l for one example (in * out, times
the places that a convolution's kernel is laid on, borders included) and
S = sum_l s_l, N = 2B rows (real and fake) through the discriminator cost

  F  = 2 N S          a forward pass; as much the gradient of the weights;
  F' = 2 N (S - s_1)  the gradient of the inputs, which the data do not need.

and x = 2 B s_1 the gradient of the fake examples, G and G' as F and F' for the
generator's B rows. One discriminator step takes 2F + F'. Write h for a layer's
input, delta for the gradient of its output W h and V for the cotangent of the
weights' gradient h^T delta. Reverse mode through that step then needs

  cot delta: h V (F) and, from the layer below, cot(delta W^T) W (F')
  cot h:     delta V^T (F' + x) and cot(W h) W^T (F' + x)
  cot W:     h^T cot(W h) (F) and cot(delta W^T)^T delta (F'),

2F + 4F' + 2x, where all that the forward pass computed is still stored. The
first step's weights do not depend on the generator: cot W falls away there, and
with it every real row, which leaves (F + 3F') / 2 + 2x. In sum

  D's step     G + 2F + F'
  G's step     G + k (2F + F') + F + outer + reverse(k) + G + G'
  outer        F' / 2 + x at k = 0 (fake rows only), else F + F' + x
  reverse(k)   (k - 1) (2F + 4F' + 2x) + (F + 3F') / 2 + 2x   for k >= 1.

Rematerialization repeats each inner step once, k (2F + F') more; it is no part
of the floor. The partial gradient leaves out reverse(k), and the outer pass is that of
k = 0. Of the ordinary GAN, whose generator's loss needs no real examples,

  G's step     G + F / 2 + F' / 2 + x + G + G'.
"""

from collections.abc import Sequence


def products(sizes: Sequence[int]) -> list[int]:
  """in * out of each layer of a perceptron with these sizes, input first."""
  return [a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True)]


def convolutions(sides: Sequence[int], channels: Sequence[int]) -> list[int]:
  """Multiply-adds of 4x4 convolutions between images of these sides, in order.

  Up or down, every pixel of the smaller image meets the whole kernel.
  """
  pairs = zip(sides[:-1], sides[1:], channels[:-1], channels[1:], strict=True)
  return [min(a, b) ** 2 * 16 * i * o for a, b, i, o in pairs]


def dcgan(
  size: int, channels: int, latent_size: int, g_features: int, d_features: int
) -> tuple[list[int], list[int]]:
  """Multiply-adds of the layers of `models.dcgan`'s networks, for 8 or 28 pixels.

  Args:
    size: height and width of the images.
    channels: of the images.
    latent_size: of z.
    g_features: channels of the generator before its last doubling.
    d_features: channels of the discriminator after its first halving.

  Returns:
    The generator's layers and the discriminator's, each first to last.
  """
  doublings = {8: 1, 28: 2}[size]
  sides = [size // 2**i for i in range(doublings + 1)]
  up = [channels, *(g_features * 2**i for i in range(doublings))][::-1]
  down = [channels, *(d_features * 2**i for i in range(doublings))]
  return (
    [latent_size * sides[-1] ** 2 * up[0], *convolutions(sides[::-1], up)],
    [*convolutions(sides, down), sides[-1] ** 2 * down[-1]],
  )


def sngan(
  size: int,
  latent_size: int,
  channels: int,
  features: int,
  halvings: int,
  num_blocks: int,
) -> tuple[list[int], list[int]]:
  """Multiply-adds of the layers of `models.sngan`'s networks, from 4x4 pixels on.

  Args:
    size: height and width of the images.
    latent_size: of z.
    channels: of the images.
    features: of every block.
    halvings: blocks of the discriminator that halve.
    num_blocks: of the discriminator.

  Returns:
    The generator's layers and the discriminator's, each first to last.
  """
  near, square = 9, features**2
  sides = [4 * 2**i for i in range(1, (size // 4).bit_length())]
  g = [latent_size * 16 * features]
  for side in sides:
    g += [side**2 * near * square] * 2 + [side**2 * square]
  g.append(size**2 * near * features * channels)
  # The first block halves before its 1x1 convolution, the others after it.
  d = [
    size**2 * near * channels * features,
    size**2 * near * square,
    (size // 2) ** 2 * channels * features,
  ]
  for i in range(1, num_blocks):
    side = size // 2 ** min(i, halvings)
    d += [side**2 * near * square] * 2 + [side**2 * square] * (i < halvings)
  return g, [*d, features]


def critic_step(g: Sequence[int], d: Sequence[int], batch_size: int) -> int:
  """Operations of one step of the discriminator, drawing its fake examples included."""
  return 2 * batch_size * sum(g) + 4 * batch_size * (2 * sum(d) + sum(d[1:]))


def gan(
  g: Sequence[int], d: Sequence[int], batch_size: int, *, num_critic: int = 1
) -> int:
  """Operations of one step of the ordinary GAN.

  Args:
    g: multiply-adds of the generator's layers for one example, first to last.
    d: of the discriminator's.
    batch_size: B.
    num_critic: steps of the discriminator.

  Returns:
    The number of floating-point operations in matrix products.
  """
  g_forward, g_inputs = 2 * batch_size * sum(g), 2 * batch_size * sum(g[1:])
  forward, inputs = 4 * batch_size * sum(d), 4 * batch_size * sum(d[1:])
  total = num_critic * critic_step(g, d, batch_size)
  total += g_forward + (forward + inputs) // 2 + 2 * batch_size * d[0]
  return total + g_forward + g_inputs


def step(
  k: int,
  generator: Sequence[int],
  discriminator: Sequence[int],
  batch_size: int,
  **options: bool,
) -> int:
  """`unrolled` of two perceptrons, given by the sizes of their layers."""
  g, d = products(generator), products(discriminator)
  return unrolled(k, g, d, batch_size, **options)


def unrolled(
  k: int,
  g: Sequence[int],
  d: Sequence[int],
  batch_size: int,
  *,
  partial: bool = False,
  rematerialized: bool = False,
) -> int:
  """Operations of one step of the unrolled GAN, by the formulae above.

  Args:
    k: inner steps.
    g: multiply-adds of the generator's layers for one example, first to last.
    d: of the discriminator's.
    batch_size: B.
    partial: whether the gradient through the inner steps is left out.
    rematerialized: counts the inner steps' second forward pass too.

  Returns:
    The number of floating-point operations in matrix products.
  """
  g_forward, g_inputs = 2 * batch_size * sum(g), 2 * batch_size * sum(g[1:])
  forward, inputs = 4 * batch_size * sum(d), 4 * batch_size * sum(d[1:])
  fake = 2 * batch_size * d[0]
  inner = 2 * forward + inputs
  total = critic_step(g, d, batch_size)
  total += g_forward + k * inner + forward + g_forward + g_inputs
  if k == 0 or partial:
    return total + inputs // 2 + fake
  total += forward + inputs + fake
  total += (k - 1) * (2 * forward + 4 * inputs + 2 * fake)
  total += (forward + 3 * inputs) // 2 + 2 * fake
  return total + (k * inner if rematerialized else 0)
