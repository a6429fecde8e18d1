"""What a trained state gives: scores, samples, a picture of some."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gm_jax import base
from gm_jax.training import parallel, plots
from gm_jax.training import setup as setup_lib
from gm_jax.training import step as step_lib

BATCH = 256  # samples drawn at once
POINTS, IMAGES, TEXTS, ROLLS = 1000, 64, 16, 9  # samples in a picture


def scorer(setup: setup_lib.Setup, method: base.Method) -> Callable[[base.State], dict]:
  """state -> the experiment's evaluation: numpy by name, [S] if many seeds."""

  def one(model, key):
    return setup.evaluation(method, model, key)

  return _compiled(setup, one)


def drawer(
  setup: setup_lib.Setup, method: base.Method, num: int
) -> Callable[[base.State], np.ndarray]:
  """state -> samples as the data are, [num, ...], or [S, num, ...] if many seeds."""
  size, count = min(BATCH, num), -(-num // BATCH)
  given = setup.given(size * count)
  if given is not None:
    given = given.reshape(count, size, *given.shape[1:])

  def one(model, key):
    def chunk(inputs):
      key, condition = inputs
      return method.sample(model, key, size, condition=condition)

    chunks = jax.lax.map(chunk, (jax.random.split(key, count), given))
    samples = chunks.reshape(-1, *chunks.shape[2:])[:num]
    return setup.data.spec.transform.inverse(samples)

  return _compiled(setup, one)


def painter(setup: setup_lib.Setup, method: base.Method) -> Callable:
  """(path, state) -> None: a picture of the first seed's samples, where there is one.

  Images in a grid, points over those of the data, text as a page, other sequences of
  whole numbers as piano rolls.
  """
  found = _picture(setup)
  if method.sample is None or found is None:  # a phase may have no samples
    return lambda path, state: None
  num, picture = found
  draw = drawer(setup, method, num)

  def paint(path: pathlib.Path, state: base.State) -> None:
    samples = draw(state)
    if jax.process_index():
      return  # one process is enough to write
    samples = samples if setup.settings.num_seeds == 1 else samples[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(path, samples, f'step {int(state.step)}')

  return paint


def texts(setup: setup_lib.Setup, samples: np.ndarray) -> list[str]:
  """The strings of tokens [num, T]; none where the data are no text."""
  vocabulary = setup.data.vocabulary
  return [''.join(vocabulary[t] for t in one) for one in samples] if vocabulary else []


def _picture(setup: setup_lib.Setup) -> tuple[int, Callable] | None:
  """How many samples, and (path, samples, title) -> None, or None at all."""
  data = setup.data
  shape, levels = data.spec.shape, data.spec.num_levels
  if len(shape) == 3:
    classes = data.spec.num_classes or 0
    by_class = setup.given(1) is not None and 1 < classes <= 16
    columns = classes if by_class else 8
    return IMAGES // 8 * columns, functools.partial(_images, levels, columns)
  if shape == (2,):
    real = data.arrays('test', POINTS)['x']

    def points(path, samples, title):
      plots.scatter_panels(path, {data.name: [(title, samples)]}, reference=real)

    return POINTS, points
  if len(shape) == 1 and data.vocabulary:
    return TEXTS, lambda path, samples, _: plots.page(path, texts(setup, samples))
  if len(shape) == 1 and levels:
    return ROLLS, lambda path, samples, _: plots.rolls(path, samples, levels)
  return None


def _images(levels, columns, path, samples, title) -> None:
  scaled = 2 * samples / (levels - 1) - 1 if levels else samples
  plots.image_grid(path, scaled, columns=columns)


def once(make: Callable[[base.Method], Callable]) -> Callable:
  """`make` with a memory, so that what it compiles is compiled once a method."""
  made: dict[int, tuple[base.Method, Callable]] = {}

  def get(method):
    if id(method) not in made:
      made[id(method)] = method, make(method)  # kept, so that its id stays its own
    return made[id(method)][1]

  return get


def _compiled(setup: setup_lib.Setup, fn: Callable) -> Callable[[base.State], Any]:
  """state -> (model, key) -> numpy, for every seed, in keys apart from training's."""
  settings = setup.settings
  many = settings.num_seeds > 1

  def every(model):
    seeds = settings.seed + np.arange(settings.num_seeds)
    keys = jax.vmap(lambda s: jax.random.split(jax.random.key(s), 3)[2])(seeds)
    return jax.vmap(fn)(model, keys) if many else fn(model, keys[0])

  compiled = jax.jit(every)
  return lambda state: parallel.fetch(compiled(step_lib.model(state)))
