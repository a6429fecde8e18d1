"""Adversarial games: the losses of a critic and a generator, on the critic's logits.

A critic gives one number an example, its logit: r on real data x ~ p, f on
generated data G(z) ~ q. A `Game` is the pair of losses built on these numbers.
Where logits are log-odds, D(x) = sigmoid(logit) is the probability of being
real, log D = -softplus(-logit) and log(1 - D) = -softplus(logit): no sigmoid is
ever computed, so logits of +-1e4 are safe. Every loss is minimized, is in nats
where the game is a likelihood (logits squared in least squares, logits in hinge
and Wasserstein), and comes back unreduced as [B]; the caller takes the mean.
Example i of the real batch and example i of the fake batch share entry i; only
`RELATIVISTIC` gives that pairing a meaning.

Every loss has the same two arguments, real_logits and fake_logits: the critic's raw
outputs, never passed through a sigmoid. A generator that ignores real_logits takes
them all the same, so that all games are called alike. A critic of P patches gives
`[B, P]` (any trailing axes): then every loss is the mean over patches, still `[B]`.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import adversarial
  >>> undecided = jnp.zeros(3)
  >>> loss = adversarial.MINIMAX.discriminator(undecided, undecided)
  >>> print(loss.shape, f'{loss.mean():.4f}')  # 2 ln 2: p and q look the same
  (3,) 1.3863
  >>> smoothed = adversarial.one_sided_label_smoothing(adversarial.MINIMAX, 0.1)
  >>> sure = jnp.full(3, 20.0)
  >>> print(f'{smoothed.discriminator(sure, -sure).mean():.4f}')  # 0.1 * 20
  2.0000
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.losses import shapes

Array = jax.Array


@shapes.over_patches
def cross_entropy_discriminator(real_logits: Array, fake_logits: Array) -> Array:
  """The binary cross entropy of a classifier of real against fake.

  softplus(-r) + softplus(f) = -log D(x) - log(1 - D(G(z)))

  The optimal logit is log p(x) / q(x); there the expected loss is
  ln 4 - 2 JSD(p, q), which is 2 ln 2 where p = q.

  Source: Generative Adversarial Nets, Goodfellow et al., 2014, arXiv:1406.2661,
  eq. 1.

  Args:
    real_logits: `[B]` the critic's raw output on data, log-odds of being real.
    fake_logits: `[B]` the critic's raw output on samples, log-odds of being real.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits)


@shapes.over_patches
def minimax_generator(real_logits: Array, fake_logits: Array) -> Array:
  """The zero-sum generator loss, which saturates where the critic is sure.

  -softplus(f) = log(1 - D(G(z)))

  Its derivative in f is -D(G(z)): it vanishes on samples the critic rejects.

  Source: Generative Adversarial Nets, Goodfellow et al., 2014, arXiv:1406.2661,
  eq. 1.

  Args:
    real_logits: `[B]` the critic's raw output on data, ignored.
    fake_logits: `[B]` the critic's raw output on samples, log-odds of being real.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return -jax.nn.softplus(fake_logits)


@shapes.over_patches
def non_saturating_generator(real_logits: Array, fake_logits: Array) -> Array:
  """The generator loss with the label flipped, which does not saturate.

  softplus(-f) = -log D(G(z))

  Its derivative in f is D(G(z)) - 1: it tends to -1 on samples the critic
  rejects. At the optimal critic its gradient is that of KL(q || p) - 2 JSD(p, q)
  (Towards Principled Methods for Training Generative Adversarial Networks,
  Arjovsky and Bottou, 2017, arXiv:1701.04862, theorem 2.5).

  Source: Generative Adversarial Nets, Goodfellow et al., 2014, arXiv:1406.2661,
  section 3.

  Args:
    real_logits: `[B]` the critic's raw output on data, ignored.
    fake_logits: `[B]` the critic's raw output on samples, log-odds of being real.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return jax.nn.softplus(-fake_logits)


