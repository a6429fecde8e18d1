# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Mode collapse, and a generator that looks ahead
#
# A generator that plays only against the *present* discriminator may put all its
# samples where that discriminator is weakest: it forgets most of the data. The
# unrolled GAN (Metz et al., 2017, [arXiv:1611.02163](https://arxiv.org/abs/1611.02163))
# lets the generator differentiate through $k$ future steps of the discriminator.
#
# You will see
#
# 1. the unrolled gradient on a game small enough for a closed form, checked;
# 2. an ordinary GAN ($k = 0$) and an unrolled one ($k = 5$) trained on a ring of
#    eight Gaussians, several seeds at once, and how many of the eight each finds.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec('gm_jax') is None:
  GM_JAX = 'git+https://github.com/OWNER/gm_jax'  # put the owner's name here
  # JAX may be upgraded: the plugin of this machine's accelerator goes with it.
  EXTRAS = {'jax_cuda12_plugin': 'cuda12', 'jax_cuda13_plugin': 'cuda13'}
  EXTRAS |= {'libtpu': 'tpu'}
  found = [e for plugin, e in EXTRAS.items() if importlib.util.find_spec(plugin)]
  if 'OWNER' in GM_JAX:
    raise ValueError('set GM_JAX to the address of your copy of gm_jax')
  pip = [sys.executable, '-m', 'pip', 'install', '-q']
  subprocess.run([*pip, GM_JAX, *[f'jax[{extra}]' for extra in found]], check=True)

# %%
import functools
import math
import os
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from IPython import display

from gm_jax import base, priors, unroll
from gm_jax.data import toy
from gm_jax.losses import adversarial
from gm_jax.methods import unrolled_gan
from gm_jax.metrics import modes
from gm_jax.models import mlp
from gm_jax.training import parallel, plots
from gm_jax.training import step as step_lib

STEPS = int(os.environ.get('MODE_COLLAPSE_STEPS', '10000'))
SEEDS = int(os.environ.get('MODE_COLLAPSE_SEEDS', '4'))

# Seeds are independent: where there are several devices, each gets its share.
mesh = parallel.device_mesh(jax.devices()[: math.gcd(SEEDS, jax.device_count())])
print(jax.devices())
print(f'{STEPS:,} steps of {SEEDS} seeds on {mesh.size} device(s)')

# %% [markdown]
# ## Looking ahead, in closed form
#
# The discriminator $D$ ascends $f(G, D) = -\tfrac a2 D^2 + b D G$ by $k$ gradient
# steps of rate $\eta$ and the generator $G$ descends $f(G, D_k(G))$. With
# $r = 1 - \eta a$,
#
# $$D_k = r^k D_0 + \tfrac{bG}{a} (1 - r^k), \qquad
# \frac{d f(G, D_k)}{dG} = \underbrace{b D_k}_{\text{partial}}
# + \underbrace{(bG - a D_k)\, \tfrac ba (1 - r^k)}_{\text{how } D
# \text{ reacts}}.$$
#
# The *partial* gradient takes $D_k$ for a constant, as much public code does; the
# *full* one is the paper's. They agree at $k = 0$ and for $k \to \infty$.

# %%
A, B, RATE, G, D0 = 1.3, 0.7, 0.2, 0.9, -0.4
KS = np.arange(21)


def value(g, d):
  return -A / 2 * d**2 + B * d * g


def looking_ahead(unroll_fn, k):
  def f_k(g):
    def ascent(d, _):
      return d + RATE * jax.grad(value, argnums=1)(g, d)

    return value(g, unroll_fn(ascent, jnp.asarray(D0), length=k))

  return jax.grad(f_k)(G)


@functools.partial(jax.jit, static_argnums=0)
def curve(unroll_fn):
  return jnp.stack([looking_ahead(unroll_fn, int(k)) for k in KS])


