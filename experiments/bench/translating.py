"""Translators of images, as `bench.steps` measures them: CycleGAN and StarGAN.

The networks are those of the configs `cycle_gan_glyphs` and `star_gan_glyphs`. A
"sample" is a translation. Operations are counted as in `bench.flops`.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from experiments.bench import conditional, flops
from gm_jax import base
from gm_jax.losses import penalties
from gm_jax.methods import cycle_gan, star_gan
from gm_jax.models import translation

SIZE, BLOCKS, KERNEL, DOMAINS = 28, 2, 5, 4
G, D = 16, 16  # channels of the first layers
BATCH = conditional.BATCH


def second(case: conditional.Case | None, x: base.Array) -> base.Batch:
  """What a batch of translators has beside x; nothing of other methods."""
  if case not in CASES.values():
    return {}
  return {'y': x[::-1], 'domain': jnp.arange(len(x)) % DOMAINS}


def sampler(method: base.Method, x: base.Array) -> Callable:
  """The method's samples; of one that has none, translations of these images."""
  if method.sample is not None:
    return method.sample

  def sample(model, key, num, *, condition=None):
    del condition
    images = jnp.resize(x, (num, *x.shape[1:]))
    return method.queries['translate'](model, key, images, condition=1)

  return sample


def _translator() -> translation.Translator:
  return translation.Translator(1, G, 1, BLOCKS, KERNEL)


def _cycle(wrap: conditional.Wrap) -> base.Method:
  critic = translation.PatchCritic(D, 1)
  txs = [wrap(optax.adam(2e-4, 0.5)) for _ in range(2)]
  return cycle_gan.cycle_gan(_translator(), _translator(), critic, critic, *txs)


def _star(wrap: conditional.Wrap) -> base.Method:
  txs = [wrap(optax.adam(1e-4, 0.5)) for _ in range(2)]

  def penalty(critic, key, real, fake):
    return 10.0 * penalties.gradient_penalty(critic, key, real, fake)

  return star_gan.star_gan(
    _translator(), translation.DomainCritic(DOMAINS, D, 2), *txs, sizes=(DOMAINS,),
    penalty=penalty, num_critic=1,
  )  # fmt: skip


def _translator_products(inputs: int) -> list[int]:
  """Multiply-adds of a translator's layers."""
  half, ends = SIZE // 2, SIZE**2 * KERNEL**2
  return [
    ends * inputs * G,
    *flops.convolutions((SIZE, half), (G, 2 * G)),
    *[half**2 * 9 * (2 * G) ** 2] * (2 * BLOCKS),
    *flops.convolutions((half, SIZE), (2 * G, G)),
    ends * G,
  ]


def _cycle_operations() -> int:
  """Six translations with their gradients, two of them to the input; critics."""
  g, half = _translator_products(1), SIZE // 2
  c = flops.convolutions((SIZE, half), (1, D))
  c += [(half - 1) ** 2 * 16 * D * 2 * D, (half - 2) ** 2 * 16 * 2 * D]
  translators = 6 * sum(g) + 4 * (sum(g) + sum(g[1:])) + 2 * 2 * sum(g)
  fooled = 2 * 2 * sum(c)
  critics = 4 * (2 * sum(c) + sum(c[1:]))
  return 2 * BATCH * (translators + fooled + critics)


def _star_operations() -> int:
  """A critic step with its penalty, then there and back again."""
  g, quarter = _translator_products(1 + DOMAINS), SIZE // 4
  body = flops.convolutions((SIZE, SIZE // 2, quarter), (1, D, 2 * D))
  patches, domains = quarter**2 * 9 * 2 * D, quarter**2 * 2 * D * DOMAINS
  seen, both = [*body, patches], [*body, patches + domains]
  critic = sum(g) + 2 * sum(both) + sum(both[1:])  # of real images
  critic += 2 * sum(seen) + sum(seen[1:])  # of translations
  critic += 2 * sum(seen) + 2 * sum(seen)  # the penalty, and its gradient
  generator = 2 * sum(g) + 2 * sum(g) + sum(g) + sum(g[1:]) + 2 * sum(both)
  return 2 * BATCH * (critic + generator)


CASES = {
  'cycle_gan_28': conditional.Case(_cycle, _cycle_operations()),
  'star_gan_28': conditional.Case(_star, _star_operations()),
}
