"""Many devices: the only file that knows meshes and axis names.

The reference path is jit with shardings: the state is replicated, the examples
of a batch are split over the mesh's `data` axis, and the compiler sees the
global batch, so the result is that of one device. `pmapped` is an adapter for
those who want one program a device: there gradients are averaged by
`mean_over_devices`, which a config puts around every optimizer, and batch-
coupled losses see the local batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gm_jax import base

DATA = 'data'
_LOCAL_STATE = ('buffer', 'pool')  # what would differ from device to device


def data_mesh(devices: list | None = None) -> Mesh:
  """A mesh of the given devices (all of them by default) along the data axis."""
  devices = jax.devices() if devices is None else devices
  return Mesh(np.asarray(devices), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of what every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """The sharding of arrays whose `axis` is divided over the devices."""
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA))


def put(tree: base.PyTree, sharding: NamedSharding) -> base.PyTree:
  """Places a tree on the devices; arrays already on a device are copied.

  Copied, because a placed array may alias its source, and donating it would
  delete the caller's original. Numpy arrays go to their devices at once.

  Raises:
    ValueError: an axis is not divisible by the number of devices.
  """
  axis = len(sharding.spec) - 1
  num = sharding.mesh.size if axis >= 0 else 1
  for x in jax.tree.leaves(tree):
    if axis >= 0 and np.shape(x)[axis] % num:
      raise ValueError(
        f'a batch of {np.shape(x)[axis]} examples cannot be split over {num}'
        f' devices; make the batch size a multiple of {num}'
      )
  own = jax.tree.map(lambda x: jnp.copy(x) if isinstance(x, jax.Array) else x, tree)
  return jax.device_put(own, sharding)


def jitted(steps: Callable, mesh: Mesh) -> Callable:
  """jit of (state, key, batches) -> (state, metrics); the state is donated.

  Args:
    steps: from `training.step`.
    mesh: where the state stays replicated.

  Returns:
    The compiled function; its batches should be placed by `put` and `split`.
  """
  return jax.jit(steps, donate_argnums=0, out_shardings=replicated(mesh))


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
    ValueError: when called, `state.extra` holds a buffer or pool, which would
      differ between devices.
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
  """What one device does in `pmapped`: also runs under a vmap of that axis name."""

  def step(state, key, batch):
    _refuse_local_state(state)
    key = jax.random.fold_in(key, jax.lax.axis_index(DATA))
    state, metrics = method.step(state, key, batch)
    return state._replace(extra=_mean(state.extra)), _mean(dict(metrics))

  return step


def _refuse_local_state(state):
  found = [name for name in _LOCAL_STATE if name in state.extra]
  if found:
    raise ValueError(
      f'pmap would keep a different {found[0]!r} on every device; use the jit path'
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