unroll_fns = {'full': unroll.full, 'partial': unroll.partial}
ours = {name: curve(unroll_fn) for name, unroll_fn in unroll_fns.items()}

power = (1 - RATE * A) ** KS
d_k = power * D0 + B * G / A * (1 - power)
exact = {'partial': B * d_k}
exact['full'] = exact['partial'] + (B * G - A * d_k) * B / A * (1 - power)

error = max(np.abs(ours[name] - exact[name]).max() for name in unroll_fns)
assert error < 1e-5, error
print(f'largest difference from the closed form: {error:.1e} (below 1e-5)')

figure, axis = plt.subplots(figsize=(5.6, 3.4))
for name, color in zip(unroll_fns, plots.COLORS, strict=False):
  axis.plot(KS, ours[name], c=color, label=f'{name}, gm_jax.unroll')
  axis.plot(KS, exact[name], 'o', c=color, ms=4, label=f'{name}, closed form')
axis.axhline(B**2 * G / A, c='#888888', lw=1, ls=':', label='best response')
axis.set(xlabel='steps looked ahead, k', ylabel='gradient of the generator')
axis.set_xticks(KS[::5])
axis.legend(fontsize=8, frameon=False)
plt.show()

# %% [markdown]
# ## The data
#
# Eight Gaussians of standard deviation 0.02, evenly on a circle of radius 2: so
# far apart that it is plain which one a sample belongs to.

# %%
ring = toy.ring(num_modes=8, radius=2.0, std=0.02)
data = ring.sample(jax.random.key(1), 2500)

figure, axis = plt.subplots(figsize=(3.2, 3.2))
axis.scatter(*np.asarray(data).T, s=3, c=plots.COLORS[0], linewidths=0)
axis.set(aspect='equal', title=f'{len(data):,} examples')
plt.show()

# %% [markdown]
# ## Two methods that differ in $k$ alone
#
# Same networks, same optimizers, same minimax game $f$. Adam's `eps_root` keeps
# the derivative of the discriminator's steps finite.
#
# All seeds train at once: `train_step` scans a method's step over stacked batches,
# `over_seeds` maps that over seeds. The data are drawn inside the compiled scan,
# afresh for every step and seed; a seed begins with the same networks and sees the
# same data in both methods.

# %%
BATCH = 128


def make_method(num_unroll, unroll_fn=unroll.full):
  schedule = optax.cosine_decay_schedule(2e-3, STEPS)
  return unrolled_gan.unrolled_gan(
    generator=mlp.MLP((128, 128, 2)),
    discriminator=mlp.MLP((128, 1), input_scale=0.25),
    g_tx=optax.adam(schedule, b1=0.5),
    d_tx=optax.adam(schedule, b1=0.5, eps_root=1e-8),
    prior=priors.normal(256),
    game=adversarial.MINIMAX,
    num_unroll=num_unroll,
    unroll_fn=unroll_fn,
    diagnostics=False,
  )


methods = {'GAN, k = 0': make_method(0), 'unrolled, k = 5': make_method(5)}

# %%
PANELS, NUM_SAMPLES = 5, 2500


def train(method, batch_size=BATCH):
  """Pairs of a step and samples [S, N, 2], through training."""
  whole, split = parallel.replicated(mesh), parallel.split(mesh)
  placed = base.State(whole, *[split] * 4)  # all but `step` has an axis of seeds
  init_key, root_key, data_key, sample_key = [
    parallel.put(jax.random.split(key, SEEDS), split)
    for key in jax.random.split(jax.random.key(0), 4)
  ]
  steps = step_lib.over_seeds(step_lib.train_step(method))

  @functools.partial(jax.vmap, in_axes=0, out_axes=step_lib.OVER_SEEDS)
  def init(key):
    return step_lib.init(method, key, {'x': ring.sample(key, 2)})

  @functools.partial(jax.jit, donate_argnums=0, out_shardings=(placed, None))
  def advance(state, root_key, data_key):
    def one(state, _):
      x = jax.vmap(
        lambda key: ring.sample(jax.random.fold_in(key, state.step), batch_size)
      )(data_key)
      return steps(state, root_key, {'x': x[None]})  # one batch [1, S, B, 2]

    return jax.lax.scan(one, state, length=STEPS // PANELS)

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(step_lib.OVER_SEEDS, 0))
  def draw(state, key):
    return method.sample(step_lib.model(state), key, NUM_SAMPLES)

  state = jax.jit(init, out_shardings=placed)(init_key)
  history = []
  for _ in range(PANELS):
    state, metrics = advance(state, root_key, data_key)
    assert metrics['finite'].all(), 'a step gave a NaN or an infinity'
    history.append((int(state.step), np.asarray(draw(state, sample_key))))
  return history


