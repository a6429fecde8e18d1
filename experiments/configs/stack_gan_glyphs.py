"""StackGAN: colored digits from a sentence, at 16 pixels and then at 32.

  python experiments/main.py --config=experiments/configs/stack_gan_glyphs.py \
      --workdir=runs/stack_gan_glyphs

About 1450 s on two CPU cores (half of some 2,910 CPU seconds; others ran beside), most
of it stage II. The argument is 'paper' for its sizes, 64 and then 256 pixels.

Colors, grounds, places, sizes and faces are those of the caption, nearly all digits
too, thin italics among them; a few eights are doubled or open: of 1,855 samples for
captions of the test split classifiers of real images read 100.0% as their ground and as
their ink, 98.4% and 96.8% as their place, 95.8% as their character, 88.8% as their size
and 85.0% as their face, 69.4% as all of these; of 1,765 with a pair of words that no
training image has, 86.5% as their character and 76.1% as their face. A sample finds its
caption among 100 in 99%. Seed 0, beside gan_cls_glyphs.py
(docs/results/text_to_image.md).

What a nat of the condition costs is kl_weight over K, as the KL is a mean over its K
numbers. After 2,500 steps a stage the character was found in 36% with 2 / 32 and in 60%
with the paper's 2 / 128; with 2 / 512 after 3,000 and 4,500 steps in 83%, with 1 / 1024
after 3,500 and 5,000 in 90% (the face in 73%), with the 1 / 4096 and the steps of here,
4,000 and 7,000, in 96%: price and steps changed together, one run each. The paper makes
600 passes over its images a stage, this 14 and 24.
"""

from experiments.configs.parts import games, optimizers, runs, specs, texts
from gm_jax import base
from gm_jax.methods import contrastive, stack_gan
from gm_jax.models import dcgan, joint
from gm_jax.models import text as text_lib

make_evaluation = texts.evaluation
ANOTHER = 'paper'  # argument that tests try


def get_config(arg=None):
  """The config; the argument is 'paper' for its sizes."""
  runs.choose({'': None, 'paper': None}, arg or '', 'the argument')
  config = runs.small_images(steps=11_600, rate=5e-4)
  config.data = texts.GLYPHS.replace('size=28', 'size=32')
  config.steps_per_dispatch = 10
  config.base_features = 32
  config.d_features = 32
  config.r1_gamma = 1.0
  texts.leaves(config, encoder_steps=600)
  config.stage_steps = 4000  # of stage I, after the encoders; stage II has the others
  config.ratio = 2  # of the sizes
  config.condition_size = 128  # K, of the drawn condition: the KL is a mean over these
  config.kl_weight = 0.03125  # 2 in the paper
  config.refiner_features = 32
  config.num_blocks = 1
  config.sizes = arg or 'small'
  if arg == 'paper':
    config.update({**texts.PAPER, 'condition_size': 128, 'kl_weight': 2.0})
    config.data = 'glyphs?size=256&mode=RGB'
    config.update({'ratio': 4, 'num_blocks': 4, 'refiner_features': 128})
    config.critic, config.r1_gamma, config.word_dropout = 'spatial', 0.0, 0.0
    config.g_learning_rate = config.d_learning_rate = 2e-4
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Encoders, then a small image, then a larger one of it and the text."""
  texts.check(config, spec)
  runs.check_sizes(config, 'stage_steps', 'condition_size', 'refiner_features')
  size, _, channels = spec.shape
  if config.ratio not in (2, 4) or size % config.ratio:
    raise ValueError(
      f'ratio must be 2 or 4 and divide the size, {size}, got {config.ratio}'
    )
  runs.check_sizes(config, 'num_blocks', least=0)
  source, phases = texts.source(config, spec, wrap)
  begin = phases[0].until if phases else 0
  middle = begin + config.stage_steps
  if middle >= config.steps:
    raise ValueError(
      f'stage_steps = {config.stage_steps} leave stage II none of {config.steps} steps'
    )
  small = joint.Conditioned(
    dcgan.Generator(size // config.ratio, channels, config.base_features)
  )
  small = text_lib.Augmented(small, config.condition_size)
  large = text_lib.Refiner(
    size, channels, config.refiner_features,
    halvings=config.ratio // 2, num_blocks=config.num_blocks,
  )  # fmt: skip
  large = text_lib.Augmented(large, config.condition_size)
  options = dict(
    latent_size=config.latent_size,
    source=source,
    weight=config.kl_weight,
    mismatch=config.mismatch,
    word_dropout=config.word_dropout,
    penalty=games.r1(config.r1_gamma),
  )
  first = stack_gan.stage_one(
    small,
    texts.critic(config),
    **optimizers.adams(texts.of_steps(config, config.stage_steps), wrap),
    **options,
  )
  second = stack_gan.stage_two(
    large,
    texts.critic(config),
    **optimizers.adams(texts.of_steps(config, config.steps - middle), wrap),
    first=first,
    first_generator=small,
    **options,
  )
  enter = contrastive.after_encoder(first) if phases else None
  return (
    *phases,
    base.Phase(first, middle, specs.pooled(spec, config.ratio), enter),
    base.Phase(second, config.steps, spec, stack_gan.after_stage_one(second)),
  )
