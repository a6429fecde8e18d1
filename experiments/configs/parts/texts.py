"""What configs of text-to-image models share: encoders, their phase, the critic.

Their evaluation too: readers of the attributes that captions of `glyphs` name.
"""

import functools

import jax
import ml_collections
import numpy as np

from experiments.configs.parts import evaluations, optimizers, runs
from gm_jax import base, conditions, text_features
from gm_jax.data import dataset, glyph_factors, glyphs
from gm_jax.methods import contrastive
from gm_jax.metrics import features
from gm_jax.models import dcgan, joint
from gm_jax.models import text as text_lib
from gm_jax.tasks import texts as tasks

# Pairs of words that no training image has, so that they can be asked for.
HELD_OUT = 'red:7,blue:3,serif:5,sans-bold:8'
GLYPHS = f'glyphs?size=28&mode=RGB&hold_out={HELD_OUT}'
CRITICS = ('projection', 'spatial')
PAPER = {'latent_size': 100, 'base_features': 128, 'd_features': 64,
         'text_size': 1024, 'narrow_size': 128}  # fmt: skip


def leaves(config, *, encoder_steps: int) -> ml_collections.ConfigDict:
  """Adds the leaves of texts and their encoders."""
  config.condition = 'text'  # or 'condition': embeddings that the data hold
  config.encoder_steps = encoder_steps  # the first phase; the GAN has the others
  config.encoder_rate = 2e-3
  config.text_size = 128  # F, features of a text
  config.text_layers = 1  # convolutions; several for bytes, whose words are long
  config.narrow_size = 0  # of the layer that texts go through; 0 for none
  config.word_dropout = 0.05
  config.mismatch = 0.5
  config.critic = 'projection'
  return config


def check(config, spec) -> None:
  """Raises ValueError unless leaves and data fit a text-to-image model."""
  runs.check_images(config, spec)
  runs.check_sizes(config, 'latent_size', 'base_features', 'd_features', 'text_size')
  runs.check_sizes(config, 'narrow_size', 'text_layers', least=0)
  if config.condition not in ('text', 'condition'):
    raise ValueError(f"condition must be 'text' or 'condition': {config.condition!r}")
  if config.condition not in spec.parts:
    raise ValueError(
      f'data = {config.data!r} has no {config.condition!r}, which this config needs:'
      ' captions as text, or condition = condition for embeddings'
    )
  if config.critic not in CRITICS:
    raise ValueError(f'critic = {config.critic!r} is not one of {", ".join(CRITICS)}')
  if config.condition == 'text' and not 0 < config.encoder_steps < config.steps:
    raise ValueError(f'encoder_steps must be in (0, steps), got {config.encoder_steps}')


def source(config, spec, wrap) -> tuple[text_features.Source, tuple[base.Phase, ...]]:
  """Texts' features, and the phase that trains their encoders, where there is one."""
  part = spec.parts[config.condition]
  if config.condition == 'condition':
    return text_features.embeddings(part.shape[0]), ()
  net = contrastive.Networks(
    dcgan.Discriminator(32, normalize=False, num_outputs=config.text_size),
    text_lib.TextEncoder(
      part.num_levels, config.text_size, num_layers=config.text_layers
    ),
  )
  condition = conditions.by_tokens(part.shape[0])
  own = of_steps(config, config.encoder_steps)
  own.b1 = 0.9
  tx = wrap(optimizers.adam(own, config.encoder_rate, eps_root=0.0))
  first = contrastive.contrastive(
    net, tx, condition=condition, word_dropout=config.word_dropout
  )
  phase = base.Phase(first, config.encoder_steps, spec)
  return contrastive.by_encoder(net, condition), (phase,)


def critic(config):
  """A discriminator of images and texts."""
  if config.critic == 'projection':
    body = dcgan.Discriminator(config.d_features, normalize=False, num_outputs=128)
    found = joint.Projection(body)
  else:
    # A penalty needs a critic of each image alone.
    normalize = not config.r1_gamma
    found = text_lib.SpatialCritic(config.d_features, normalize)
  return narrowed(config, found)


def narrowed(config, body):
  """A network that is given texts through a narrow layer, where there is one."""
  size = config.narrow_size
  return text_lib.Compressed(body, size) if size else body


def of_steps(config, steps: int) -> ml_collections.ConfigDict:
  """The config of one phase, whose rates decay over its own steps."""
  own = ml_collections.ConfigDict(config.to_dict())
  own.steps = max(1, steps)
  return own


def readers(data: dataset.Dataset) -> dict[str, tasks.Attribute]:
  """Classifiers of what captions of `glyphs` name, kept in a cache; prints each.

  Places are read without shifting images, all else with. Thirds of the size are 1.5
  pixels apart: what reads it is trained for longer.
  """
  arrays = {split: data.arrays(split, 20_000) for split in ('train', 'test')}
  images = {s: dataset.transformed(data.spec, a)['x'] for s, a in arrays.items()}
  found = {}
  for position, name in enumerate(glyph_factors.CAPTION):
    words = {split: a['text'][:, position] for split, a in arrays.items()}
    tokens = np.unique(words['train'])
    if len(tokens) < 2:
      continue
    labels = {s: np.searchsorted(tokens, word) for s, word in words.items()}
    classifier = features.cached_classifier(
      jax.random.key(0),
      f'{data.name} {name}',
      *((images[split], labels[split].astype(np.int32)) for split in ('train', 'test')),
      num_classes=len(tokens),
      steps=16_000 if name == 'size' else 3000,
      shift=0 if name in ('y', 'x') else None,
    )
    read = functools.partial(classifier.logits, classifier.params)
    accuracy = float(classifier.accuracy)
    found[name] = tasks.Attribute(position, tokens, read, accuracy)
  return found


def evaluation(config, data) -> evaluations.Evaluation:
  """Margin and retrieval; of `glyphs` also each attribute, held out or not."""
  splits = evaluations.splits_of(data, {'test': 2000, glyphs.HELD_OUT: 2000})
  parts = [evaluations.bound(tasks.margin, data, splits)]
  if config.condition == 'text':
    block = min(tasks.BLOCK, len(splits['test']['x']))
    parts.append(evaluations.bound(tasks.retrieval, data, splits, block=block))
    if data.name == 'glyphs':
      attributes = readers(data)
      parts.append(
        evaluations.bound(tasks.agreement, data, splits, attributes=attributes)
      )
  return evaluations.merged(*parts)
