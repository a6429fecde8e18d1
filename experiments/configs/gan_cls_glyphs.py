"""GAN-CLS: colored digits drawn from a sentence.

  python experiments/main.py --config=experiments/configs/gan_cls_glyphs.py \
      --workdir=runs/gan_cls_glyphs

About 420 s on two CPU cores (half of its 850 CPU seconds; others ran beside). The
argument is 'cls', 'int' (GAN-INT-CLS) or 'paper', the paper's sizes at 64 pixels.
--mode=sample --condition="a bold red serif 7, upper left" draws any sentence; words may
be left out. --config.condition=condition takes embeddings that the data hold.

Most samples are what the caption says, clean where bold; thin italic digits are pale,
and some grounds are mottled. Of 1,855 samples for captions of the test split
classifiers of real images read 97.0% as their size, 99.7% as their ink, 87.9% as their
face, 99.3% as their character, 100% as their ground and 99.7% and 99.5% as their place,
83.7% as all of these; of 1,765 for four pairs of words that no training image has (red
7, blue 3, serif 5, sans-bold 8) 85.4% as their face and 80.1% as all. Captions of
others are met as often as two captions agree. Real logits are 5.6 above those of
another's caption; a sample finds its caption among 100 in 99.7%. Seed 0; the first
setting tried. The classifiers are right on 95.5% of real sizes, 96.6% of places and
99.8% or more of all else. The paper's rates are halved every 100 epochs, and decay to 0
here.
"""

from experiments.configs.parts import games, optimizers, runs, texts
from gm_jax import base, priors
from gm_jax.methods import contrastive, gan_cls
from gm_jax.models import dcgan, joint

make_evaluation = texts.evaluation
ANOTHER = 'int'  # argument that tests try
ARGUMENTS = ('cls', 'int', 'paper')


def get_config(arg=None):
  """The config; the argument is 'cls', 'int' (GAN-INT) or 'paper' (its sizes)."""
  arg = arg or 'cls'
  runs.choose(dict.fromkeys(ARGUMENTS), arg, 'the argument')
  config = runs.small_images(steps=5600, rate=5e-4)
  config.data = texts.GLYPHS
  config.steps_per_dispatch = 10
  config.base_features = 32
  config.d_features = 32
  config.r1_gamma = 1.0
  texts.leaves(config, encoder_steps=600)
  config.generator = 'int' if arg == 'paper' else arg  # on texts between two, or not
  if arg == 'paper':
    config.update(texts.PAPER)
    config.data = 'glyphs?size=64&mode=RGB'
    config.critic, config.r1_gamma, config.word_dropout = 'spatial', 0.0, 0.0
    config.g_learning_rate = config.d_learning_rate = 2e-4
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Encoders of images and texts, then a DCGAN of z beside the text."""
  texts.check(config, spec)
  interpolate = runs.choose({'cls': False, 'int': True}, config.generator, 'generator')
  size, _, channels = spec.shape
  source, phases = texts.source(config, spec, wrap)
  own = texts.of_steps(config, config.steps - (phases[0].until if phases else 0))
  generator = joint.Conditioned(dcgan.Generator(size, channels, config.base_features))
  method = gan_cls.gan_cls(
    texts.narrowed(config, generator),
    texts.critic(config),
    **optimizers.adams(own, wrap),
    prior=priors.normal(config.latent_size),
    source=source,
    mismatch=config.mismatch,
    interpolate=interpolate,
    word_dropout=config.word_dropout,
    penalty=games.r1(config.r1_gamma),
  )
  enter = contrastive.after_encoder(method) if phases else None
  return (*phases, base.Phase(method, config.steps, spec, enter))
