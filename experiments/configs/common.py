"""What config files share: the leaves of every run, optimizers, evaluations."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import optax

from gm_jax import augmentation, priors, unroll
from gm_jax.data import dataset, registry, stacked
from gm_jax.losses import adversarial, discrepancy, f_divergence, penalties
from gm_jax.methods import gan, unrolled_gan
from gm_jax.metrics import features, frechet, kernel_distance, modes
from gm_jax.models import dcgan, mlp

GAMES = {
  'minimax': adversarial.MINIMAX,
  'non_saturating': adversarial.NON_SATURATING,
  'least_squares': adversarial.LEAST_SQUARES,
  'hinge': adversarial.HINGE,
  'wasserstein': adversarial.WASSERSTEIN,
  'relativistic': adversarial.RELATIVISTIC,
  'relativistic_average': adversarial.RELATIVISTIC_AVERAGE,
}
DIVERGENCES = {
  'total_variation': f_divergence.TOTAL_VARIATION,
  'kl': f_divergence.KL,
  'reverse_kl': f_divergence.REVERSE_KL,
  'pearson': f_divergence.PEARSON,
  'neyman': f_divergence.NEYMAN,
  'squared_hellinger': f_divergence.SQUARED_HELLINGER,
  'jeffrey': f_divergence.JEFFREY,
  'jensen_shannon': f_divergence.JENSEN_SHANNON,
  'gan': f_divergence.GAN,
}
DIVERGENCE_FAMILIES = {
  'alpha': f_divergence.alpha,
  'weighted_jensen_shannon': f_divergence.weighted_jensen_shannon,
}
F_GENERATORS = {
  'saddle': f_divergence.saddle_generator,
  'trick': f_divergence.trick_generator,
}
STACKED_SAMPLES = 25_600  # as in the papers
AUGMENTATIONS = {
  'color': augmentation.color,
  'translation': augmentation.translation,
  'cutout': augmentation.cutout,
  'everything': augmentation.everything,
}
CHUNK = 512  # samples drawn and classified at once
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
    names = ', '.join(key or "''" for key in sorted(table))
    raise ValueError(f'{leaf} = {name!r} is not one of {names}')
  return table[name]


def divergence(config):
  """The f-divergence named by `divergence`, of a table or a family, as alpha_0.5."""
  family, _, number = config.divergence.rpartition('_')
  if family not in DIVERGENCE_FAMILIES:
    families = {f'{name}_NUMBER': None for name in DIVERGENCE_FAMILIES}
    return choose({**DIVERGENCES, **families}, config.divergence, 'divergence')
  try:
    return DIVERGENCE_FAMILIES[family](float(number))
  except ValueError as error:
    raise ValueError(f'divergence = {config.divergence!r}: {error}') from error


def game(config):
  """The game named by `game`, its real labels smoothed by `label_smoothing`."""
  chosen = choose(GAMES, config.game, 'game')
  if not config.label_smoothing:
    return chosen
  return adversarial.one_sided_label_smoothing(chosen, config.label_smoothing)


def check_sizes(config, *names: str) -> None:
  """Raises ValueError unless these leaves are at least 1."""
  for name in names:
    if config[name] < 1:
      raise ValueError(f'{name} must be >= 1, got {config[name]}')


def adam(
  config, learning_rate: float, *, updates: int = 1
) -> optax.GradientTransformation:
  """Adam with the config's b1, cosine decay and, if it has these, warm-up and clip.

  `eps_root` keeps the derivative of an update finite, as unrolling needs. The config
  counts training steps; a critic that moves several times in each makes so many
  `updates` a step, and its schedule is stretched by them.
  """
  warmup_steps, clip = config.get('warmup_steps', 0), config.get('clip', 0.0)
  for name in ('warmup_steps', 'decay_steps', 'clip'):
    if config.get(name, 0) < 0:
      raise ValueError(f'{name} must be >= 0, got {config[name]}')
  if not 0 <= config.b1 < 1:
    raise ValueError(f'b1 must be in [0, 1), got {config.b1}')
  if learning_rate <= 0:
    raise ValueError(f'learning rates must be > 0, got {learning_rate}')
  schedule = learning_rate
  if config.decay_steps:
    if config.decay_steps <= warmup_steps:
      raise ValueError('decay_steps must be above warmup_steps')
    schedule = optax.warmup_cosine_decay_schedule(
      0.0,
      learning_rate,
      updates * warmup_steps,
      updates * config.decay_steps,
    )
  elif warmup_steps:
    schedule = optax.linear_schedule(0.0, learning_rate, updates * warmup_steps)
  tx = optax.adam(schedule, b1=config.b1, eps_root=1e-8)
  return optax.chain(optax.clip_by_global_norm(clip), tx) if clip else tx


def add_adam(
  config, *, generator: float, discriminator: float, b1: float, extras: bool = True
):
  """The leaves that `adam` reads; warm-up and clipping are the extras."""
  config.g_learning_rate = generator
  config.d_learning_rate = discriminator
  config.b1 = b1
  config.decay_steps = 0
  if extras:
    config.warmup_steps = 0
    config.clip = 0.0  # of the gradient's global norm; 0 for none


def images(
  data: str,
  *,
  steps: int,
  batch_size: int,
  rate: float,
  generator: int,
  discriminator: int,
) -> ml_collections.ConfigDict:
  """The leaves of a DCGAN's networks and training, the ordinary or the unrolled one.

  Rates decay to 0 over `steps`, and what is measured and shown is the average of
  the parameters.

  Args:
    data: name of the images.
    steps: of training.
    batch_size: examples a step.
    rate: Adam's, of both players.
    generator: its channels before the last doubling.
    discriminator: its channels after the first halving.
  """
  config = run(data, steps=steps, batch_size=batch_size)
  add_adam(config, generator=rate, discriminator=rate, b1=0.5, extras=False)
  config.decay_steps = steps
  config.ema_decay = 0.99
  config.latent_size = 64
  config.g_features = generator
  config.d_features = discriminator
  return config


def dcgan_networks(config, spec, *, normalize: bool = True, dtype=None) -> dict:
  """A DCGAN's networks for the data's images, and a normal prior.

  `normalize` is of the discriminator: whether it has batch normalization.
  """
  if len(spec.shape) != 3:
    raise ValueError(f'data = {config.data!r} are not images, which a DCGAN needs')
  size, _, channels = spec.shape
  check_sizes(config, 'latent_size', 'g_features', 'd_features')
  return {
    'generator': dcgan.Generator(size, channels, config.g_features, dtype=dtype),
    'discriminator': dcgan.Discriminator(config.d_features, normalize, dtype=dtype),
    'prior': priors.normal(config.latent_size),
  }


def dcgan_config(data: str, arg: str | None, **sizes) -> ml_collections.ConfigDict:
  """The config of a DCGAN; the argument is the name of the game."""
  config = images(data, **sizes)
  config.game = arg or 'non_saturating'
  config.label_smoothing = 0.0
  config.bfloat16 = False
  config.accumulate = 1  # slices of a batch, one after another, to save memory
  return config


def dcgan_method(config, spec, *, wrap=lambda tx: tx):
  """A GAN of a DCGAN's networks."""
  if config.accumulate < 1 or config.batch_size % config.accumulate:
    raise ValueError(
      f'accumulate must be >= 1 and divide batch_size = {config.batch_size}, got'
      f' {config.accumulate}'
    )
  dtype = jnp.bfloat16 if config.bfloat16 else None
  return gan.gan(
    **dcgan_networks(config, spec, dtype=dtype),
    g_tx=wrap(adam(config, config.g_learning_rate)),
    d_tx=wrap(adam(config, config.d_learning_rate)),
    game=game(config),
    num_accumulate=config.accumulate,
  )


