"""Latent diffusion: characters by a diffusion model of an auto-encoder's latents.

  python experiments/main.py --config=experiments/configs/latent_diffusion_glyphs.py \
      --workdir=runs/latent_diffusion_glyphs

About 115 s on two CPU cores (half of its 230 CPU seconds, its evaluation among them;
others ran beside). The argument is 'text', told the caption of colored characters.
--mode=sample --condition=7 --options=guidance=2,num_steps=20 draws of a class and goes
beyond it. --config.autoencoder=FOLDER takes the auto-encoder of another run of this
config, --config.regularizer=vq one with a table; --config.network is also dit or unet.

1,200 steps of a KL auto-encoder, 28 x 28 pixels to 7 x 7 x 4 latents, then 3,000 of EDM
on these by a perceptron. Seed 0: reconstructions are 0.073 from the image (root mean
square, 2,000 test images). Of 1,000 samples with guidance 1, 2 and 4 a classifier that
is right on 100% of real images reads 64%, 92% and 98% as their class; their Frechet
distances are 9.6, 32 and 222 (2,000 training images: 1.8). Seen: without guidance about
half are digits; with 2 most are, strokes frayed, thin ones broken, shadows around them
on gray grounds; with 4 nearly all, of more contrast than the data have, which the
distance tells. Evaluations measure the distance of samples that are told no class: 43,
before pixels were cut to [-1, 1]. The loss was still falling at the last step. Of the
pixels themselves a perceptron makes noise (edm_glyphs.py).

'text', seed 0, without guidance, captions of the test split: 65% have the character
that was asked for, 98% the ground, 82% the ink, 46% the face, 65% the size, 83% and 84%
the place; all seven words 13%, where those of another caption agree in 24% of words.
Seen: most are digits, frayed, of the right colors. 'a large red serif 7 on yellow,
center' with guidance 2 gives red sevens on yellow; 'a red seven', no whole caption, red
strokes that are none. Frechet distance 25, reconstructions 0.103 from the image.
"""

import jax.numpy as jnp

from experiments.configs.parts import evaluations, optimizers, runs, texts
from gm_jax import (
  amortized,
  base,
  conditions,
  latent_priors,
  latent_spaces,
  observations,
)
from gm_jax.methods import edm, latent_diffusion, vae, vq_vae
from gm_jax.models import denoisers, dit, latent, unet
from gm_jax.models import text as text_lib
from gm_jax.tasks import quality
from gm_jax.tasks import texts as text_tasks
from gm_jax.training import trained

ANOTHER = 'text'  # argument that tests try
DATA = {'label': 'glyphs', 'text': texts.GLYPHS}


