"""GANs of classes and of codes at 28 pixels, as `bench.steps` measures them.

The networks are those of `gan_dcgan_28` there, with what each method adds. Operations
are counted as in `bench.flops`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import optax

from experiments.bench import flops
from gm_jax import base, conditions, priors
from gm_jax.methods import ac_gan, gan, infogan
from gm_jax.models import dcgan, joint

SIZE, FEATURES, LATENT, CLASSES, BATCH = 28, 64, 100, 10, 64
BODY = 128  # features of the projection critic
Wrap = Callable[[optax.GradientTransformation], optax.GradientTransformation]


class Case(NamedTuple):
  """A method, and how many operations its step has."""

  make: Callable[[Wrap], base.Method]
  operations: int


def _txs(wrap: Wrap, players: str = 'gd') -> dict:
  return {f'{name}_tx': wrap(optax.adam(2e-4, 0.5)) for name in players}


def _critic(num_outputs: int = 1) -> dcgan.Discriminator:
  return dcgan.Discriminator(FEATURES, num_outputs=num_outputs)


def _products(latent_size: int, *last: int) -> tuple[list[int], list[int]]:
  """Multiply-adds of both networks; `last` those of the critic's layers at its end."""
  g, d = flops.dcgan(SIZE, 1, latent_size, FEATURES, FEATURES)
  return g, [*d[:-1], *last]


def _vector() -> int:
  """Numbers that the critic's convolutions end with."""
  return flops.dcgan(SIZE, 1, LATENT, FEATURES, FEATURES)[1][-1]


def _auxiliary(wrap: Wrap) -> base.Method:
  generator = joint.Conditioned(dcgan.Generator(SIZE, 1, FEATURES))
  return ac_gan.ac_gan(
    generator, _critic(1 + CLASSES), **_txs(wrap), prior=priors.normal(LATENT),
    num_classes=CLASSES,
  )  # fmt: skip


def _projection(wrap: Wrap) -> base.Method:
  return gan.gan(
    dcgan.Generator(SIZE, 1, FEATURES),
    joint.Projection(_critic(BODY)),
    **_txs(wrap),
    prior=priors.normal(LATENT),
    condition=conditions.by_class(CLASSES),
  )


def _codes(wrap: Wrap) -> base.Method:
  return infogan.infogan(
    dcgan.Generator(SIZE, 1, FEATURES), _critic(), _critic(CLASSES + 4),
    **_txs(wrap, 'gdq'), codes=infogan.Codes(priors.uniform(LATENT), CLASSES, 2),
  )  # fmt: skip


def _gan(g: Sequence[int], d: Sequence[int]) -> int:
  return flops.gan(g, d, BATCH)


def _infogan() -> int:
  """A GAN's, and Q's: its own step on fakes, and the generator's through it."""
  q = _products(LATENT, _vector() * (CLASSES + 4))[1]
  own = 2 * BATCH * (2 * sum(q) + sum(q[1:]))
  through = 2 * BATCH * 2 * sum(q)
  return _gan(*_products(LATENT + CLASSES + 2, _vector())) + own + through


def _modulated() -> int:
  """The projection GAN's: gains and shifts of the generator's two normalizations."""
  g, d = _products(LATENT, _vector() * BODY, BODY * (1 + CLASSES))
  return _gan([*g, 2 * CLASSES * (2 * FEATURES + FEATURES)], d)


CASES = {
  'ac_gan_28': Case(
    _auxiliary, _gan(*_products(LATENT + CLASSES, _vector() * (1 + CLASSES)))
  ),
  'projection_gan_28': Case(_projection, _modulated()),
  'infogan_28': Case(_codes, _infogan()),
}