def unrolled_config(
  data: str, arg: str | None, *, num_unroll: int, **sizes
) -> ml_collections.ConfigDict:
  """The config of an unrolled DCGAN; the argument is the number of steps."""
  config = images(data, **sizes)
  config.num_unroll = num_unroll if arg is None else int(arg)
  config.unroll_fn = 'full'
  return config


def unrolled_method(config, spec, *, wrap=lambda tx: tx):
  """An unrolled GAN of a DCGAN's networks."""
  return unrolled_gan.unrolled_gan(
    **dcgan_networks(config, spec, normalize=False),
    g_tx=wrap(adam(config, config.g_learning_rate)),
    d_tx=wrap(adam(config, config.d_learning_rate)),
    num_unroll=config.num_unroll,
    unroll_fn=choose(UNROLLS, config.unroll_fn, 'unroll_fn'),
    diagnostics=False,
  )


def ring_networks() -> dict:
  """Networks and prior of the ring: z 256, G 256-128-128-2, D(x / 4) 2-128-1."""
  return {
    'generator': mlp.MLP((128, 128, 2)),
    'discriminator': mlp.MLP((128, 1), input_scale=0.25),
    'prior': priors.normal(256),
  }


def small_images(
  *, steps: int = 4000, rate: float = 1e-3, b1: float = 0.5
) -> ml_collections.ConfigDict:
  """The leaves of the digits' GANs: rates decay to 0, parameters are averaged."""
  config = run('digits', steps=steps, batch_size=64)
  add_adam(config, generator=rate, discriminator=rate, b1=b1, extras=False)
  config.decay_steps = steps
  config.ema_decay = 0.99
  config.latent_size = 64
  config.base_features = 64
  return config


