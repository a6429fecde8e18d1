"""Autoregressive models: log-likelihoods, steps and samples, beside PyTorch.

NADE's log-likelihood stands beside the faster of PyTorch's forms and beside its floor:
the sigmoids of B D H numbers at the rate that this machine takes them in a compiled
loop over an array in cache, all that cannot be left out. PixelCNN's samples from what
is remembered stand beside those of a full pass a pixel, which are the same samples.
Values of both sides agree, from the same parameters, or the row says so.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import goals, timing
from gm_jax.losses import likelihood
from gm_jax.methods import autoregressive, made
from gm_jax.models import made as made_network
from gm_jax.models import nade, pixelcnn, transformer
from gm_jax.samplers import autoregressive as sampler
from gm_jax.training import step as step_lib

if timing.eager:
  import torch

  from experiments.bench import eager_autoregressive as peers

DIMS, HIDDEN, BATCH = 784, 500, 100
AGREEMENT = 1e-4  # relative difference of values that is let pass
RATE = 1e-3
BERNOULLI = {'likelihood': likelihood.bernoulli, 'draw': sampler.bernoulli}
TOKENS = {'likelihood': likelihood.categorical, 'draw': sampler.categorical}
COLUMNS = {
  'what': 'name',
  'ours ms': 'ours_ms',
  'best ms': 'ours_ms_best',
  'beside it': 'peer',
  'ms': 'peer_ms',
  'best': 'peer_ms_best',
  'times faster': 'times_faster',
  'times the floor': 'times_floor',
  'difference': 'difference',
  'others, cores': 'others_cores',
}


def _bits(levels: int, *shape: int) -> jax.Array:
  return jax.random.randint(jax.random.key(7), shape, 0, levels)


def sigmoid_seconds(num: int) -> float:
  """Seconds that `num` sigmoids and their sum take here, at the best rate seen."""
  size, loops = 2**14, 64

  @jax.jit
  def many(x):
    def once(carry, shift):
      return carry + jax.nn.sigmoid(x + shift), None

    return jax.lax.scan(once, jnp.zeros_like(x), jnp.linspace(0.0, 1.0, loops))[0]

  x = jax.random.normal(jax.random.key(0), (size,))
  best = min(timing.timed(lambda: many(x)) for _ in range(40))
  return best * num / (size * loops)


def nade_rows(where, repeats: int, scale: int = 1) -> list[dict]:
  """Log-likelihood of a batch, and samples."""
  dims, hidden = DIMS // scale, HIDDEN // scale
  method = autoregressive.autoregressive(
    nade.NADE(dims, hidden), optax.adam(RATE), shape=(dims,), **BERNOULLI
  )
  x = _bits(2, BATCH, dims)
  state = jax.jit(method.init)(jax.random.key(0), {'x': x})
  model = step_lib.model(state)
  log_prob = jax.jit(lambda m, x: method.log_prob(m, None, x))
  sample = jax.jit(lambda m, k: method.sample(m, k, BATCH))
  key = jax.random.key(1)
  forms: dict[str, Callable] = {}
  more: dict[str, Any] = {}
  if where is not None:
    params = peers.tensors(model.params, where)
    tensor = torch.tensor(np.asarray(x), dtype=torch.float32, device=where)
    forms = {'loop': peers.nade_loop, 'sums': peers.nade_sums}
    try:
      compiled = torch.compile(peers.nade_sums)
      with torch.no_grad():
        compiled(params, tensor)
      forms['sums, compiled'] = compiled
    except Exception as error:  # no compiler, or one of many other things
      print(f'torch.compile: {type(error).__name__}')
  rows = []
  for name, form in forms.items() or {'none': None}.items():
    theirs = None
    if form is not None:

      def theirs(form=form):
        with torch.no_grad():
          return peers.waiting(lambda: form(params, tensor), where)()

      with torch.no_grad():
        value = form(params, tensor).cpu().numpy()
      more['difference'] = timing.difference([np.asarray(log_prob(model, x))], [value])
    rows.append(
      timing.beside(
        f'NADE {dims}-{hidden}, log p of {BATCH}',
        f'PyTorch, {name}',
        lambda: log_prob(model, x),
        theirs,
        repeats,
        **more,
      )
    )
  with timing.watch(*rows):
    floor = 1e3 * sigmoid_seconds(BATCH * dims * hidden)
  for row in rows:
    row |= {'floor_ms': floor, 'times_floor': row['ours_ms_best'] / floor}
  theirs = None
  if where is not None:

    def theirs():
      with torch.no_grad():
        return peers.waiting(lambda: peers.nade_samples(params, BATCH), where)()

  name = f'NADE {dims}-{hidden}, {BATCH} samples'
  rows.append(
    timing.beside(name, 'PyTorch, loop', lambda: sample(model, key), theirs, repeats)
  )
  return rows


def pixelcnn_row(repeats: int, size: int = 28, num: int = 16) -> dict:
  """Samples from the cache beside samples by full passes."""
  module = pixelcnn.GatedPixelCNN(size, size, 2, features=16, num_layers=4, radius=2)
  x = _bits(2, num, size * size)
  variables = jax.jit(module.init)(jax.random.key(0), x)

  def bound(variables):
    return functools.partial(module.apply, variables)

  @jax.jit
  def cached(variables, key):
    apply = bound(variables)
    return sampler.cached(
      functools.partial(apply, method='conditional'),
      functools.partial(apply, method='update'),
      apply(num, method='start'),
      key,
      size * size,
      draw=sampler.categorical,
    )

  @jax.jit
  def naive(variables, key):
    draw = sampler.categorical
    return sampler.naive(bound(variables), key, size * size, num, draw=draw)

  key = jax.random.key(1)
  same = float((cached(variables, key) == naive(variables, key)).mean())
  return timing.beside(
    f'gated PixelCNN {size}x{size}, {num} samples, cached',
    'ours, a full pass a pixel',
    lambda: cached(variables, key),
    lambda: naive(variables, key),
    repeats,
    difference=1.0 - same,
  )


def _step_row(name: str, method, x, peer, where, repeats: int) -> dict:
  """A training step with Adam; `peer`: (parameters, x) -> log p in PyTorch."""
  batch, key = {'x': x}, jax.random.key(1)
  state = jax.jit(method.init)(jax.random.key(0), batch)
  theirs, more = None, {}
  if where is not None:
    params = peers.tensors(state.params, where)
    whole = torch.tensor(np.asarray(x), device=where)
    step, loss = peers.stepper(peer, params, whole, RATE)
    value = float(jax.jit(method.step)(state, key, batch)[1]['loss'])
    more['difference'] = abs(value - loss()) / abs(value)
    theirs = peers.waiting(step, where)
  program, _ = timing.compiled(method.step, (state, key, batch), donate_argnums=0)

  def ours():
    nonlocal state
    state, metrics = program(state, key, batch)
    return state, metrics

  return timing.beside(name, 'PyTorch', ours, theirs, repeats, **more)


def step_rows(where, repeats: int, scale: int = 1) -> list[dict]:
  """MADE and the transformer."""
  dims, hidden = DIMS // scale, (HIDDEN // scale,) * 2
  masks, orders = made.mask_sets(0, dims, hidden)
  by_made = made.made(
    made_network.MADE(dims, hidden), optax.adam(RATE), shape=(dims,), masks=masks,
    mask_orders=orders, **BERNOULLI,
  )  # fmt: skip
  length, width, layers, heads = 256 // scale, 128, 4, 4
  module = transformer.Transformer(length, 100, width, layers, heads)
  by_attention = autoregressive.autoregressive(
    module, optax.adam(RATE), shape=(length,), **TOKENS
  )
  made_peer = attention_peer = None
  if where is not None:
    fixed = jax.tree.map(lambda m: torch.tensor(np.asarray(m[0]), device=where), masks)
    tables = {'layers': fixed.layers, 'direct': fixed.direct}

    def made_peer(params, x):
      return peers.made(params, tables, x.float())

    def attention_peer(params, x):
      return peers.transformer(params, heads, x.long())

  name = f'transformer, {length} tokens, width {width}, {layers} layers, batch 16: step'
  return [
    _step_row(
      f'MADE {dims}-{hidden[0]}-{hidden[1]}, batch {BATCH}: step',
      by_made,
      _bits(2, BATCH, dims),
      made_peer,
      where,
      repeats,
    ),
    _step_row(
      name, by_attention, _bits(100, 16, length), attention_peer, where, repeats
    ),
  ]


def verdicts(rows: Sequence[dict]) -> list[dict]:
  """The goals, each with its number and verdict; of PyTorch's forms the fastest."""
  of = {
    'NADE log-likelihood: times faster than the best PyTorch form': ('log p', 1.5),
    'NADE samples: times faster than PyTorch': ('NADE 784-500, 100 samples', 1.5),
    'PixelCNN 28x28: times faster cached than by full passes': ('28x28', 10.0),
    "MADE's step: times faster than PyTorch": ('MADE', 1.0),
    "the transformer's step: times faster than PyTorch": ('transformer', 1.0),
  }
  found = []
  for what, (word, bound) in of.items():
    mine = [r for r in rows if word in r['name'] and 'times_faster' in r]
    row = min(mine, key=lambda r: r['times_faster'], default={})
    value = row.get('times_faster')
    # Any unclean form may be the fastest one.
    why = goals.spoiled(mine) or goals.spoiled([row], 'ours', 'peer')
    found.append(goals.judge(what, '>=', bound, value, why))
  return found


def run(*, repeats: int, quick: bool = False) -> dict:
  """Measures all, prints, returns numbers and tables; `quick` is a quarter the size."""
  where, scale = timing.prepare(), 4 if quick else 1
  timing.compiled(jnp.sin, (jnp.ones(3),))  # the first one loads the compiler
  rows = nade_rows(where, repeats, scale)
  rows.append(pixelcnn_row(min(repeats, 5), 28 // (2 if quick else 1)))
  rows += step_rows(where, repeats, scale)
  return timing.finish(
    rows, COLUMNS, verdicts(rows), timing.conditions(where), AGREEMENT
  )
