"""Many devices and processes: the only file that knows meshes and axis names.

The reference path is jit with shardings over a mesh of two axes. The examples
of a batch are split over `data`; large parameters, and the optimizer's states of
their shape, over `model`; all else is replicated. The compiler sees the global
batch, so the result is that of one device. Instead of the examples the seeds
of a run of many may be split over `data`.

`pmapped` is an adapter for those who want one program a device: there gradients
are averaged by `mean_over_devices`, which a config puts around every optimizer,
and batch-coupled losses see the local batch.
"""

import re
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gm_jax import base

DATA, MODEL = 'data', 'model'
LARGE = 2**14  # elements from which an array is worth splitting over `model`


class Layout(NamedTuple):
  """How a run lies on its devices.

  mesh: of the axes `data` and `model`.
  seeds: whether state and batches have an axis of seeds, first in the state and
    second, after that of steps, in a dispatch's batches.
  split_seeds: whether `data` divides the seeds and not the examples.
  """

  mesh: Mesh
  seeds: bool = False
  split_seeds: bool = False


# In the errors of a collective, or of starting up, that another process has left.
_LEFT = re.compile('gloo|nccl|coordination|heartbeat|peer|deadline_exceeded', re.I)


def initialize(
  coordinator: str | None = None,
  num: int | None = None,
  index: int | None = None,
  *,
  timeout: int = 300,
) -> None:
  """Joins the processes of one run; to be called before jax does anything.

  Args:
    coordinator: address of process 0 as host:port; None where the cluster says
      (TPU pods, Slurm, Open MPI).
    num: of processes.
    index: of this process.
    timeout: seconds to wait for the others; jax then ends the process.

  Raises:
    ValueError: the processes cannot join, or jax was used before.
  """
  if coordinator is not None and not re.fullmatch(r'.+:\d+', coordinator):
    raise ValueError(f'the coordinator must be given as host:port, got {coordinator!r}')
  try:
    jax.distributed.initialize(coordinator, num, index, initialization_timeout=timeout)
  except (ValueError, RuntimeError) as error:
    raise ValueError(
      f'cannot join the processes of this run: {str(error).splitlines()[0]}; give'
      ' coordinator, number and index of the processes, or start under a cluster'
    ) from error


def others_gone(error: Exception) -> bool:
  """Whether an error is the work of another process of this run, which is gone."""
  return (
    jax.distributed.is_initialized()
    and isinstance(error, RuntimeError)  # jax's own is one
    and _LEFT.search(str(error)) is not None
  )


def device_mesh(devices: list | None = None, *, model: int = 1) -> Mesh:
  """A mesh of devices, `model` of them together holding one copy of the state.

  Args:
    devices: all of every process by default, in the order of the processes.
    model: size of the `model` axis; the rest is the `data` axis.

  Raises:
    ValueError: `model` does not divide the number of devices.
  """
  if devices is None:
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
  if model < 1 or len(devices) % model:
    raise ValueError(
      f'{len(devices)} devices cannot be grouped by {model}; model_devices must'
      f' divide {len(devices)}'
    )
  grid = np.asarray(devices).reshape(-1, model)
  return Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of what every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """The sharding of arrays whose `axis` is divided over the `data` axis."""
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA))


def state_shardings(layout: Layout, state: base.State) -> base.State:
  """Where a state lies: a rule on shapes alone.

  An array of at least `LARGE` elements is split over `model` along its longest
  axis that `model` divides (the last of equals); all else is replicated. An
  optimizer's moments have their parameter's shape, and so lie beside it.

  Args:
    layout: of the run; an axis of seeds is never split over `model`.
    state: arrays or `jax.ShapeDtypeStruct`s.

  Returns:
    A state of shardings.
  """
  size = layout.mesh.shape[MODEL]

  def sharding(x, seeds):
    names = [DATA if layout.split_seeds else None] * seeds
    names += [None] * (len(x.shape) - seeds)
    free = range(int(seeds), len(x.shape))
    fit = [axis for axis in free if x.shape[axis] % size == 0]
    if size > 1 and fit and np.prod([x.shape[a] for a in free]) >= LARGE:
      names[max(fit, key=lambda axis: (x.shape[axis], axis))] = MODEL
    return NamedSharding(layout.mesh, PartitionSpec(*names))

  shardings = jax.tree.map(lambda x: sharding(x, layout.seeds), tuple(state[1:]))
  return base.State._make((replicated(layout.mesh), *shardings))


def batch_sharding(layout: Layout, leading: int = 0) -> NamedSharding:
  """The sharding of batches [*leading, (S,) B, ...]."""
  examples = layout.seeds and not layout.split_seeds
  return split(layout.mesh, leading + examples)


def shard(layout: Layout) -> tuple[int, int]:
  """(index, count): this process reads the index-th of `count` parts of a batch.

  Processes that hold the same rows of the mesh read the same part.
  """
  if layout.split_seeds:
    return 0, 1
  here = [
    row
    for (row, _), device in np.ndenumerate(layout.mesh.devices)
    if device.process_index == jax.process_index()
  ]
  rows = len(set(here))
  return min(here) // rows, layout.mesh.shape[DATA] // rows