def small_generator(config, spec) -> dcgan.Generator:
  """A DCGAN generator, or decoder, of the data's size."""
  if len(spec.shape) != 3:
    raise ValueError(f'data = {config.data!r} are not images, which this config needs')
  check_sizes(config, 'base_features')
  size, _, channels = spec.shape
  return dcgan.Generator(size, channels, config.base_features)


def small_networks(config, spec) -> dict:
  """That generator, a small dense critic, a normal prior."""
  check_sizes(config, 'latent_size')
  return {
    'generator': small_generator(config, spec),
    'discriminator': mlp.MLP((256, 256, 1)),
    'prior': priors.normal(config.latent_size),
  }


def adams(config, wrap) -> dict:
  """Both players' `adam`; the discriminator makes `num_critic` updates a step."""
  updates = config.get('num_critic', 1)
  if updates < 1:
    raise ValueError(f'num_critic must be >= 1, got {updates}')
  return {
    'g_tx': wrap(adam(config, config.g_learning_rate)),
    'd_tx': wrap(adam(config, config.d_learning_rate, updates=updates)),
  }


def autoencoder_adams(config, wrap) -> dict:
  """`adam` of the reconstruction, of the discriminator, of the encoder against it."""
  rates = {'r': config.learning_rate, 'd': config.adversarial_rate}
  rates['e'] = config.adversarial_rate
  return {f'{name}_tx': wrap(adam(config, rate)) for name, rate in rates.items()}


def weighted(penalty, weight: float, leaf: str):
  """(critic, key, real, fake) -> weight * penalty, or None of weight 0."""
  if weight < 0:
    raise ValueError(f'{leaf} must be >= 0, got {weight}')
  if weight == 0:
    return None
  return lambda critic, key, real, fake: weight * penalty(critic, key, real, fake)


def r1(gamma: float):
  """gamma / 2 times the squared gradient norm at real images, or None."""
  return weighted(
    lambda critic, key, real, fake: penalties.r1(critic, real) / 2, gamma, 'r1_gamma'
  )


def several_critic_steps(config) -> int:
  """The `batch_size` of a config whose critic steps each have their own data."""
  return config.batch_size * config.num_critic


def modes_evaluation(config, data):
  """Mode coverage of a mixture: 2,500 samples, 3 standard deviations, 20 hits."""
  mixture = registry.toy_density(config.data)
  if mixture is None or mixture.means is None or mixture.std is None:
    raise ValueError(
      f'data = {config.data!r} has no modes to count; use toy:ring or toy:grid'
    )

  def evaluation(method, model, key):
    samples = method.sample(model, key, 2500)
    return modes.coverage(samples, mixture.means, mixture.std)._asdict()

  return evaluation


