"""Progressive GAN: digits of six faces at 4, 8, 16 and then 32 pixels.

  python experiments/main.py --config=experiments/configs/progressive_gan_glyphs.py \
      --workdir=runs/progressive_gan_glyphs

About 160 s on two CPU cores, by the 262 CPU seconds of the first 1,500 steps; others
ran beside. The argument is '64' for more pixels, or 'paper' for its sizes. Of the 1,800
steps the last 800 are of 32 pixels, 200 of these in their fade.

Outlines of digits more than strokes are seen, hollow, many like an eight or a zero
pinched in the middle, some in pieces, on grounds with gray smudges: too few steps. The
Frechet distance falls fast where it ends, from 165 at the end of the last fade to 95
(seed 0, the test split, parameters averaged), so that more of `steps`, all at 32
pixels, are well spent.
"""

import optax

from experiments.configs.parts import evaluations, runs, specs
from gm_jax import base, growth, priors
from gm_jax.methods import progressive_gan
from gm_jax.models import progressive

make_evaluation = evaluations.images
ANOTHER = 'paper'  # argument that tests try


def get_config(arg=None):
  """The config; the argument is '64' for more pixels, or 'paper' for its sizes."""
  sizes = runs.choose({'32': 32, '64': 64, 'paper': 64}, arg or '32', 'the argument')
  config = runs.run(f'glyphs?size={sizes}', steps=1800, batch_size=16)
  config.sizes = arg or '32'
  config.first_size = progressive.START  # the data's own, and nothing grows
  config.stage_images = 3200  # of a fade and of a rest, in whole dispatches
  config.batch_rows = 2048  # rows of pixels in a batch, at most
  config.learning_rate = 1e-3
  config.restart = True  # the optimizers, at both ends of a fade
  config.penalty_weight = 10.0
  config.drift = 0.001
  config.latent_size = 64
  config.base_features = 512  # features times height of a layer, but at most
  config.max_features = 32
  config.group_size = 4  # of which the critic sees the standard deviation
  config.ema_decay = 0.99
  for name in ('evaluate', 'sample', 'checkpoint'):
    config[f'{name}_every'] = 600
  if arg == '64':
    config.steps = 3000
  if arg == 'paper':  # 600,000 images a rest and a fade, at 64 pixels 32 a batch
    config.batch_size, config.stage_images, config.steps = 128, 600_000, 80_000
    config.latent_size = config.max_features = 512
    config.base_features, config.ema_decay = 16_384, 0.999
  return config


def batch_size(config):
  """The largest of any phase."""
  return config.batch_size


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A phase a size: the same networks with two more layers each."""
  runs.check_images(config, spec)
  runs.check_sizes(config, 'batch_rows', 'stage_images', 'latent_size', 'group_size')
  if config.learning_rate <= 0:
    raise ValueError(f'learning_rate must be > 0, got {config.learning_rate}')
  size, _, channels = spec.shape
  if config.max_features < 1 or config.base_features < size:
    raise ValueError(
      f'max_features must be >= 1 and base_features >= {size}, the size, got'
      f' {config.max_features} and {config.base_features}'
    )
  widths = {name: config[name] for name in ('base_features', 'max_features')}

  def method_of(stage):
    # Rates are constant, as the paper's: a schedule would begin again at each restart.
    txs = {
      f'{name}_tx': wrap(optax.adam(config.learning_rate, 0.0, 0.99, 1e-8))
      for name in 'gd'
    }
    return progressive_gan.progressive_gan(
      progressive.Generator(stage.size, channels, **widths),
      progressive.Discriminator(**widths, group_size=config.group_size),
      **txs,
      prior=priors.normal(config.latent_size),
      stage=stage,
      restart=config.restart,
      penalty_weight=config.penalty_weight,
      drift=config.drift,
    )

  nums, lengths = {}, {}
  for each in progressive.sizes(config.first_size, size):
    nums[each] = max(1, min(config.batch_size, config.batch_rows // each))
    images = nums[each] * config.steps_per_dispatch
    lengths[each] = config.steps_per_dispatch * -(-config.stage_images // images)
  phases: list[base.Phase] = []
  for stage in growth.stages(lengths, config.steps):
    method, space = method_of(stage), specs.pooled(spec, size // stage.size)
    keep = not config.restart
    enter = growth.after_smaller(method, keep_optimizers=keep) if phases else None
    phases.append(base.Phase(method, stage.until, space, enter, nums[stage.size]))
  return tuple(phases)
