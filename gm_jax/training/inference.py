"""Scores and samples of a trained state."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gm_jax import base
from gm_jax.training import conditioning, options, parallel
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib

BATCH = 256  # samples drawn at once


class Drawing(NamedTuple):
  """A request to a trained model, beside the number of samples.

  condition: words of the command line, see `conditioning.from_words`.
  options: of sampling and queries, by name.
  averaged: whether the averaged weights are used, where there are any.
  """

  condition: Sequence[str] = ()
  options: Mapping[str, Any] = base.NOTHING
  averaged: bool = True


PLAIN = Drawing()


def scorer(
  setup: setup_lib.Setup, phase: base.Phase, drawing: Drawing = PLAIN
) -> Callable[[base.State], tuple[dict, dict]]:
  """The experiment's evaluation of a state.

  Args:
    setup: with an evaluation.
    phase: whose method is scored.
    drawing: options, and which weights.

  Returns:
    state -> (numbers in numpy by name, `[S]` if many seeds; their kinds, by the names
    of those that have one).
  """
  method, kinds = options.with_options(phase.method, drawing.options), {}

  def score(model, key):
    found = setup.evaluation(method, model, key)
    if isinstance(found, base.Result):
      kinds.update({name: kind for name, (_, kind) in found.values.items()})
    return setup_lib.numbers(found)

  scores = compiled(setup, score, drawing.averaged)
  return lambda state: (scores(state), kinds)


def drawer(
  setup: setup_lib.Setup, phase: base.Phase, num: int, drawing: Drawing = PLAIN
) -> Callable[[base.State], np.ndarray]:
  """Samples of a state, as the data are.

  Args:
    setup: of the run.
    phase: whose method draws; its spec takes samples back to raw data.
    num: how many.
    drawing: condition, options, and which weights.

  Returns:
    state -> `[num, ...]`, or `[S, num, ...]` if many seeds.
  """
  size, count = min(BATCH, num), -(-num // BATCH)
  method = options.with_options(phase.method, drawing.options)
  condition = conditioning.from_words(method.card, setup.data, drawing.condition)(
    size * count
  )
  condition = jax.tree.map(lambda c: c.reshape(count, size, *c.shape[1:]), condition)

  def draw(model, key):
    def chunk(inputs):
      key, condition = inputs
      return method.sample(model, key, size, condition=condition)

    chunks = jax.lax.map(chunk, (jax.random.split(key, count), condition))
    samples = chunks.reshape(-1, *chunks.shape[2:])[:num]
    return phase.spec.transform.inverse(samples)

  return compiled(setup, draw, drawing.averaged)


def once(make: Callable[[base.Phase], Callable]) -> Callable:
  """`make` with a memory, so that what it compiles is compiled once a phase."""
  made: dict[int, tuple[base.Phase, Callable]] = {}

  def get(phase):
    if id(phase) not in made:
      made[id(phase)] = phase, make(phase)  # kept, so that its id stays its own
    return made[id(phase)][1]

  return get


def compiled(
  setup: setup_lib.Setup, fn: Callable, averaged: bool = True
) -> Callable[[base.State], Any]:
  """state -> (model, key) -> numpy, for every seed, in keys apart from training's."""
  settings = setup.settings
  many = settings.num_seeds > 1

  def every(model):
    seeds = settings.seed + np.arange(settings.num_seeds)
    root_keys = jax.vmap(jax.random.key)(seeds)
    keys = jax.vmap(lambda key: step_lib.streams(key).inference)(root_keys)
    return jax.vmap(fn)(model, keys) if many else fn(model, keys[0])

  compiled = jax.jit(every)
  return lambda state: parallel.fetch(
    compiled(step_lib.model(state, averaged=averaged))
  )