@shapes.over_patches
def least_squares_discriminator(real_logits: Array, fake_logits: Array) -> Array:
  """Regresses the critic on the target 1 for data and 0 for samples.

  (r - 1)^2 + f^2

  The optimal output is p(x) / (p(x) + q(x)). The paper writes a factor 1/2,
  which is left to the learning rate here.

  Source: Least Squares Generative Adversarial Networks, Mao et al., 2016,
  arXiv:1611.04076, the 0-1 coding (a, b, c) = (0, 1, 1).

  Args:
    real_logits: `[B]` the critic's raw output on data.
    fake_logits: `[B]` the critic's raw output on samples.

  Returns:
    `[B]` logits squared.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return jnp.square(real_logits - 1.0) + jnp.square(fake_logits)


@shapes.over_patches
def least_squares_generator(real_logits: Array, fake_logits: Array) -> Array:
  """Pulls the critic's output on samples to the target of real data.

  (f - 1)^2

  The paper writes a factor 1/2, which is left to the learning rate here.

  Source: Least Squares Generative Adversarial Networks, Mao et al., 2016,
  arXiv:1611.04076, the 0-1 coding (a, b, c) = (0, 1, 1).

  Args:
    real_logits: `[B]` the critic's raw output on data, ignored.
    fake_logits: `[B]` the critic's raw output on samples.

  Returns:
    `[B]` logits squared.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return jnp.square(fake_logits - 1.0)


@shapes.over_patches
def hinge_discriminator(real_logits: Array, fake_logits: Array) -> Array:
  """The margin loss of a support vector machine between data and samples.

  max(0, 1 - r) + max(0, 1 + f)

  The optimal output is sign(p(x) - q(x)), and the loss there is
  2 - 2 TV(p, q) in expectation.

  Source: Geometric GAN, Lim and Ye, 2017, arXiv:1705.02894.

  Args:
    real_logits: `[B]` the critic's raw output on data.
    fake_logits: `[B]` the critic's raw output on samples.

  Returns:
    `[B]` logits.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return jax.nn.relu(1.0 - real_logits) + jax.nn.relu(1.0 + fake_logits)


@shapes.over_patches
def wasserstein_discriminator(real_logits: Array, fake_logits: Array) -> Array:
  """The critic's side of the Kantorovich-Rubinstein dual, negated.

  f - r

  Over 1-Lipschitz critics the minimum of the mean is -W_1(p, q). The constraint
  is the caller's: spectral normalization, or `penalties.gradient_penalty`.

  Source: Wasserstein GAN, Arjovsky et al., 2017, arXiv:1701.07875, eq. 2.

  Args:
    real_logits: `[B]` the critic's raw output on data.
    fake_logits: `[B]` the critic's raw output on samples.

  Returns:
    `[B]` logits, in the unit of the data where the critic is 1-Lipschitz.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return fake_logits - real_logits


@shapes.over_patches
def linear_generator(real_logits: Array, fake_logits: Array) -> Array:
  """Raises the critic's output on samples: the Wasserstein and hinge generator.

  -f

  Source: Wasserstein GAN, Arjovsky et al., 2017, arXiv:1701.07875; for the hinge
  game, Geometric GAN, Lim and Ye, 2017, arXiv:1705.02894.

  Args:
    real_logits: `[B]` the critic's raw output on data, ignored.
    fake_logits: `[B]` the critic's raw output on samples.

  Returns:
    `[B]` logits.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return -fake_logits


@shapes.over_patches
def relativistic_discriminator(real_logits: Array, fake_logits: Array) -> Array:
  """The cross entropy of a classifier that picks the real one of a pair.

  softplus(-(r - f))

  Example i of the one batch is paired with example i of the other.

  Source: The relativistic discriminator: a key element missing from standard
  GAN, Jolicoeur-Martineau, 2018, arXiv:1807.00734.

  Args:
    real_logits: `[B]` the critic's raw output on data.
    fake_logits: `[B]` the critic's raw output on samples.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return jax.nn.softplus(fake_logits - real_logits)


