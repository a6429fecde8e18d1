"""What configs that translate images share: networks' leaves, and evaluations."""

import functools

from experiments.configs.parts import evaluations, runs
from gm_jax.data import splits
from gm_jax.models import translation as translation_lib
from gm_jax.tasks import quality, translation

NORMALIZATIONS = {
  'instance': translation_lib.instance_norm,
  'layer': translation_lib.layer_norm,
}
OUTPUTS = {'image': lambda body: body, 'change': translation_lib.Changed}
NUM = 100  # examples of each of many domains, translated to all


def leaves(config, *, base_features: int, d_features: int, num_blocks: int):
  """Adds the leaves of both networks."""
  config.base_features = base_features  # of the translators' first layer
  config.d_features = d_features
  config.halvings = 1
  config.num_blocks = num_blocks
  config.kernel_size = 5
  config.normalization = 'layer'  # of the translators; 'instance' loses gray levels
  config.output = 'change'  # of the image, or 'image', made anew
  config.d_halvings = 1
  return config


def check(config, spec) -> None:
  """Raises ValueError unless leaves and data fit networks that translate."""
  runs.check_images(config, spec)
  runs.check_sizes(config, 'base_features', 'd_features', 'kernel_size', 'd_halvings')
  runs.check_sizes(config, 'halvings', 'num_blocks', least=0)
  if not config.kernel_size % 2:
    raise ValueError(f'kernel_size must be odd, got {config.kernel_size}')


def num_domains(config, spec) -> int:
  """The number of domains of the data.

  Raises:
    ValueError: they have none.
  """
  if 'domain' not in spec.parts:
    raise ValueError(
      f'data = {config.data!r} have no domains, which this config needs:'
      ' domains:NAME|NAME'
    )
  return spec.parts['domain'].num_levels


def translator(config, channels: int):
  """A translator to so many channels."""
  normalize = runs.choose(NORMALIZATIONS, config.normalization, 'normalization')
  output = runs.choose(OUTPUTS, config.output, 'output')
  return output(
    translation_lib.Translator(
      channels, config.base_features, config.halvings, config.num_blocks,
      config.kernel_size, normalize,
    )
  )  # fmt: skip


def pairs_of(config, data, num: int) -> dict[str, dict]:
  """Images that belong together, as the split 'pairs'; the test split without them.

  Of a file that holds x and y, those of one index do.
  """
  test = {'test': data.arrays('test', quality.TEST)}
  if config.data.startswith('npz:') and 'y' in test['test']:
    return {translation.PAIRS: test['test']}
  try:
    return {splits.PAIRS: data.arrays(splits.PAIRS, num)}
  except ValueError:
    return test


def two_domains(config, data) -> evaluations.Evaluation:
  """Errors of translations of the test split, and of what comes back."""
  arrays = pairs_of(config, data, quality.TEST)
  return evaluations.bound(translation.two_domains, data, arrays)


def many_domains(config, data) -> evaluations.Evaluation:
  """How translations are read by classifiers, and their errors."""
  found = {'domains': evaluations.independent_classifier(data, 'domain')}
  if data.spec.num_classes:
    found['labels'] = evaluations.independent_classifier(data)
  reads = {n: functools.partial(c.logits, c.params) for n, c in found.items()}
  arrays = pairs_of(config, data, NUM)
  return evaluations.bound(translation.many_domains, data, arrays, **reads, num=NUM)


def many_styles(config, data) -> evaluations.Evaluation:
  """`many_domains` of styles that are drawn, and how far these differ."""
  arrays = pairs_of(config, data, NUM)
  styles = evaluations.bound(translation.styles, data, arrays, num=NUM)
  return evaluations.merged(many_domains(config, data), styles)
