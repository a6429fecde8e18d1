"""Losses: functions of arrays, unreduced `[B]` where they are a mean over examples.

Nothing here knows a network, a parameter or a training loop. The modules, by what
their functions compare:

  `adversarial`         logits of real and fake examples, as two-player games
  `denoising`           what a denoiser says and what is so; weights, likelihood
  `discrepancy`         two sets of samples: kernels, optimal transport
  `divergence`          two known distributions: tables, densities, Gaussians
  `energy`              energies: contrastive divergence, noise contrast, classifiers
  `f_divergence`        f-divergences, their conjugates and their games
  `likelihood`          an output layer's parameters and data: log-likelihoods
  `matching`            logits of images with their text, another's, or none
  `mutual_information`  pairs of variables: bounds of their mutual information
  `penalties`           a critic's gradient with respect to its input
  `placement`           parts of images and where they are: composites, masks
  `quantization`        vectors and a table of codes: vector quantization
  `regularizers`        weights, logits and features, without such a gradient
  `score_matching`      a score and data: implicit, sliced
  `shapes`              shapes, ranges and dtypes at the door, which the others share
  `translation`         images translated, and translated back; domains
  `variational`         a latent variable's posterior: bounds of the evidence

  >>> import jax.numpy as jnp
  >>> import gm_jax.losses
  >>> zeros = jnp.zeros(2)
  >>> print(gm_jax.losses.adversarial.HINGE.discriminator(zeros, zeros))
  [2. 2.]
"""

from gm_jax.losses import (
  adversarial,
  denoising,
  discrepancy,
  divergence,
  energy,
  f_divergence,
  likelihood,
  matching,
  mutual_information,
  penalties,
  placement,
  quantization,
  regularizers,
  score_matching,
  shapes,
  translation,
  variational,
)

__all__ = [
  'adversarial',
  'denoising',
  'discrepancy',
  'divergence',
  'energy',
  'f_divergence',
  'likelihood',
  'matching',
  'mutual_information',
  'penalties',
  'placement',
  'quantization',
  'regularizers',
  'score_matching',
  'shapes',
  'translation',
  'variational',
]
