"""Semi-supervised VAE: digits, 100 of them labelled.

  python experiments/main.py --workdir=runs/semi_supervised_vae_digits \
      --config=experiments/configs/semi_supervised_vae_digits.py

About 35 s on two CPU cores. The argument is the data's name, with the number of labels;
--mode=sample --condition=7 draws one class.

Of the checkpoint that is best on the validation split (--best): 93.6% of the test
split's 360 digits are classified right with 100 labels of 1,257 (logistic regression on
those hundred alone: 88.1%, semi_supervised_aae_digits.py: 93.3%); given the class, 83.5
+- 0.7 nats, an upper bound of -log p(x | class), and 79.7 +- 0.6 with 1,000 draws.
Samples by class, grainy, some of another class: Frechet 20, MMD^2 0.0045 (seed 0).
"""

from experiments.configs.parts import evaluations, optimizers, runs, variational
from gm_jax.data import registry
from gm_jax.methods import semi_supervised_vae
from gm_jax.models import latent, mlp
from gm_jax.tasks import quality

ANOTHER = 'digits?labels=500&transform=levels'  # argument that tests try


def get_config(arg=None):
  """The config; the argument is the name of the data."""
  config = variational.leaves(arg or 'digits?labels=100&transform=levels', steps=2000)
  config.alpha = 20.0  # weight of the classification
  config.condition = 'label'
  return config


def make_evaluation(config, data):
  """Bounds given the class, accuracy on the test split, distances of samples.

  The classifier behind the distances is trained on all labels, hidden ones too.
  """
  everything = data
  if config.data.startswith('digits'):
    everything = registry.load('digits?transform=levels')
  splits = evaluations.splits_of(data, {'test': quality.TEST})
  return evaluations.merged(
    evaluations.likelihoods(config, data),
    evaluations.images(config, everything),
    evaluations.bound(quality.accuracy, data, splits),
  )


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The networks of vae_digits.py beside the class, and a classifier like them."""
  runs.check_images(config, spec)
  if not spec.num_classes:
    raise ValueError(f'data = {config.data!r} have no classes, which this config needs')
  return semi_supervised_vae.semi_supervised_vae(
    variational.networks(config, spec),
    latent.Encoder(
      mlp.MLP((config.hidden, spec.num_classes)), variational.levels_of(spec)
    ),
    wrap(optimizers.plain_adam(config)),
    num_classes=spec.num_classes,
    alpha=config.alpha,
  )