def split(data, split, num):
  """At most `num` images of a split in model space, and their labels or None."""
  arrays = dataset.transformed(data.spec, data.arrays(split, num))
  return arrays['x'], arrays.get('label')


def image_distances(data):
  """Distances of images from the test split, as a function of [N, H, W, C].

  Images are in model space. `mmd2` is the unbiased squared MMD of pixels, with a
  Gaussian kernel as wide as the median distance between test images; `frechet`, for
  data with classes, the Frechet distance in the features of a small classifier
  trained on the train split. At most 10,000 train and 2,000 test images are used.
  All of it depends on these numbers and on N.
  """
  test, test_label = split(data, 'test', 2000)
  classifier = None
  if data.spec.num_classes:
    classifier = features.train_classifier(
      jax.random.key(0),
      *split(data, 'train', 10_000),
      network=features.Perceptron(data.spec.num_classes),
      test=(test, test_label),
    )

  def flat(x):
    return x.reshape(len(x), -1)

  median = float(kernel_distance.median_bandwidth(flat(test)))
  if not median > 0:
    raise dataset.DataError(
      f'{data.name}: most test images are identical, so that no distance between'
      ' samples and them can be measured; evaluate_every=0 trains without it'
    )
  kernel = discrepancy.gaussian(std=median)
  if classifier is not None:
    inner = functools.partial(classifier.features, classifier.params)
    test_moments = frechet.moments(inner(test))

  def distances(x):
    fixed = jax.lax.optimization_barrier(test)  # else XLA folds constants for long
    scores = {'mmd2': kernel_distance.mmd2_unbiased(kernel, flat(x), flat(fixed))}
    if classifier is not None:
      found = frechet.moments(inner(x))
      scores['frechet'] = frechet.frechet_distance(*found, *test_moments)
    return scores

  return distances


def image_evaluation(config, data):
  """`image_distances` of as many samples as test images, at most 2,000."""
  distances = image_distances(data)
  num = len(data.arrays('test', 2000)['x'])
  return lambda method, model, key: distances(method.sample(model, key, num))


def with_reconstruction(data, evaluation):
  """An evaluation's numbers, and `reconstruction`: the root mean squared error.

  Of a pixel of the test split, at most 2,000 images, pixels in [-1, 1].
  """
  x, _ = split(data, 'test', 2000)

  def more(method, model, key):
    again = method.queries['reconstruct'](model, key, x)
    error = jnp.sqrt(jnp.mean(jnp.square(again - x)))
    return {**evaluation(method, model, key), 'reconstruction': error}

  return more


def stacked_classify(data, key=None):
  """A classifier of a stacked set's channels: [B, H, W, 1] -> [B, 10] logits.

  Trained on the examples in 20,000 stacked ones, kept in a cache; it prints its
  accuracy.
  """
  train, test = (
    stacked.unstacked(data.arrays(split, num))
    for split, num in (('train', 20_000), ('test', 10_000))
  )
  pairs = [
    (dataset.transformed(data.spec, arrays)['x'], arrays['label'])
    for arrays in (train, test)
  ]
  classifier = features.cached_classifier(
    jax.random.key(0) if key is None else key,
    data.name.removeprefix('stacked:'),
    *pairs,
    num_classes=stacked.CLASSES,
  )
  return functools.partial(classifier.logits, classifier.params)


def stacked_counter(classify):
  """The evaluation that counts modes of 25,600 samples with such a classifier."""

  def evaluation(method, model, key):
    def chunk(key):
      return modes.stacked_labels(classify, method.sample(model, key, CHUNK))

    labels = jax.lax.map(chunk, jax.random.split(key, STACKED_SAMPLES // CHUNK))
    return modes.stacked_coverage(labels.ravel())._asdict()

  return evaluation


def stacked_evaluation(config, data):
  """Modes of 1,000 and reverse KL of 25,600 samples, by a classifier of channels."""
  return stacked_counter(stacked_classify(data))


def dcgan_evaluation(config, data):
  """`stacked_evaluation` of stacked sets, `image_evaluation` of others."""
  is_stacked = config.data.startswith('stacked:')
  return (stacked_evaluation if is_stacked else image_evaluation)(config, data)
