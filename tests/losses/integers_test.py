"""Integers in losses: numbers become floats at one door, codes are codes in all."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import conditions, losses
from gm_jax.losses import (
  adversarial,
  denoising,
  discrepancy,
  divergence,
  energy,
  f_divergence,
  likelihood,
  matching,
  penalties,
  placement,
  quantization,
  regularizers,
  score_matching,
  shapes,
  translation,
  variational,
)
from gm_jax.losses import mutual_information as mi
from gm_jax.methods import adversarial_autoencoder, autoencoder, kde, tables
from gm_jax.metrics import (
  diversity,
  features,
  frechet,
  game,
  inception_score,
  kernel_distance,
  modes,
  neighbors,
  prdc,
  two_sample,
)
from gm_jax.models import made

KEY = jax.random.key(0)
rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (2, 4, 3), dtype=np.uint8)  # two batches of rows [4, 3]
COLUMN = PIXELS[:, :, 0]
# 0 - 1 and 16^2 have no uint8: rows of a table of ones, and densities.
ONE_HOT = np.stack([np.eye(3, dtype=np.uint8), np.eye(3, dtype=np.uint8)[[1, 2, 2]]])
COUNTS = rng.integers(1, 20, (2, 3, 5), dtype=np.uint8)
WIDTHS = rng.integers(1, 30, (2, 4, 3), dtype=np.uint8)
COV = np.array([[[200, 10], [10, 100]], [[90, 0], [0, 250]]], np.uint8)
LEVELS = rng.integers(0, 4, (2, 3, 2), dtype=np.uint8)
CODE = np.array([0, 2, 1, 2])
POSITIONS = rng.integers(0, 200, (2, 1, 20), dtype=np.uint8)


def bowl(x):
  return (x * x).sum(axis=1)


def of_records(call):
  """A function of every record of `f_divergence`, as one array."""
  records = [
    f_divergence.TOTAL_VARIATION, f_divergence.KL, f_divergence.REVERSE_KL,
    f_divergence.PEARSON, f_divergence.NEYMAN, f_divergence.SQUARED_HELLINGER,
    f_divergence.JEFFREY, f_divergence.JENSEN_SHANNON, f_divergence.GAN,
    f_divergence.weighted_jensen_shannon(0.3), f_divergence.alpha(1.5),
  ]  # fmt: skip
  return lambda *args: jnp.stack([call(record, *args) for record in records])


def by_kernel(estimate):
  def value(x, y):
    kernels = (
      discrepancy.gaussian(std=100.0),
      discrepancy.gaussian_mixture(stds=[50.0, 100.0]),
      discrepancy.rational_quadratic(alphas=[1.0]),
      discrepancy.inverse_multiquadric(lengths=[50.0, 100.0]),
      discrepancy.polynomial(),
      discrepancy.distance_induced(),
      discrepancy.deep(discrepancy.polynomial(), lambda x: x * x / 100),
    )
    return jnp.stack([estimate(kernel, x, y) for kernel in kernels])

  return value


# A function of arrays by what it stands for, and integers that it takes for numbers.
NUMBERS = {
  'squared_distances': (discrepancy.squared_distances, PIXELS),
  'distances': (discrepancy.distances, PIXELS),
  'mmd2_biased': (by_kernel(discrepancy.mmd2_biased), PIXELS),
  'mmd_biased': (by_kernel(discrepancy.mmd_biased), PIXELS),
  'mmd2_linear': (by_kernel(discrepancy.mmd2_linear), PIXELS),
  'mmd2_unbiased': (by_kernel(discrepancy.mmd2_unbiased), PIXELS),
  'energy_distance': (discrepancy.energy_distance, PIXELS),
  'wasserstein_1d': (discrepancy.wasserstein_1d, COLUMN),
  'sliced_wasserstein': (
    lambda x, y: discrepancy.sliced_wasserstein(KEY, x, y), PIXELS),
  'sinkhorn_potentials': (
    lambda cost: jnp.concatenate(discrepancy.sinkhorn_potentials(cost, epsilon=9.0)),
    PIXELS[:1]),
  'entropic_transport': (
    lambda x, y: discrepancy.entropic_transport(x, y, epsilon=900.0), PIXELS),
  'sinkhorn_divergence': (
    lambda x, y: discrepancy.sinkhorn_divergence(x, y, epsilon=900.0), PIXELS),
  'entropy': (divergence.entropy, ONE_HOT[:1]),
  'kl': (divergence.kl, COUNTS),
  'jensen_shannon': (divergence.jensen_shannon, ONE_HOT),
  'total_variation': (divergence.total_variation, ONE_HOT),
  'squared_hellinger': (divergence.squared_hellinger, ONE_HOT),
  'bernoulli_entropy': (divergence.bernoulli_entropy, ONE_HOT[:1]),
  'bernoulli_kl': (divergence.bernoulli_kl, ONE_HOT),
  'gaussian_entropy': (divergence.gaussian_entropy, WIDTHS[:1]),
  'gaussian_kl': (
    lambda m, s: divergence.gaussian_kl(m[:2], s[:2], m[2:], s[2:]),
    np.stack([PIXELS[0], WIDTHS[0]])),
  'gaussian_squared_hellinger': (
    lambda m, s: divergence.gaussian_squared_hellinger(m[:2], s[:2], m[2:], s[2:]),
    np.stack([WIDTHS[1], WIDTHS[0]])),
  'gaussian_wasserstein2_squared': (
    lambda a, b: divergence.gaussian_wasserstein2_squared(a[0], a, b[0], b), COV),
  'evaluate': (of_records(f_divergence.evaluate), COUNTS),
  'evaluate_one_hot': (
    lambda p, q: f_divergence.evaluate(f_divergence.TOTAL_VARIATION, p, q), ONE_HOT),
  'variational_bound': (
    lambda p, q: f_divergence.variational_bound(f_divergence.PEARSON, p, q, q),
    PIXELS),
  'f': (lambda u: f_divergence.PEARSON.f(u), PIXELS[:1]),
  'bernoulli_each': (likelihood.bernoulli_each, ONE_HOT),
  'bernoulli': (likelihood.bernoulli, ONE_HOT),
  'gaussian': (lambda m, x: likelihood.gaussian(m, 0.5, x), PIXELS),
  'gaussian_std': (
    lambda m, s: likelihood.gaussian(m, s, m[::-1]), np.stack([PIXELS[0], WIDTHS[0]])),
  'pixels': (
    lambda p: likelihood.pixels(p, jnp.array([[[0, 1, 2]]]), num_levels=4),
    POSITIONS[:1, :, None]),
  'mixture_of_discretized_logistics': (
    lambda m, s: likelihood.mixture_of_discretized_logistics(
      m[..., 0], m, s, jnp.array([[0, 1], [2, 3], [1, 1]]), num_levels=4),
    LEVELS.reshape(2, 3, 1, 2)),
  'discretized_logistic': (
    lambda m, s: likelihood.discretized_logistic(
      m, s, jnp.array([[0, 1], [2, 3], [1, 1]]), num_levels=4), LEVELS),
  'discretized_logistic_each': (
    lambda m, s: likelihood.discretized_logistic_each(
      m, s, jnp.array([[0, 1], [2, 3], [1, 1]]), num_levels=4), LEVELS),
  'discretized_gaussian_each': (
    lambda m, s: likelihood.discretized_gaussian_each(
      m, s, jnp.array([[0, 1], [2, 3], [1, 1]]), num_levels=4), LEVELS),
  'categorical': (lambda logits: likelihood.categorical(logits, CODE), PIXELS[:1]),
  'categorical_each': (
    lambda logits: likelihood.categorical_each(logits, CODE), PIXELS[:1]),
  'bits_per_dimension': (
    lambda nats: likelihood.bits_per_dimension(nats, 3, measure='mass'), PIXELS[:1]),
  'of_table': (mi.of_table, ONE_HOT[:1]),
  'mi_categorical': (lambda logits: mi.categorical(logits, CODE), PIXELS[:1]),
  'mi_gaussian': (
    lambda mean, code: mi.gaussian(mean, jnp.ones((4, 3)), code), PIXELS),
  'mi_uniform': (lambda mean, code: mi.uniform(mean, jnp.ones((4, 3)), code), PIXELS),
  'info_nce': (lambda scores: mi.info_nce(scores[:3]), PIXELS[:1]),
  'nwj': (mi.nwj, COLUMN // 4),
  'donsker_varadhan': (mi.donsker_varadhan, COLUMN),
  'mi_jensen_shannon': (mi.jensen_shannon, COLUMN),
  'gradient_penalty': (
    lambda x, y: penalties.gradient_penalty(bowl, KEY, x, y), PIXELS),
  'one_sided_gradient_penalty': (
    lambda x, y: penalties.one_sided_gradient_penalty(bowl, KEY, x, y), PIXELS),
  'zero_centered_gradient_penalty': (
    lambda x, y: penalties.zero_centered_gradient_penalty(bowl, KEY, x, y), PIXELS),
  'dragan': (lambda x: penalties.dragan(bowl, KEY, x, scale=0.1), PIXELS[:1]),
  'r1': (lambda x: penalties.r1(bowl, x), PIXELS[:1]),
  'r2': (lambda x: penalties.r2(bowl, x), PIXELS[:1]),
  'r1_r2': (lambda x, y: penalties.r1_r2(bowl, x, y), PIXELS),
  'spectral_norm': (regularizers.spectral_norm, PIXELS[:1]),
  'orthogonal': (
    lambda w: regularizers.orthogonal(w) + regularizers.orthogonal(w, diagonal=False),
    PIXELS[:1]),
  'consistency': (regularizers.consistency, COLUMN),
  'balanced_consistency': (
    lambda a, b: regularizers.balanced_consistency(a, b, b, a), COLUMN),
  'latent_diversity': (regularizers.latent_diversity, PIXELS),
  'lecam': (lambda a, b: regularizers.lecam(a, b, a[0], b[0]), COLUMN),
  'lecam_anchor': (lambda a, b: regularizers.lecam_anchor(a[0], b), COLUMN),
  'top_k_weights': (lambda f: regularizers.top_k_weights(f, 2), COLUMN[:1]),
  'feature_matching': (regularizers.feature_matching, PIXELS),
  'drift': (regularizers.drift, COLUMN[:1]),
  'standard_normal_kl': (
    lambda m, s: variational.standard_normal_kl(m, s // 10), WIDTHS),
  'gaussian_kl_each': (
    lambda m, s: variational.gaussian_kl_each(m, s // 10, m + 1, s // 20), WIDTHS),
  'standard_normal_kl_each': (
    lambda m, s: variational.standard_normal_kl_each(m, s // 10), WIDTHS),
  'gaussian_log_prob_each': (
    lambda m, z: variational.gaussian_log_prob_each(m, m // 10, z), WIDTHS),
  'elbo': (lambda a, b: variational.elbo(a, b, beta=2), COLUMN),
  'free_bits': (lambda kl: variational.free_bits(kl, minimum=90), PIXELS[:1]),
  'iwae': (variational.iwae, PIXELS[:1]),
  'normalized_weights': (variational.normalized_weights, PIXELS[:1]),
  'scaled_gradient': (
    lambda z, scale: variational.scaled_gradient(1.0 * z, scale[:, 0]), PIXELS),
  'decomposed_kl': (
    lambda z, m: jnp.stack(variational.decomposed_kl(z, m, z // 9, num_train=9)),
    WIDTHS),
  'codebook': (lambda codes: quantization.codebook(codes).codes, PIXELS[:1]),
  'nearest': (lambda z, codes: 1.0 * quantization.nearest(z, codes), PIXELS),
  'straight_through': (quantization.straight_through, PIXELS),
  'commitment': (quantization.commitment, PIXELS),
  'codebook_loss': (quantization.codebook_loss, PIXELS),
  'updated': (
    lambda z, codes: jnp.concatenate(
      quantization.updated(quantization.codebook(codes), z, CODE)[::2]), PIXELS),
  'restarted': (
    lambda z, codes: quantization.restarted(
      quantization.codebook(codes), KEY, z, least=1.0).codes, PIXELS),
  'perplexity': (quantization.perplexity, PIXELS[:1]),
  'matching_discriminator': (lambda r, f: matching.discriminator(r, f, r), COLUMN),
  'matching_generator': (matching.generator, COLUMN),
  'absolute_error': (translation.absolute_error, PIXELS),
  'domain_classification': (
    lambda logits: translation.domain_classification(logits, CODE, sizes=(1, 2)),
    PIXELS[:1]),
  'conditioning_kl': (lambda m, s: matching.conditioning_kl(m, s // 10), WIDTHS),
  'denoising_squared_error': (denoising.squared_error, PIXELS),
  'edm_weight': (lambda s: denoising.edm_weight(s // 50, data_std=2), PIXELS[:1]),
  'min_snr_noise': (lambda s: denoising.min_snr_noise(s // 50), PIXELS[:1]),
  'min_snr_data': (lambda s: denoising.min_snr_data(s // 50), PIXELS[:1]),
  'min_snr_velocity': (lambda s: denoising.min_snr_velocity(s // 50), PIXELS[:1]),
  'sigmoid_weight': (denoising.sigmoid_weight, PIXELS[:1]),
  'denoising_score_matching': (
    lambda s, e: denoising.denoising_score_matching(s, e, e[:, 0]), WIDTHS),
  'flow_matching': (lambda v, x: denoising.flow_matching(v, x, v[::-1]), PIXELS),
  'continuous_bound': (
    lambda p, e: denoising.continuous_bound(p, e, e[:, 0]), PIXELS),
  'discrete_bound': (
    lambda p, e: denoising.discrete_bound(p, e, p[:, 0], e[:, 0], num_steps=9),
    WIDTHS),
  'prior_kl': (lambda x: denoising.prior_kl(x, x[0, 0] // 50), PIXELS[:1]),
  'implicit': (lambda x: score_matching.implicit(lambda x: x * x, x), PIXELS[:1]),
  'sliced': (lambda x: score_matching.sliced(lambda x: x * x, KEY, x), PIXELS[:1]),
  'contrastive_divergence': (energy.contrastive_divergence, COLUMN),
  'squared_energy': (energy.squared_energy, COLUMN),
  'noise_contrastive': (lambda r: energy.noise_contrastive(r[:, 0], r), PIXELS[:1]),
  'marginal_energy': (energy.marginal_energy, PIXELS[:1]),
  'joint_energy': (lambda f: energy.joint_energy(f, CODE), PIXELS[:1]),
  'composite': (lambda p, g: placement.composite(p, g, g[:, :1] / 255), PIXELS),
  'discriminator': (lambda r, f: placement.discriminator(r, f, r, f), COLUMN),
  'spatial': (placement.spatial, PIXELS),
  'appearance': (lambda y, x: placement.appearance(y, x[:, :1], x, y[:, :1]), PIXELS),
  # Metrics.
  'frechet': (frechet.frechet, PIXELS),
  'moments': (lambda x: jnp.concatenate([m.ravel() for m in frechet.moments(x)]),
              PIXELS[:1]),
  'kernel_distance': (by_kernel(kernel_distance.mmd2_unbiased), PIXELS),
  'median_bandwidth': (kernel_distance.median_bandwidth, PIXELS[:1]),
  'kid': (
    lambda x, y: kernel_distance.kernel_distance(
      KEY, x, y, num_subsets=1, subset_size=4)[0], PIXELS),
  'prdc': (jax.jit(lambda x, y: jnp.stack(prdc.prdc(x, y, k=2))), PIXELS),
  'neighbors': (jax.jit(lambda x, y: neighbors.nearest(x, y, num=2).distances), PIXELS),
  'inception_score': (
    lambda logits: jnp.stack(inception_score.inception_score(logits, num_splits=2)),
    PIXELS[:1]),
  'permutation_test': (
    lambda x, y: jnp.stack(two_sample.permutation_test(
      KEY, x, y, kernel=discrepancy.gaussian(std=100.0), num_permutations=9)), PIXELS),
  'mean_pairwise_distance': (
    lambda x: jnp.stack(diversity.mean_pairwise_distance(
      KEY, x, lambda a, b: jnp.square(a - b).sum(axis=1), num_pairs=9)), PIXELS[:1]),
  'coverage': (lambda x, m: modes.coverage(x, m, 60.0, min_hits=1)[1], PIXELS),
  'slopes': (lambda x: game.slopes(bowl, x), PIXELS[:1]),
  'squared_error': (autoencoder.squared_error, PIXELS),
  'kde_log_density': (lambda points, x: kde.log_density(points, x, 30.0, 4), PIXELS),
  'divergence_estimate': (
    lambda r, f: game.divergence_estimate(f_divergence.PEARSON, r, f)[0], COLUMN),
}  # fmt: skip
GAMES = {
  name: value for name, value in vars(adversarial).items()
  if isinstance(value, type(adversarial.HINGE))
}  # fmt: skip
GAMES |= {
  'f_gan': f_divergence.f_gan(f_divergence.JENSEN_SHANNON),
  'trick': f_divergence.f_gan(
    f_divergence.PEARSON, generator=f_divergence.trick_generator
  ),
  'smoothed': adversarial.one_sided_label_smoothing(adversarial.LEAST_SQUARES, 0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', NUMBERS)
def test_integers_are_the_numbers_that_they_are(name):
  function, arrays = NUMBERS[name]
  expected = jax.jit(lambda: function(*(jnp.float32(a) for a in arrays)))()
  for raw in (arrays, [jnp.asarray(a) for a in arrays]):
    # One program of constants: numpy's arrays stay what they are to the function.
    value = jax.jit(lambda raw=raw: function(*raw))()
    assert jnp.issubdtype(value.dtype, jnp.floating)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize('name', GAMES)
def test_integer_logits_are_numbers_in_every_game(name):
  for loss in GAMES[name]:
    value = loss(*COLUMN)
    assert jnp.issubdtype(value.dtype, jnp.floating)
    np.testing.assert_allclose(value, loss(*COLUMN.astype(np.float32)))
    np.testing.assert_allclose(loss(*PIXELS), loss(*PIXELS.astype(np.float32)))


# Functions that make a loss, say something of its parameters or take no numbers.
OTHERS = {
  'gaussian', 'gaussian_mixture', 'rational_quadratic', 'polynomial',
  'inverse_multiquadric', 'distance_induced', 'deep', 'log_ratio', 'log_mixture',
  'weighted_jensen_shannon',
  'alpha', 'saddle_generator', 'trick_generator', 'f_gan', 'num_pixel_parameters',
  'pixel_mixture', 'uniform', 'one_sided_label_smoothing', 'exchange_roles',
}  # fmt: skip


def test_every_function_of_the_losses_is_in_the_table():
  for name in losses.__all__:
    module = getattr(losses, name)
    if module is shapes:
      continue
    for function, value in vars(module).items():
      own = inspect.isfunction(value) and value.__module__ == module.__name__
      if not own or function.startswith('_') or function in OTHERS:
        continue
      in_a_game = any(value in pair for pair in GAMES.values())
      named = {function, f'mi_{function}', f'{name}_{function}'} & NUMBERS.keys()
      assert in_a_game or named, f'{name}.{function}'


def test_a_polynomial_of_sixteen_and_sixteen():
  sixteen = np.full((1, 1), 16, np.uint8)
  assert discrepancy.polynomial()(sixteen, sixteen) == (16 * 16 + 1) ** 3 == 16_974_593


def test_what_holds_no_numbers_is_refused_by_name():
  for value in (np.ones(2, complex), np.array(['a', 'b']), jax.random.key(0)):
    with pytest.raises(ValueError, match='real_logits must be real numbers'):
      adversarial.HINGE.discriminator(value, np.ones(2))
  (kept,) = shapes.floats(x=jnp.ones(2, jnp.bfloat16))
  assert kept.dtype == jnp.bfloat16


@pytest.mark.parametrize('loss', [likelihood.categorical, mi.categorical])
def test_a_class_out_of_range_is_refused_and_traced_is_the_nearest(loss):
  logits = jnp.array([[0.3, -1.0, 2.0], [1.0, 0.5, -0.5]])
  for wrong in ([0, 3], [-1, 0]):
    with pytest.raises(ValueError, match='from 0 to 2'):
      loss(logits, jnp.array(wrong))
  with pytest.raises(ValueError, match='integers'):
    loss(logits, jnp.array([0.0, 1.0]))
  np.testing.assert_allclose(
    jax.jit(loss)(logits, jnp.array([-1, 7])), loss(logits, jnp.array([0, 2]))
  )


# A function of integers by what it stands for, with more classes than an int8 or a
# uint8 has numbers.
FEW = np.array([[0, 5], [100, 127]])
MANY = rng.standard_normal((2, 2, 1000)).astype(np.float32)
INTEGERS = {
  'categorical': lambda x: likelihood.categorical(MANY, x),
  'domain_classification': lambda x: translation.domain_classification(MANY[0], x[0]),
  'joint_energy': lambda x: energy.joint_energy(MANY[0], x[0]),
  'mi_categorical': lambda x: mi.categorical(MANY[0], x[0]),
  'discretized_logistic': lambda x: likelihood.discretized_logistic(
    jnp.zeros((2, 2)), jnp.zeros((2, 2)), x, num_levels=256),
  'pixels': lambda x: likelihood.pixels(jnp.ones((2, 6)), x, num_levels=256),
  'by_class': conditions.by_class(1000).embed,
  'discriminator_input': lambda x: adversarial_autoencoder.discriminator_input(
    jnp.zeros((2, 1)), x[0], 1000),
  'made': lambda x: made.MADE(2, (3,), 1000, 1000).init_with_output(
    KEY, x, made.masks(rng, np.arange(2), (3,)))[0],
  'stacked_coverage': lambda x: jnp.stack(modes.stacked_coverage(x[0])),
}  # fmt: skip


@pytest.mark.parametrize('name', INTEGERS)
def test_classes_are_the_same_in_every_dtype(name):
  expected = INTEGERS[name](jnp.asarray(FEW, jnp.int32))
  for dtype in (jnp.uint8, jnp.int8, jnp.uint16):
    value = INTEGERS[name](jnp.asarray(FEW, dtype))
    np.testing.assert_array_equal(value, expected)


def test_classes_above_231_of_a_thousand():
  # 999, the last one, is 231 in uint8.
  code = jnp.array([[250], [255]], jnp.uint8)
  log_p = np.asarray(jax.nn.log_softmax(MANY[:, :1]))
  expected = [log_p[0, 0, 250], log_p[1, 0, 255]]
  np.testing.assert_array_equal(likelihood.categorical(MANY[:, :1], code), expected)


@pytest.mark.parametrize('make', [tables.full_table, tables.chain])
def test_a_traced_level_out_of_range_is_counted_as_the_nearest(make):
  method = make((2,), 3, smoothing=1.0)
  near, far = jnp.array([[0, 2], [1, 0]]), jnp.array([[-1, 3], [1, -7]])
  state = method.init(KEY, {'x': near})
  step = jax.jit(lambda state, x: method.step(state, KEY, {'x': x})[0])
  for one, other in zip(*(jax.tree.leaves(step(state, x)) for x in (near, far)),
                        strict=True):  # fmt: skip
    np.testing.assert_array_equal(one, other)
  with pytest.raises(ValueError, match='from 0 to 2'):
    method.step(state, KEY, {'x': far})


@pytest.mark.parametrize('loss', [likelihood.bernoulli, likelihood.bernoulli_each])
def test_levels_are_no_binary_values(loss):
  with pytest.raises(ValueError, match='from 0 to 1, got 2'):
    loss(jnp.zeros((2, 2)), jnp.array([[0, 1], [2, 1]]))


def test_a_classifier_refuses_a_label_that_is_no_class():
  images = jnp.zeros((4, 2, 2, 1))
  for wrong in ([0, 1, 2, 3], [0, -1, 1, 2]):
    with pytest.raises(ValueError, match='labels must be from 0 to 2'):
      features.train_classifier(
        KEY, images, jnp.array(wrong), network=features.Perceptron(3)
      )
