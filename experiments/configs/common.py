"""What config files share: the leaves of every run, optimizers, evaluations."""

import jax
import ml_collections
import optax

from gm_jax import priors, unroll
from gm_jax.data import toy
from gm_jax.losses import adversarial, discrepancy
from gm_jax.metrics import features, frechet, kernel_distance, modes
from gm_jax.models import mlp

GAMES = {
  'minimax': adversarial.MINIMAX,
  'non_saturating': adversarial.NON_SATURATING,
  'least_squares': adversarial.LEAST_SQUARES,
  'hinge': adversarial.HINGE,
  'wasserstein': adversarial.WASSERSTEIN,
  'relativistic': adversarial.RELATIVISTIC,
  'relativistic_average': adversarial.RELATIVISTIC_AVERAGE,
}
UNROLLS = {
  'full': unroll.full,
  'partial': unroll.partial,
  'truncated_2': unroll.truncated(2),
}


def run(data: str, *, steps: int, batch_size: int) -> ml_collections.ConfigDict:
  """The leaves that the launcher reads; a config adds those of its method."""
  config = ml_collections.ConfigDict()
  config.data = data
  config.batch_size = batch_size
  config.steps = steps
  config.seed = 0
  config.seeds = 1
  config.steps_per_dispatch = 50
  config.log_every = 500
  config.evaluate_every = 1000
  config.sample_every = 1000
  config.checkpoint_every = 1000
  config.keep_checkpoints = 3
  config.best = ''  # '+metric' or '-metric': also keep the best checkpoint by it
  config.ema_decay = 0.0
  config.on_nan = 'stop'
  return config


def choose(table, name: str, leaf: str):
  """`table[name]`, or a ValueError that lists the names."""
  if name not in table:
    raise ValueError(f'{leaf} = {name!r} is not one of {", ".join(sorted(table))}')
  return table[name]


def adam(config, learning_rate: float) -> optax.GradientTransformation:
  """Adam with the config's b1, warm-up, cosine decay and clipping.

  `eps_root` keeps the derivative of an update finite, as unrolling needs.
  """
  for name in ('warmup_steps', 'decay_steps', 'clip'):
    if config[name] < 0:
      raise ValueError(f'{name} must be >= 0, got {config[name]}')
  if not 0 <= config.b1 < 1:
    raise ValueError(f'b1 must be in [0, 1), got {config.b1}')
  if learning_rate <= 0:
    raise ValueError(f'learning rates must be > 0, got {learning_rate}')
  schedule = learning_rate
  if config.decay_steps:
    if config.decay_steps <= config.warmup_steps:
      raise ValueError('decay_steps must be above warmup_steps')
    schedule = optax.warmup_cosine_decay_schedule(
      0.0,
      learning_rate,
      config.warmup_steps,
      config.decay_steps,
    )
  elif config.warmup_steps:
    schedule = optax.linear_schedule(0.0, learning_rate, config.warmup_steps)
  tx = optax.adam(schedule, b1=config.b1, eps_root=1e-8)
  return optax.chain(optax.clip_by_global_norm(config.clip), tx) if config.clip else tx


def add_adam(config, *, generator: float, discriminator: float, b1: float):
  """The leaves that `adam` reads."""
  config.g_learning_rate = generator
  config.d_learning_rate = discriminator
  config.b1 = b1
  config.warmup_steps = 0
  config.decay_steps = 0
  config.clip = 0.0  # of the gradient's global norm; 0 for none


def ring_networks() -> dict:
  """Networks and prior of the ring: z 256, G 256-128-128-2, D(x / 4) 2-128-1."""
  return {
    'generator': mlp.MLP((128, 128, 2)),
    'discriminator': mlp.MLP((128, 1), input_scale=0.25),
    'prior': priors.normal(256),
  }


def modes_evaluation(config, data):
  """Mode coverage of a mixture: 2,500 samples, 3 standard deviations, 20 hits."""
  make = toy.TOYS.get(config.data.removeprefix('toy:'))
  mixture = make() if make else None
  if mixture is None or mixture.means is None or mixture.std is None:
    raise ValueError(
      f'data = {config.data!r} has no modes to count; use toy:ring or toy:grid'
    )

  def evaluation(method, model, key):
    samples = method.sample(model, key, 2500)
    return modes.coverage(samples, mixture.means, mixture.std)._asdict()

  return evaluation


def image_distances(data):
  """Distances of images from the test split, as a function of [N, H, W, C].

  `mmd2` is the unbiased squared MMD of pixels, with a Gaussian kernel as wide as
  the median distance between test images; `frechet` the Frechet distance in the
  features of a small classifier trained on the train split. Both depend on N.
  """
  train, test = data.arrays('train', None), data.arrays('test', None)
  classifier = features.train_classifier(
    jax.random.key(0),
    train['x'],
    train['label'],
    num_classes=data.spec.num_classes,
    test=(test['x'], test['label']),
  )

  def flat(x):
    return x.reshape(len(x), -1)

  kernel = discrepancy.gaussian(
    std=float(kernel_distance.median_bandwidth(flat(test['x'])))
  )

  def distances(x):
    return {
      'mmd2': kernel_distance.mmd2_unbiased(kernel, flat(x), flat(test['x'])),
      'frechet': frechet.frechet(
        classifier.features(classifier.params, x),
        classifier.features(classifier.params, test['x']),
      ),
    }

  return distances


def image_evaluation(config, data):
  """`image_distances` of as many samples as there are test images."""
  distances = image_distances(data)
  num = len(data.arrays('test', None)['x'])
  return lambda method, model, key: distances(method.sample(model, key, num))