histories = {}
for name, method in methods.items():
  start = time.perf_counter()
  histories[name] = train(method)
  seconds = time.perf_counter() - start
  print(f'{name}: {seconds:.0f} s with compilation')

# %% [markdown]
# ## What the generators draw
#
# A row a seed, none left out; the data in gray. Samples far off the ring are
# counted in the corner. The table below depends on how one counts: 2,500 samples a
# seed; a sample is of *high quality* within 3 standard deviations of its nearest
# center; a mode is *found* with 20 such samples. Reverse KL compares the shares of
# the modes among high-quality samples with the true 1/8 each: 0 is best,
# $\ln 8 = 2.08$ is a single mode, `inf` says that no sample was of high quality.
# Three standard deviations are 0.06, less than the width of a dot in the picture:
# read the count and the share together. The table's first part is what data score.

# %%
folder = pathlib.Path(tempfile.mkdtemp())
for i, (name, history) in enumerate(histories.items()):
  rows = {
    f'{name}, seed {seed}': [(f'step {n:,}', x[seed]) for n, x in history]
    for seed in range(SEEDS)
  }
  plots.scatter_panels(folder / f'{i}.png', rows, reference=data, limits=(-3.5, 3.5))
  display.display(display.Image(folder / f'{i}.png'))

# %%
score = functools.partial(
  modes.coverage, means=ring.means, std=ring.std, min_hits=20, threshold=3.0
)
scores = {name: jax.vmap(score)(history[-1][1]) for name, history in histories.items()}
scores = {'data': jax.vmap(score)(data[None])} | scores

print('median over seeds (each seed)')
for name, coverage in scores.items():
  print(f'\n{name}')
  for field, form in (('modes', '.0f'), ('high_quality', '.3f'), ('reverse_kl', '.3f')):
    numbers = np.asarray(getattr(coverage, field), float)
    each = '  '.join(format(x, form) for x in numbers)
    print(f'  {field:<12}  {np.median(numbers):6.3f}  ({each})')

# %% [markdown]
# ## What to try
#
# Add to `histories`, then run the two cells above again.
#
# * **The partial gradient**:
#   `histories['partial'] = train(make_method(5, unroll_fn=unroll.partial))`. In this
#   setting full against partial may well be a draw: to meet a discriminator that is
#   ahead helps by itself, and on data this small that may be most of the effect.
# * **More discriminator steps, no looking ahead**: `gan.gan` of `gm_jax.methods`
#   with the same networks, optimizers and prior, `game=adversarial.MINIMAX` and
#   `num_critic=6`, the discriminator's decay over `6 * STEPS` updates, trained by
#   `train(method, batch_size=6 * BATCH)`. It is the fair rival: as many discriminator
#   steps, though all are kept and each has its own data.
# * **The game that practitioners use**: there with `game=adversarial.NON_SATURATING`.
# * **Other $k$**, and other radii and standard deviations in `toy.ring`: mode counts
#   compare only at the same ratio of the two.
#
# Results vary with the seeds, at times more than between methods: a few seeds show
# what can happen, not how often. Raise `SEEDS` before you conclude.
