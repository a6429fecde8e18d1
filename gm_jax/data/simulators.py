"""Simulators: parameters of a prior, and what is observed of them.

Parameters are `x`, the observation is `condition`, so that a conditional model of x
learns the posterior p(parameters | observation) from draws alone, without a likelihood:
neural posterior estimation. Sets are endless, as those of `toy`.

Source: Benchmarking Simulation-Based Inference, Lueckmann et al., 2021,
arXiv:2101.04653, appendix T.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.data import dataset as dataset_lib
from gm_jax.data import toy, transforms


class Simulator(NamedTuple):
  """A prior and a simulator, and their posterior where it is known.

  name: of the family.
  dim: D, parameters.
  size: C, numbers of an observation.
  draw: (key, num) -> (parameters [num, D], observations [num, C]).
  log_posterior: (parameters [B, D], observations [B, C]) -> [B] nats, or None.
  """

  name: str
  dim: int
  size: int
  draw: Callable[[base.Array, int], tuple[base.Array, base.Array]]
  log_posterior: Callable[[base.Array, base.Array], base.Array] | None = None


def linear(*, std: float = 0.3) -> Simulator:
  """Two numbers seen through a matrix with noise: a Gaussian posterior.

  theta ~ N(0, I),  observed ~ N(A theta, std^2 I),  A = [[1, 0.5], [0, 1]]

  Args:
    std: of the noise.
  """
  toy.check_scales(std=std)
  matrix = jnp.array([[1.0, 0.5], [0.0, 1.0]])
  covariance = jnp.linalg.inv(jnp.eye(2) + matrix.T @ matrix / std**2)

  def draw(key, num):
    theta_key, noise_key = jax.random.split(key)
    theta = jax.random.normal(theta_key, (num, 2))
    noise = jax.random.normal(noise_key, (num, 2))
    return theta, theta @ matrix.T + std * noise

  def log_posterior(theta, observed):
    mean = observed @ matrix @ covariance / std**2
    logpdf = jax.scipy.stats.multivariate_normal.logpdf
    return jax.vmap(logpdf, (0, 0, None))(theta, mean, covariance)

  return Simulator('linear', 2, 2, draw, log_posterior)


def two_moons() -> Simulator:
  """Two crescents: parameters that explain an observation lie on two thin arcs.

  theta uniform on [-1, 1]^2,  observed = r (cos a, sin a) + (1/4, 0)
  + (-|theta_1 + theta_2|, theta_2 - theta_1) / sqrt(2),
  r ~ N(0.1, 0.01^2),  a uniform on (-pi/2, pi/2)
  """

  def draw(key, num):
    theta_key, r_key, a_key = jax.random.split(key, 3)
    theta = jax.random.uniform(theta_key, (num, 2), minval=-1.0)
    r = 0.1 + 0.01 * jax.random.normal(r_key, (num,))
    a = jnp.pi * (jax.random.uniform(a_key, (num,)) - 0.5)
    arc = jnp.stack([r * jnp.cos(a) + 0.25, r * jnp.sin(a)], axis=1)
    total, difference = theta.sum(axis=1), theta[:, 1] - theta[:, 0]
    return theta, arc + jnp.stack([-jnp.abs(total), difference], axis=1) / jnp.sqrt(2.0)

  return Simulator('two_moons', 2, 2, draw)


SIMULATORS: Mapping[str, Callable[..., Simulator]] = {
  'linear': linear,
  'two_moons': two_moons,
}


def dataset(simulator: Simulator) -> dataset_lib.Dataset:
  """Makes an endless Dataset of `x`, parameters, and `condition`, observations."""

  def joint(key, num):
    return jnp.concatenate(simulator.draw(key, num), axis=1)

  size = simulator.dim + simulator.size
  found = toy.dataset(toy.Toy(simulator.name, size, joint, None))

  def parted(arrays):
    x = arrays['x']
    return {'x': x[:, : simulator.dim], 'condition': x[:, simulator.dim :]}

  observed = base.Part((simulator.size,), jnp.float32, None, transforms.identity())
  spec = found.spec._replace(shape=(simulator.dim,), parts={'condition': observed})
  return found._replace(
    spec=spec,
    batches=lambda *args, **options: map(parted, found.batches(*args, **options)),
    arrays=lambda *args, **options: parted(found.arrays(*args, **options)),
  )