@shapes.over_patches
def relativistic_generator(real_logits: Array, fake_logits: Array) -> Array:
  """The relativistic discriminator's loss with the two roles exchanged.

  softplus(-(f - r))

  Source: The relativistic discriminator: a key element missing from standard
  GAN, Jolicoeur-Martineau, 2018, arXiv:1807.00734.

  Args:
    real_logits: `[B]` the critic's raw output on data, not ignored.
    fake_logits: `[B]` the critic's raw output on samples.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  return jax.nn.softplus(real_logits - fake_logits)


@shapes.over_patches
def relativistic_average_discriminator(real_logits: Array, fake_logits: Array) -> Array:
  """The cross entropy of each side against the average logit of the other.

  softplus(-(r - mean f)) + softplus(f - mean r)

  Batch-coupled: the means run over the batch that is passed.

  Source: The relativistic discriminator: a key element missing from standard
  GAN, Jolicoeur-Martineau, 2018, arXiv:1807.00734.

  Args:
    real_logits: `[B]` the critic's raw output on data.
    fake_logits: `[B]` the critic's raw output on samples.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  shapes.check_examples(real_logits=real_logits, fake_logits=fake_logits)
  # No stop_gradient on the means: the game is of all logits of both batches.
  real_margin = real_logits - fake_logits.mean()
  fake_margin = fake_logits - real_logits.mean()
  return jax.nn.softplus(-real_margin) + jax.nn.softplus(fake_margin)


@shapes.over_patches
def relativistic_average_generator(real_logits: Array, fake_logits: Array) -> Array:
  """The relativistic average discriminator's loss with the roles exchanged.

  softplus(-(f - mean r)) + softplus(r - mean f)

  Batch-coupled: the means run over the batch that is passed.

  Source: The relativistic discriminator: a key element missing from standard
  GAN, Jolicoeur-Martineau, 2018, arXiv:1807.00734.

  Args:
    real_logits: `[B]` the critic's raw output on data, not ignored.
    fake_logits: `[B]` the critic's raw output on samples.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: a scalar, or two shapes.
  """
  # The loss is symmetric under exchanging the roles together with the labels.
  return relativistic_average_discriminator(fake_logits, real_logits)


MINIMAX = base.Game(minimax_generator, cross_entropy_discriminator)
NON_SATURATING = base.Game(non_saturating_generator, cross_entropy_discriminator)
LEAST_SQUARES = base.Game(least_squares_generator, least_squares_discriminator)
HINGE = base.Game(linear_generator, hinge_discriminator)
WASSERSTEIN = base.Game(linear_generator, wasserstein_discriminator)
RELATIVISTIC = base.Game(relativistic_generator, relativistic_discriminator)
RELATIVISTIC_AVERAGE = base.Game(
  relativistic_average_generator, relativistic_average_discriminator
)


def _check_has_labels(game: base.Game) -> None:
  """Raises unless d(r, f) = a(r) + b(f) and a common shift changes it.

  A game is a pair of opaque functions, so both laws are tried on four numbers.
  """
  d = game.discriminator
  with jax.ensure_compile_time_eval():  # concrete even where a caller is traced
    r, f = jnp.array([-1.5, -0.3, 0.7, 2.0]), jnp.array([0.4, -2.0, 1.1, -0.6])
    zero = jnp.zeros_like(r)
    # d separates exactly when its mixed differences vanish, here those from (0, 0).
    separable = jnp.allclose(d(r, f) + d(zero, zero), d(r, zero) + d(zero, f), 1e-4)
    shift_matters = not jnp.allclose(d(r + 1.0, f + 1.0), d(r, f), 1e-4)
  if not separable:
    raise ValueError(
      'smoothing needs a game with a discriminator loss a(real) + b(fake), so that'
      ' real examples have labels of their own; a relativistic game has none'
    )
  if not shift_matters:
    raise ValueError(
      'smoothing needs a game with labels, whose discriminator loss a common shift'
      ' of the logits changes; otherwise (Wasserstein) it has no lower bound'
    )


