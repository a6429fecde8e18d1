"""GANs of classes, codes, texts and patches, as `bench.steps` measures them.

The networks are those of `gan_dcgan_28` there, with what each method adds. Operations
are counted as in `bench.flops`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.bench import flops
from gm_jax import base, conditions, priors, text_features
from gm_jax.methods import ac_gan, gan, gan_cls, infogan, puzzle_gan, stack_gan
from gm_jax.models import dcgan, joint, puzzle
from gm_jax.models import text as text_lib

SIZE, FEATURES, LATENT, CLASSES, BATCH = 28, 64, 100, 10, 64
LARGE = 32  # pixels, of StackGAN's second stage
BODY = 128  # features of the projection critic
TEXT, DRAWN = 128, 32  # features of a text, and of StackGAN's drawn condition
PATCHES, VECTOR = 3, 128  # of Puzzle-GAN: patches of an image, features of a patch
Wrap = Callable[[optax.GradientTransformation], optax.GradientTransformation]


class Case(NamedTuple):
  """A method, and how many operations its step has."""

  make: Callable[[Wrap], base.Method]
  operations: int
  size: int = SIZE
  condition: tuple[int, ...] = (TEXT,)  # of one example
  places: tuple[int, ...] = ()  # of its mask


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


def _text_players(generator) -> dict:
  critic = joint.Projection(_critic(BODY))
  return {'generator': generator, 'discriminator': critic}


def _texts(wrap: Wrap) -> base.Method:
  generator = joint.Conditioned(dcgan.Generator(SIZE, 1, FEATURES))
  return gan_cls.gan_cls(
    **_text_players(generator), **_txs(wrap), prior=priors.normal(LATENT),
    source=text_features.embeddings(TEXT),
  )  # fmt: skip


def _stacked(wrap: Wrap) -> base.Method:
  """Stage II: 16 pixels, which stage I draws, to 32."""
  options = {'latent_size': LATENT, 'source': text_features.embeddings(TEXT)}
  small = joint.Conditioned(dcgan.Generator(LARGE // 2, 1, FEATURES))
  small = text_lib.Augmented(small, DRAWN)
  refiner = text_lib.Refiner(LARGE, 1, FEATURES, num_blocks=1)
  return stack_gan.stage_two(
    **_text_players(text_lib.Augmented(refiner, DRAWN)), **_txs(wrap),
    first=stack_gan.stage_one(**_text_players(small), **_txs(wrap), **options),
    first_generator=small, **options,
  )  # fmt: skip


def _patches(wrap: Wrap) -> base.Method:
  return puzzle_gan.puzzle_gan(
    puzzle.Painter(SIZE, 1, FEATURES, VECTOR),
    _critic(),
    **_txs(wrap),
    prior=priors.normal(LATENT),
    condition=conditions.by_patches((PATCHES, SIZE, SIZE, 1)),
    spatial_weight=optax.constant_schedule(1.0),
    appearance_weight=optax.constant_schedule(1.0),
    num_critic=1,  # as the other rows; a scan of two would be counted once
  )


def beside(case: Case | None, num: int) -> dict[str, base.Array]:
  """What a batch of a case has beside x."""
  if case is None:
    return {}
  shape = num, *case.condition
  found = {
    'label': jnp.arange(num) % CLASSES,
    'condition': jax.random.normal(jax.random.key(4), shape),
  }
  if case.places:
    shape = num, *case.places
    found['mask'] = jax.random.bernoulli(jax.random.key(5), 0.2, shape)
  return found


def conditioned(case: Case | None, card: base.Card, num: int) -> base.Array | None:
  """Conditions for samples, of the kind that a method takes."""
  return beside(case, num)[card.condition[0]] if card.condition else None


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


def _matching(g: Sequence[int], d: Sequence[int]) -> int:
  """A GAN's whose critic sees a third batch, of mismatched texts."""
  d = [*d, BODY * (1 + TEXT)]
  return _gan(g, d) + 2 * BATCH * (2 * sum(d) + sum(d[1:]))


def _two_stages() -> int:
  """Stage II's, and two batches that stage I draws for it."""
  half, quarter, near, wide = LARGE // 2, LARGE // 4, 9, 2 * FEATURES
  moments, least = TEXT * 2 * DRAWN, 4  # pixels of the smallest map
  first = [moments, (LATENT + DRAWN) * least**2 * wide]
  first += flops.convolutions((least, quarter, half), (wide, FEATURES, 1))
  second = [
    moments,
    half**2 * near * FEATURES,
    *flops.convolutions((half, quarter), (FEATURES, wide)),
    *(quarter**2 * near * i * wide for i in (wide + DRAWN, wide, wide)),
    *flops.convolutions((quarter, half, LARGE), (wide, FEATURES, 1)),
  ]
  channels = (1, FEATURES, wide, 2 * wide)
  critic = flops.convolutions((LARGE, half, quarter, least), channels)
  critic.append(least**2 * channels[-1] * BODY)
  return _matching(second, critic) + 2 * 2 * BATCH * sum(first)


def _painted() -> int:
  """Puzzle-GAN's, whose critic sees four kinds of images and whose painter patches."""
  half, least, wide = SIZE // 2, SIZE // 4, 2 * FEATURES
  first, *encoder = flops.convolutions((SIZE, half, least), (1, FEATURES, wide))
  encoder.append(least**2 * wide * VECTOR)
  decoders = [(2 * VECTOR + LATENT) * least**2 * wide]  # both
  for beside in (2, 3):  # channels of a level and those beside it, in its own
    decoders += flops.convolutions((least, half), (beside * wide, FEATURES))
    decoders += flops.convolutions((half, SIZE), (beside * FEATURES, 1))
  g = PATCHES * (first + sum(encoder)) + sum(decoders)
  d = _products(LATENT, _vector())[1]
  critic = g + 4 * (2 * sum(d) + sum(d[1:]))
  return 2 * BATCH * (critic + 3 * g - PATCHES * first + 2 * sum(d))


CASES = {
  'ac_gan_28': Case(
    _auxiliary, _gan(*_products(LATENT + CLASSES, _vector() * (1 + CLASSES)))
  ),
  'projection_gan_28': Case(_projection, _modulated()),
  'infogan_28': Case(_codes, _infogan()),
  'gan_cls_28': Case(_texts, _matching(*_products(LATENT + TEXT, _vector() * BODY))),
  'stack_gan_32': Case(_stacked, _two_stages(), LARGE),
  'puzzle_gan_28': Case(
    _patches,
    _painted(),
    condition=(PATCHES, SIZE, SIZE, 1),
    places=(SIZE, SIZE, PATCHES),
  ),
}
