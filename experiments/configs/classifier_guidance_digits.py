"""Classifier guidance: digits whose class a classifier of noisy digits asks for.

  python experiments/main.py \
      --config=experiments/configs/classifier_guidance_digits.py \
      --workdir=runs/classifier_guidance_digits
"""

from experiments.configs.parts import diffusions, evaluations, optimizers, runs
from gm_jax.methods import classifier_guidance
from gm_jax.models import denoisers

ANOTHER = 'unet'  # argument that tests try
measure = diffusions.measure
make_evaluation = evaluations.images_or_classes


def get_config(arg=None):
  """The config; the argument is the denoiser, 'mlp', 'unet' or 'dit'."""
  config = diffusions.leaves('digits', steps=6000)
  del config.drop  # the denoiser is never told the class
  config.network = arg or 'mlp'
  config.data_std = 0.8474  # root mean square about 0 of the data; 0 measures it
  config.classifier_width = 128
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A denoiser that is told nothing, and a perceptron that reads noisy data."""
  runs.check_sizes(config, 'classifier_width')
  if spec.num_classes is None:
    raise ValueError(f'data = {config.data!r} have no classes to be guided to')
  reader = denoisers.ResidualMLP(
    config.classifier_width, 2, dropout=0.3, outputs=spec.num_classes
  )
  return classifier_guidance.classifier_guidance(
    diffusions.network(config, spec),
    denoisers.Classifier(reader),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    num_classes=spec.num_classes,
    data_std=config.data_std,
  )
