"""How a network grows: the stages of a run, fades of new layers, what is carried on.

A stage is the phase of one size. Its newest layers count by a fraction, its fade, which
is a function of the step alone: a stage is one compiled program, and a run that was
stopped needs nothing to go on with the fade of a straight one.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base

Fade = Callable[[base.Array], base.Array]  # step [] int32 -> [] float32 in [0, 1]


class Stage(NamedTuple):
  """The steps of one size: the newest layers fade in, then all are at rest."""

  size: int
  begin: int
  full: int  # the step from which the fade is 1; `begin` without a fade
  until: int


def stages(lengths: Mapping[int, int], steps: int) -> tuple[Stage, ...]:
  """The stages of a run: each size fades in and is then at rest, for equal times.

  Rest comes first, at the smallest size, which has nothing to fade in; the last size
  is at rest for all steps that are left. A run of one size is a single stage.

  Args:
    lengths: by size, steps of its fade and of its rest; each size twice the one before.
    steps: of the run.

  Returns:
    A stage for each size.

  Raises:
    ValueError: sizes that do not double, a number below 1, or no steps are left.
  """
  sizes = list(lengths)
  if not sizes or min(*sizes, *lengths.values(), steps) < 1:
    raise ValueError(f'sizes and steps must be >= 1, got {dict(lengths)} and {steps}')
  if any(2 * a != b for a, b in itertools.pairwise(sizes)):
    raise ValueError(f'each size must be twice the one before, got {sizes}')
  found, begin = [], 0
  for i, (size, num) in enumerate(lengths.items()):
    full = begin + num if i else begin
    found.append(Stage(size, begin, full, full + num))
    begin = full + num
  last = found[-1]
  if last.full >= steps:
    raise ValueError(
      f'{last.size} pixels are reached after {last.full} steps, and none of {steps} is'
      ' left to be at rest'
    )
  return (*found[:-1], last._replace(until=steps))


def fade_of(stage: Stage) -> Fade:
  """0 until a stage begins, then linear in the step, 1 from where it is full."""
  length = max(1, stage.full - stage.begin)
  ahead = int(stage.full == stage.begin)  # without a fade it is 1 at `begin` already

  def fade(step):
    done = jnp.asarray(step - stage.begin + ahead, jnp.float32)
    return jnp.clip(done / length, 0.0, 1.0)

  return fade


def carried(new: base.PyTree, old: base.PyTree) -> base.PyTree:
  """A tree with the leaves of another one wherever this has them too.

  Args:
    new: the larger tree.
    old: the smaller one; leaves that only it has are dropped.

  Raises:
    ValueError: a leaf has another shape in the two.
  """
  known = dict(jax.tree_util.tree_leaves_with_path(old))

  def one(path, leaf):
    found = known.get(path, leaf)
    if found.shape != leaf.shape:
      name = jax.tree_util.keystr(path)
      raise ValueError(f'{name} is {found.shape}, and {leaf.shape} where it grows')
    return found

  return jax.tree_util.tree_map_with_path(one, new)


def after_smaller(
  method: base.Method, *, keep_optimizers: bool = False
) -> Callable[[base.Array, Any, base.Batch], base.State]:
  """The `Phase.enter` of a method whose networks are those of the phase before, grown.

  Args:
    method: of the larger size.
    keep_optimizers: whether layers that were there keep their optimizer's state. The
      count of its updates then goes on, and new layers, whose moments begin at 0 under
      it, take larger first steps.

  Returns:
    (key, previous, batch) -> state at the step of the phase before.
  """

  def enter(key, previous, batch):
    state = method.init(key, batch)
    state = state._replace(
      step=previous.step, params=carried(state.params, previous.params)
    )
    if not keep_optimizers:
      return state
    return state._replace(opt_state=carried(state.opt_state, previous.opt_state))

  return enter