def get_config(arg=None):
  """The config; the argument is the condition, 'label' or 'text'."""
  data = runs.choose(DATA, arg or 'label', 'the argument')
  config = runs.learning(data, steps=4200, batch_size=64, rate=1e-3)
  config.steps_per_dispatch = 10
  config.condition = arg or 'label'
  config.drop = 0.1  # rate at which it is left out, for guidance
  config.autoencoder = ''  # folder of a run of this config whose auto-encoder is taken
  config.autoencoder_steps = 1200  # of the first phase; the second has the others
  config.autoencoder_rate = 2e-3
  config.regularizer = 'kl'  # of the auto-encoder, or 'vq'
  config.channels = 4  # of the latents
  config.patch = 2  # sides of the squares of pixels that the auto-encoder sees as one
  config.halvings = 1  # of the image of these
  config.features = 64  # of the auto-encoder
  config.std = 0.1  # of its Gaussian observation
  config.kl_weight = 0.1
  config.num_codes = 256  # of 'vq'
  config.network = 'mlp'  # of the diffusion model; or 'dit', 'unet'
  config.width = 512
  config.num_blocks = 4
  config.text_size = 128  # features of a text
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Two phases: the auto-encoder, then a diffusion model of its latents."""
  runs.check_images(config, spec)
  sizes = ('channels', 'patch', 'halvings', 'features', 'width', 'num_blocks')
  runs.check_sizes(config, *sizes)
  steps = 0 if config.autoencoder else config.autoencoder_steps
  if not config.autoencoder and not 0 < steps < config.steps:
    raise ValueError(f'autoencoder_steps must be in (0, steps), got {steps}')
  height, width, _ = spec.shape
  scale = config.patch * 2**config.halvings
  if height % scale or width % scale:
    raise ValueError(
      f'patch 2^halvings = {scale} does not divide images of {height} x {width}'
    )
  shape = height // scale, width // scale, config.channels
  own, rate = texts.of_steps(config, steps), config.autoencoder_rate
  tx = wrap(optimizers.adam(own, rate, eps_root=0.0))
  first, space = autoencoder(config, spec, shape, tx)
  decode = space.decode  # to pixels, which the decoder goes beyond
  space = space._replace(decode=lambda *args: jnp.clip(decode(*args), -1.0, 1.0))
  condition, network = denoiser(config, spec)
  own = texts.of_steps(config, config.steps - steps)
  prior = edm.edm(
    network,
    wrap(optimizers.plain_adam(own)),
    shape=shape,
    data_std=1.0,  # of the latents, by their scale
    condition=conditions.optional(condition, config.drop),
  )
  second = latent_diffusion.latent_diffusion(space, prior, shape=shape)
  enter = latent_diffusion.after_autoencoder(second, space)
  if config.autoencoder:
    return (base.Phase(second, config.steps, spec, enter, previous=other_run(config)),)
  return (
    base.Phase(first, steps, spec),
    base.Phase(second, config.steps, spec, enter),
  )


def autoencoder(config, spec, shape, tx):
  """The method of the first phase, and the way to its latents."""
  observation = observations.fixed_gaussian(config.std)
  sizes, channels = (config.halvings, config.features), spec.shape[-1]
  decoder = latent.GridDecoder(channels, *sizes, patch=config.patch)

  def encoder(size):
    return latent.GridEncoder(size, *sizes, patch=config.patch)

  def kl():
    posterior = latent.FlatPosterior(encoder(2 * config.channels))
    size = shape[0] * shape[1] * shape[2]
    net = amortized.Networks(
      posterior, latent.Unflattened(decoder, shape), latent_priors.normal(size),
      observation,
    )  # fmt: skip
    method = vae.vae(net, tx, beta=config.kl_weight)
    return method, latent_spaces.on_grid(latent_spaces.by_codes(method), shape)

  def vq():
    net = vq_vae.Networks(
      encoder(config.channels), decoder, observation, config.num_codes
    )
    method = vq_vae.vq_vae(net, tx, commitment=0.25 / config.std**2)
    return method, latent_diffusion.by_vectors(net, method)

  return runs.choose({'kl': kl, 'vq': vq}, config.regularizer, 'regularizer')()


def denoiser(config, spec):
  """The condition, and the network of latents that is given it."""
  size = config.width, config.num_blocks
  networks = {
    'mlp': lambda: denoisers.Flattened(denoisers.ResidualMLP(*size)),
    'dit': lambda: dit.DiT(1, *size),
    'unet': lambda: unet.UNet(config.width, (1, 2), config.num_blocks, attention=(1,)),
  }
  network = runs.choose(networks, config.network, 'network')()

  def label():
    if not spec.num_classes:
      raise ValueError(f'data = {config.data!r} has no classes; condition = text')
    return conditions.by_class(spec.num_classes), network

  def text():
    if 'text' not in spec.parts:
      raise ValueError(f'data = {config.data!r} has no captions; condition = label')
    runs.check_sizes(config, 'text_size')
    part = spec.parts['text']
    encoder = text_lib.TextEncoder(part.num_levels, config.text_size)
    return conditions.by_tokens(*part.shape), text_lib.Denoiser(network, encoder)

  return runs.choose({'label': label, 'text': text}, config.condition, 'condition')()


def other_run(config):
  """The auto-encoder of another run, whichever phase that came to."""
  model = trained.load(config.autoencoder, averaged=False).model
  frozen = model.extra.get(base.FROZEN, {})
  return frozen.get(latent_diffusion.AUTOENCODER, model)


def make_evaluation(config, data):
  """Errors of reconstruction, distances of samples, and what they show as asked for."""
  splits = evaluations.splits_of(data, {'test': quality.TEST})
  again = evaluations.bound(quality.reconstruction, data, splits)
  if config.condition == 'label':
    return evaluations.merged(evaluations.images_of_classes(config, data), again)
  attributes = texts.readers(data)
  return evaluations.merged(
    evaluations.images(config, data),
    again,
    evaluations.bound(text_tasks.agreement, data, splits, attributes=attributes),
  )