def check_divides(layout: Layout, num_examples: int, num_seeds: int) -> None:
  """Raises ValueError where the devices cannot share a step's work equally."""
  size = layout.mesh.shape[DATA]
  if layout.split_seeds and num_seeds % size:
    raise ValueError(
      f'{num_seeds} seeds cannot be shared equally by {size} devices; change seeds'
    )
  if not layout.split_seeds and num_examples % size:
    raise ValueError(
      f'a step draws {num_examples} examples, which {size} devices cannot share'
      f' equally; make batch_size a multiple of {size}'
    )


def put(tree: base.PyTree, shardings: Any) -> base.PyTree:
  """Places a tree on the devices; arrays already on a device are copied.

  Copied, because a placed array may alias its source, and donating it would
  delete the caller's original. Numpy arrays go to their devices at once; in a
  run of several processes each must hold them whole.

  Args:
    tree: of arrays.
    shardings: one for all, or a tree of them.

  Raises:
    ValueError: an axis is not divisible by the number of devices.
  """
  if isinstance(shardings, NamedSharding):
    shardings = jax.tree.map(lambda _: shardings, tree)
  return jax.tree.map(_put, tree, shardings)


def _put(x, sharding):
  for axis, name in enumerate(sharding.spec):
    size = sharding.mesh.shape[name] if name else 1
    if np.shape(x)[axis] % size:
      raise ValueError(
        f'a batch of {np.shape(x)[axis]} examples cannot be split over {size}'
        f' devices; make the batch size a multiple of {size}'
      )
  if not sharding.is_fully_addressable:
    x = fetch(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
  return jax.device_put(jnp.copy(x) if isinstance(x, jax.Array) else x, sharding)


def put_batch(layout: Layout, batch: base.Batch, leading: int = 0) -> base.Batch:
  """Places batches [*leading, (S,) B, ...] of which this process has its `shard`."""
  sharding = batch_sharding(layout, leading)
  if sharding.is_fully_addressable or layout.split_seeds:
    return put(batch, sharding)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
  )


def fetch(tree: base.PyTree) -> base.PyTree:
  """The whole of every array in numpy, in every process."""

  def whole(x):
    if isinstance(x, jax.Array) and not (
      x.is_fully_addressable or x.is_fully_replicated
    ):
      from jax.experimental import multihost_utils

      return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)

  return jax.tree.map(whole, tree)


def same_everywhere(text: str) -> bool:
  """Whether every process has the same text; all must ask at the same time."""
  if jax.process_count() == 1:
    return True
  from jax.experimental import multihost_utils

  checksums = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
  return bool((checksums == checksums[0]).all())


def any_process(flag: bool) -> bool:
  """Whether the flag is set in any process; all must ask at the same time."""
  if jax.process_count() == 1:
    return flag
  from jax.experimental import multihost_utils

  return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def jitted(steps: Callable, layout: Layout, state: base.State) -> Callable:
  """jit of (state, keys, batches) -> (state, metrics); the state is donated.

  Args:
    steps: from `training.step`.
    layout: where state and batches lie.
    state: arrays or `jax.ShapeDtypeStruct`s of the state's shapes.

  Returns:
    The compiled function; its arguments are placed by `put` and `put_batch`.
  """
  shardings = state_shardings(layout, state), replicated(layout.mesh)
  return jax.jit(steps, donate_argnums=0, out_shardings=shardings)


def mean_over_devices(tx: optax.GradientTransformation) -> optax.GradientTransformation:
  """`tx` on gradients averaged over devices inside `pmapped`; else `tx` itself.

  This is the `wrap` that a config's `make_method` passes every optimizer
  through.
  """

  def update(grads, state, params=None, **kwargs):
    return optax.with_extra_args_support(tx).update(
      _mean(grads), state, params, **kwargs
    )

  return optax.GradientTransformation(tx.init, update)


def pmapped(method: base.Method, devices: list | None = None) -> Callable:
  """One program a device: an adapter of `Method.step` by pmap.

  Args:
    method: made with `wrap=mean_over_devices`.
    devices: all local ones by default.

  Returns:
    (state, key, batch) -> (state, metrics), with a leading axis of devices on
    state, batch and metrics; the key is folded with the device's index.

  Raises:
    ValueError: when called, `state.extra` holds pools or buffers, under
      `base.LOCAL`, which would differ between devices.
  """
  step = jax.pmap(
    per_device(method),
    axis_name=DATA,
    in_axes=(0, None, 0),
    devices=devices,
  )

  def call(state, key, batch):
    _refuse_local_state(state)
    return step(state, key, batch)

  return call


def per_device(method: base.Method) -> Callable:
  """The work of one device in `pmapped`: also runs under a vmap of that axis name."""

  def step(state, key, batch):
    _refuse_local_state(state)
    key = jax.random.fold_in(key, jax.lax.axis_index(DATA))
    state, metrics = method.step(state, key, batch)
    return state._replace(extra=_mean(state.extra)), _mean(dict(metrics))

  return step


def _refuse_local_state(state):
  if state.extra.get(base.LOCAL):
    raise ValueError(
      f'pmap would keep a different {min(state.extra[base.LOCAL])!r} on every device;'
      ' use the jit path'
    )


def _mean(tree):
  def mean(x):
    if not jnp.issubdtype(jnp.result_type(x), jnp.inexact):
      return x
    try:
      return jax.lax.pmean(x, DATA)
    except NameError:  # no such axis: one device, nothing to average
      return x

  return jax.tree.map(mean, tree)