def one_sided_label_smoothing(game: base.Game, smoothing: float) -> base.Game:
  """Returns a game that labels data real with probability 1 - smoothing only.

  For d(r, f) = a(r) + b(f), where b is the loss under the label fake,

    d(r, f) + s (d(0, r) - d(r, 0)) = (1 - s) a(r) + s b(r) + b(f) + constant.

  For `MINIMAX` and `NON_SATURATING` the constant is 0 and the real term is
  (1 - s) softplus(-r) + s softplus(r). For `LEAST_SQUARES` the loss is
  (r - (1 - s))^2 + f^2 up to the additive constant 1 - (1 - s)^2. The generator
  is untouched, and so are the critic's labels of samples: smoothing those too
  would pull samples towards where they already are.

  Source: Improved Techniques for Training GANs, Salimans et al., 2016,
  arXiv:1606.03498, section 3.4.

  Args:
    game: a separable game with labels: not relativistic, not Wasserstein.
    smoothing: s, a probability in [0, 1); the paper's target 0.9 is s = 0.1.

  Returns:
    The smoothed game.

  Raises:
    ValueError: `smoothing` outside [0, 1), or a game that has no labels.
  """
  if not 0.0 <= smoothing < 1.0:
    raise ValueError(f'smoothing must be in [0, 1), got {smoothing}')
  _check_has_labels(game)

  def discriminator(real_logits: Array, fake_logits: Array) -> Array:
    loss = game.discriminator(real_logits, fake_logits)
    zero = jnp.zeros_like(real_logits)
    # Differences against logits of 0 isolate b(r) and a(r): what b(0) and a(0) add
    # is a constant, without a gradient.
    as_fake = game.discriminator(zero, real_logits)
    as_real = game.discriminator(real_logits, zero)
    return loss + smoothing * (as_fake - as_real)

  return base.Game(game.generator, discriminator)


def _is_zero_sum(game: base.Game) -> bool:
  """Whether the generator's loss is the discriminator's on samples, negated.

  Tried on four numbers, as in `_check_has_labels`: their sum must not depend on f.
  """
  with jax.ensure_compile_time_eval():
    r, f = jnp.array([-1.5, -0.3, 0.7, 2.0]), jnp.array([0.4, -2.0, 1.1, -0.6])
    total, at_zero = (
      game.generator(r, v) + game.discriminator(r, v) for v in (f, jnp.zeros_like(f))
    )
    return bool(jnp.allclose(total, at_zero, rtol=1e-4, atol=1e-6))


def exchange_roles(game: base.Game) -> Callable[[Array, Array], Array]:
  """Returns the loss of players who make both the real and the fake examples.

  A generator moves the fake ones alone. Where the real ones depend on the players too,
  as pairs (x, E(x)), fake should look real and real should look fake:

    d(f, r)   the discriminator's loss with the roles exchanged,
    -d(r, f)  of a zero-sum game, whose generator does the same to its own part

  for a discriminator's loss d(r, f). Minimax gives -d(r, f), the value of the game, and
  the non-saturating game softplus(-f) + softplus(r); least squares (f - 1)^2 + r^2, in
  which a change of both signs would pull real to -1. At the best critic of each game
  the loss is least where the two distributions are one.

  Source: Adversarial Feature Learning, Donahue et al., 2016, arXiv:1605.09782, eq. 3
  and the inverse objective of section 3.4, on learning.

  Args:
    game: of which the generator's loss says only whether the game is zero-sum.

  Returns:
    A loss (real_logits `[B]`, fake_logits `[B]`) -> `[B]` in the game's unit; of
    `[B, P]` the mean over patches. It raises ValueError for two shapes.
  """
  if _is_zero_sum(game):
    return lambda real_logits, fake_logits: (
      -game.discriminator(real_logits, fake_logits)
    )
  return lambda real_logits, fake_logits: game.discriminator(fake_logits, real_logits)
