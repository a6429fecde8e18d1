"""The query `impute` of diffusion models: what is missing of examples is drawn."""

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from gm_jax import base, processes, times
from gm_jax.samplers import diffusion, inpainting, particles

Array = base.Array
INPAINTERS: Mapping[str, Callable] = {
  'repaint': inpainting.repaint,
  'replacement': inpainting.replacement,
  'particles': particles.particles,
}


def query(
  process: processes.Process,
  grid: times.Grid,
  shape: Sequence[int],
  denoise: Callable,
  *,
  num_steps: int,
) -> Callable:
  """Returns the query `impute` of a model that is a denoiser.

  Its options are those of the model's sampling and `inpainter`, by name: `repaint` with
  `jump` and `resamplings`, `replacement`, or `particles` with `num_particles`, whose
  completions are each of a filter of its own.

  Args:
    process: of x_t.
    grid: of the times of sampling.
    shape: of an example.
    denoise: (model, num, condition, weight, weak, low, high) -> a denoiser of `num`
      examples, guided as `diffusion.Guidance` says.
    num_steps: the default.
  """
  default = num_steps

  def impute(
    model, key, x, observed, *, num, condition=None, num_steps=default,
    inpainter='repaint', jump=3, resamplings=10, num_particles=16, guidance=1.0,
    weak='unconditional', low=0.0, high=math.inf,
  ):  # fmt: skip
    check(x, observed, shape)
    inpainting.check_counts(num=num, num_particles=num_particles)
    if inpainter not in INPAINTERS:
      known = ', '.join(INPAINTERS)
      raise ValueError(f'no inpainter {inpainter!r}; there are: {known}')

    def each(a):  # every example `num` times, completion by completion
      return jnp.broadcast_to(a, (num, *a.shape)).reshape(-1, *a.shape[1:])

    condition = jax.tree.map(lambda a: each(jnp.asarray(a)), condition)
    found = denoise(model, num * len(x), condition, guidance, weak, low, high)
    start, key, choice = jax.random.split(key, 3)
    evidence = {'known': each(x), 'observed': each(jnp.asarray(observed, bool))}
    call = INPAINTERS[inpainter]

    def draw(lead, **options):
      noise = diffusion.noise(process, start, (*lead, num * len(x), *shape))
      return call(found, process, key, noise, grid, num_steps, **evidence, **options)

    if inpainter == 'particles':
      out = particles.choose(choice, draw((num_particles,)))
    elif inpainter == 'repaint':
      out = draw((), jump=jump, resamplings=resamplings)
    else:
      out = draw(())
    return out.reshape(num, *x.shape)

  return impute


def check(x: Array, observed: Array, shape: Sequence[int]) -> None:
  """Checks the arguments of `impute`.

  Raises:
    ValueError: x is not `[B, *shape]`, or observed of another shape.
  """
  if x.shape[1:] != tuple(shape):
    wanted = ', '.join(map(str, shape))
    raise ValueError(f'x must be [B, {wanted}], got {x.shape}')
  if observed.shape != x.shape:
    raise ValueError(
      f'observed must have the shape of x, {list(x.shape)}, got {list(observed.shape)}'
    )
