"""Differentiation through k steps of an inner optimization.

An inner problem is a differentiable update `step(state, x) -> state`, for
instance one optimizer step on a critic with `state = (params, opt_state)`. The
functions of this module run it k times and differ only in what the gradient
of an outer loss, taken at the last state, sees of those steps. With theta the
outer parameters that `step` closes over and s_k the last state,

  d L(theta, s_k(theta)) / d theta = dL/dtheta + dL/ds_k * ds_k/dtheta,

  `full`       both terms, exact, by reverse mode through all k steps;
  `partial`    the first term only: the gradient of s_k is stopped. Many public
               "unrolled GANs" compute this; it is here for comparison;
  `truncated`  both terms, with ds_k/dtheta through the last few steps;
  `implicit`   both terms, with ds/dtheta of the fixed point s = step(s), by
               the implicit function theorem.

All share one signature, `unroll_fn(step, state, xs=None, *, length=None) -> state`;
`xs` are inputs stacked on a leading axis of size k (fresh batches), `length` is
k where there are none. k = 0 returns the state. Each step is rematerialized
inside one scan: compile time does not grow with k, and memory grows by one
inner state a step (and its gradient, where `gradient.gradient_step` takes the
step), not by a step's activations.

Source: Unrolled Generative Adversarial Networks, Metz et al., 2017,
arXiv:1611.02163, section 2.2, and for `implicit`: Optimizing Millions of
Hyperparameters by Implicit Differentiation, Lorraine et al., 2020,
arXiv:1911.02590.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gm_jax import gradient

PyTree = Any
Step = Callable[[PyTree, Any], PyTree]
Unroll = Callable[..., PyTree]


def full(
  step: Step, state: PyTree, xs: PyTree = None, *, length: int | None = None
) -> PyTree:
  """Runs k steps, differentiable through every one of them.

  Args:
    step: (state, x) -> state; may close over outer parameters.
    state: inner state at the start, any pytree.
    xs: inputs of the steps, leaves `[k, ...]`, or None.
    length: k, where `xs` is None.

  Returns:
    The state after k steps, of the same structure.

  Raises:
    ValueError: neither or contradicting `xs` and `length`; negative length.
  """
  length = _length(xs, length)

  def body(state, x):
    return step(state, x), None

  # CSE cannot undo a checkpoint inside a scan, and preventing it would cost barriers.
  keep_gradients = jax.checkpoint_policies.save_only_these_names(gradient.GRADIENT)
  body = jax.checkpoint(body, prevent_cse=False, policy=keep_gradients)
  return jax.lax.scan(body, state, xs, length=length)[0]


def partial(
  step: Step, state: PyTree, xs: PyTree = None, *, length: int | None = None
) -> PyTree:
  """Runs k steps whose last state is a constant to the gradient.

  Arguments and errors are those of `full`.

  Returns:
    The state after k steps, its gradient stopped.
  """
  cut = jax.lax.stop_gradient
  # Cut inside the scan as well, so that no derivative is ever built.
  return full(lambda s, x: cut(step(s, x)), cut(state), xs, length=length)


def truncated(num_last: int) -> Unroll:
  """Returns an unrolling that differentiates through the last `num_last` steps.

  Args:
    num_last: steps to differentiate through; k or more gives `full`, 0 `partial`.

  Returns:
    A function with the signature of `full`.

  Raises:
    ValueError: `num_last` is negative.
  """
  if num_last < 0:
    raise ValueError(f'num_last must be >= 0, got {num_last}')

  def unroll_fn(step, state, xs=None, *, length=None):
    length = _length(xs, length)
    first = max(length - num_last, 0)
    head, tail = (
      jax.tree.map(lambda x: x[:first], xs),
      jax.tree.map(lambda x: x[first:], xs),
    )
    state = partial(step, state, head, length=first)
    return full(step, state, tail, length=length - first)

  return unroll_fn


def implicit(
  *, num_terms: int = 20, solver: Callable[[Callable, PyTree], PyTree] | None = None
) -> Unroll:
  """Returns an unrolling that differentiates as if the steps reached a fixed point.

  At s = step(s, theta): ds/dtheta = (I - dstep/ds)^-1 dstep/dtheta. The inverse
  is the Neumann sum of (dstep/ds)^i, i = 0..num_terms, or `solver`'s. The start
  has no influence on the result, nor on its gradient. With several `xs` the
  fixed point meant is that of the last one.

  Args:
    num_terms: Neumann terms; the error falls as the step's contraction to the
      power num_terms.
    solver: (matvec, b) -> x with matvec(x) = b, for instance
      `lambda a, b: jax.scipy.sparse.linalg.gmres(a, b)[0]`; replaces the sum.

  Returns:
    A function with the signature of `full`, whose state must be all float
    parameters (plain gradient steps, without counters) and whose k is >= 1.

  Raises:
    ValueError: `num_terms` is negative; when called, a leaf of the state is
      not float.
  """
  if num_terms < 0:
    raise ValueError(f'num_terms must be >= 0, got {num_terms}')

  def neumann(matvec, b):
    # x <- b + A x with A = I - matvec, n times from b: sum of A^i b, i = 0..n.
    def add_term(x, _):
      return jax.tree.map(lambda b, x, ax: b + x - ax, b, x, matvec(x)), None

    return jax.lax.scan(add_term, b, None, length=num_terms)[0]

  def unroll_fn(step, state, xs=None, *, length=None):
    length = _length(xs, length)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
      if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
        raise ValueError(
          'unroll.implicit needs a step whose whole state is float parameters,'
          f' such as plain gradient descent; {jax.tree_util.keystr(path)} is'
          f' {jnp.result_type(leaf)}: use unroll.full for stateful optimizers'
        )
    if length == 0:
      return partial(step, state, xs, length=0)
    fixed = partial(step, state, xs, length=length)
    x = jax.tree.map(lambda x: x[-1], xs)
    moved, pullback = jax.vjp(lambda s: step(s, x), fixed)
    # Its residuals depend on theta as well, but no gradient passes through them.
    pullback = jax.lax.stop_gradient(pullback)
    return _implicit_state(solver or neumann, pullback, fixed, moved)

  return unroll_fn


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _implicit_state(solve, pullback, fixed, moved):
  """Returns `fixed`, whose cotangent w is passed to `moved` as (I - dstep/ds)^-T w."""
  del solve, pullback, moved
  return fixed


def _implicit_state_forward(solve, pullback, fixed, moved):
  del solve, moved
  return fixed, pullback


def _implicit_state_backward(solve, pullback, cotangent):
  def matvec(v):
    return jax.tree.map(jnp.subtract, v, pullback(v)[0])

  return None, None, solve(matvec, cotangent)


_implicit_state.defvjp(_implicit_state_forward, _implicit_state_backward)


# Steps of an optimizer's probe: past those at which rectified Adam changes its rule.
NUM_PROBES = 12
# Which gradients make an update's derivative infinite or NaN, and what helps.
PROBES = (
  (
    'zero in one coordinate',
    'give it eps_root > 0, as in optax.adam(learning_rate, eps_root=1e-8)',
  ),
  (
    'zero as a whole',
    'clip by gradient.clip_by_global_norm, whose derivative at 0 is finite; other'
    ' norms of a gradient or update are to be left out',
  ),
  ('nowhere zero', 'take another, as optax.adam(learning_rate, eps_root=1e-8)'),
)


def _probe_gradients(params: PyTree) -> PyTree:
  """Gradients by kind in the order of `PROBES` and by step, `[3, NUM_PROBES, ...]`."""
  steps = np.arange(NUM_PROBES, dtype=np.float32)

  def of_leaf(leaf):
    places = np.arange(1.0, 1.0 + leaf.size, dtype=np.float32).reshape(leaf.shape)
    extended = steps.reshape(-1, *(1,) * leaf.ndim)
    alive = (0.3 + 0.1 * places) * np.cos(1.0 + extended + places)
    one_dead = np.where(places == 1.0, 0.0, alive)
    # Dead at first, when the optimizer's state is new, and again later.
    all_dead = np.where(extended % 5 == 0, 0.0, alive)
    return np.stack([one_dead, all_dead, alive]).astype(np.float32)

  return {name: of_leaf(leaf) for name, leaf in params.items()}


def check_meta_gradient(tx: optax.GradientTransformation) -> None:
  """Raises if tx's updates have no finite derivative, as where a gradient is zero.

  Adam's update divides by sqrt(v); with `eps_root=0` its derivative at v = 0 is
  infinite, and one coordinate with exactly zero gradient makes every meta-gradient
  NaN. A clip by the norm of a gradient that is zero as a whole, as a saturated hinge's
  is, does the same. Probed are several steps, with gradients alive, dead in one
  coordinate and dead as a whole, and a bias that begins at 0.

  Args:
    tx: the inner optimizer. One that fits only trees of particular names cannot
      be probed without its tree and is let through.

  Raises:
    ValueError: naming which gradients, and what would be right.
  """
  params = {'kernel': np.ones((2, 2), np.float32), 'bias': np.zeros(2, np.float32)}
  kinds = _probe_gradients(params)

  @jax.jit  # one program: operation by operation it would take seconds
  def probe():
    weights = jax.tree.map(jnp.asarray, params)

    def last_sum(weights, grads):
      def step(carry, grad):
        weights, opt_state = carry
        updates, opt_state = tx.update(grad, opt_state, weights)
        return (optax.apply_updates(weights, updates), opt_state), updates

      _, updates = jax.lax.scan(step, (weights, tx.init(weights)), grads)
      return sum(jnp.sum(u) for u in jax.tree.leaves(updates))

    def finite(grads):
      slopes = jax.tree.leaves(jax.grad(last_sum, (0, 1))(weights, grads))
      return jnp.stack([jnp.isfinite(s).all() for s in slopes]).all()

    return jax.lax.map(finite, jax.tree.map(jnp.asarray, kinds))

  try:
    compiled = probe.lower().compile()
    with jax.ensure_compile_time_eval():
      finite = np.asarray(compiled())
  except (KeyError, ValueError, TypeError):
    return
  if finite.all():
    return
  # One that fails on all gradients has no use for advice about zeros.
  kind = 2 if not finite[2] else int(np.argmin(finite))
  which, remedy = PROBES[kind]
  raise ValueError(
    'the inner optimizer has no finite derivative at a gradient that is'
    f' {which}, which makes the unrolled gradient NaN; {remedy}'
  )


def _length(xs: PyTree, length: int | None) -> int:
  """The number of steps, from `xs`, `length` or both."""
  sizes = {x.shape[0] for x in jax.tree.leaves(xs)} | (
    set() if length is None else {length}
  )
  if len(sizes) != 1:
    raise ValueError(
      'the number of steps must be the leading axis of xs or the length, and equal'
      f' where there are both; got {sorted(sizes)}'
    )
  (length,) = sizes
  if length < 0:
    raise ValueError(f'the number of steps must be >= 0, got {length}')
  return length
