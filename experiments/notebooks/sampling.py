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
# # Sampling: one denoiser, many samplers
#
# A diffusion model is trained once and sampled in many ways. All it has learned is a
# *denoiser* $D(x_t, t) = E[x \mid x_t]$ of noisy data $x_t = \alpha_t x + \sigma_t
# \varepsilon$. How one goes from noise to data is chosen afterwards.
#
# You will see
#
# 1. samplers with a denoiser that is known exactly: their errors, and how fast these
#    fall with the number of steps;
# 2. a model of digits, trained here, by sampler and number of steps;
# 3. guidance: nearer to the class, and less variety;
# 4. in-painting: what is wrong with putting the known pixels in, and what is right.

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
import os
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from gm_jax import conditions, processes, times
from gm_jax.data import dataset, registry
from gm_jax.methods import edm
from gm_jax.models import denoisers as networks
from gm_jax.samplers import diffusion as samplers
from gm_jax.samplers import inpainting, particles
from gm_jax.training import plots
from gm_jax.training import step as step_lib

BUDGET = float(os.environ.get('SAMPLING_BUDGET', '1'))
START = time.perf_counter()
print(jax.devices())

# %% [markdown]
# ## 1. An exact denoiser
#
# Of normal data, $x \sim N(0, s^2)$, the denoiser is $D(x_t, t) = \alpha s^2 x_t /
# (\alpha^2 s^2 + \sigma^2)$. A deterministic sampler is then a linear map of the noise,
# and the deviation of its samples is known without a random number: it ought to be $s$.
#
# Twice the steps halve the error of a method of order one (DDIM, Euler) and quarter
# that of one of order two (Heun, DPM-Solver++), which pays two evaluations a step
# (Heun) or remembers the last one (DPM-Solver++).

# %%
STD = 0.7
process = processes.edm()
grid = times.karras(process)


def exact(x_t, t):
  alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
  return alpha * STD**2 * x_t / (alpha**2 * STD**2 + sigma**2)


METHODS = {
  'DDIM': samplers.ddim,
  'Euler': samplers.euler,
  'Heun': samplers.heun,
  'DPM-Solver++': samplers.dpm_solver,
}
COUNTS = np.array([10, 20, 40, 80])
one = process.sigma(jnp.array(process.last)) * jnp.ones(
  (1, 1)
)  # one deviation of noise
errors = {}
print(
  'error of the deviation   ' + ''.join(f'{n:>9} steps' for n in COUNTS) + '   order'
)
for name, draw in METHODS.items():
  # The number of steps is traced: one program does for all.
  run = jax.jit(functools.partial(draw, exact, process, None, one, grid))
  errors[name] = np.array([abs(float(run(jnp.array(n))[0, 0]) - STD) for n in COUNTS])
  order = np.log2(errors[name][-2] / errors[name][-1])
  print(f'{name:<25}' + ''.join(f'{e:>15.1e}' for e in errors[name]) + f'{order:>8.2f}')
  assert abs(order - (1 if name in ('DDIM', 'Euler') else 2)) < 0.15

figure, axis = plt.subplots(figsize=(4.6, 3.2))
for (name, values), color in zip(errors.items(), plots.COLORS, strict=False):
  axis.loglog(COUNTS, values, 'o-', c=color, label=name)
axis.set(xlabel='steps', ylabel='error of the deviation')
axis.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# DDIM and Euler are one method here: where time is the noise's deviation and $\alpha$
# is 1, both go along the same tangent.
#
# ## 2. Digits
#
# Images of $8 \times 8$ pixels, told their class, which is left out of a tenth of them
# (for guidance, below). The recipe is that of Karras et al., 2022
# ([arXiv:2206.00364](https://arxiv.org/abs/2206.00364)), which wants to know the root
# mean square of the data.

# %%
data = registry.load('digits')
images, labels = (jnp.asarray(data.arrays('train')[name]) for name in ('x', 'label'))
images = dataset.transformed(data.spec, {'x': images})['x']
test = dataset.transformed(data.spec, data.arrays('test'))
data_std = float(jnp.sqrt(jnp.mean(images**2)))
print(f'{len(images)} images, root mean square {data_std:.3f}')

STEPS = max(20, round(3000 * BUDGET))
condition = conditions.optional(conditions.by_class(10), 0.1)
method = edm.edm(
  networks.Flattened(networks.ResidualMLP(256, 3)),
  optax.adam(optax.cosine_decay_schedule(1e-3, STEPS)),
  shape=data.spec.shape,
  data_std=data_std,
  condition=condition,
)


@jax.jit
def train(key):
  def step(state, key):
    index = jax.random.randint(jax.random.fold_in(key, 1), (128,), 0, len(images))
    state, metrics = method.step(
      state, key, {'x': images[index], 'label': labels[index]}
    )
    return state, metrics['loss']

  first = {'x': images[:8], 'label': labels[:8]}
  state = step_lib.init(method, key, first)
  return jax.lax.scan(step, state, jax.random.split(key, STEPS))


state, losses = train(jax.random.key(0))
model = step_lib.model(state)
assert jnp.isfinite(losses).all()
print(f'loss {losses[:10].mean():.3f} at first, {losses[-100:].mean():.3f} at last')

# %% [markdown]
# Rows are samplers, columns numbers of steps, of the same noise and classes. One step
# is the denoiser of noise alone: the mean image of the class.

# %%
CLASSES = jnp.arange(10)
NUMBERS = (1, 5, 10, 20, 50)


def draw_digits(key, num_steps, sampler, condition=CLASSES, guidance=1.0):
  return method.sample(
    model, key, len(condition), condition=condition, num_steps=num_steps,
    sampler=sampler, guidance=guidance,
  )  # fmt: skip


def show(axis, pictures, title=''):
  """Draws images beside each other."""
  padded = np.pad(np.asarray(pictures)[..., 0], ((0, 0), (0, 0), (0, 1)),
                  constant_values=1)  # fmt: skip
  axis.imshow(np.concatenate(list(padded), axis=1), cmap='gray', vmin=-1, vmax=1)
  axis.set(xticks=[], yticks=[], frame_on=False)
  axis.set_title(title, fontsize=7)


NAMES = ('ddim', 'heun', 'dpm_solver', 'ancestral')
figure, panels = plt.subplots(len(NAMES), len(NUMBERS), figsize=(12, 2.4))
for row, sampler in zip(panels, NAMES, strict=True):
  run = jax.jit(functools.partial(draw_digits, sampler=sampler))
  for axis, count in zip(row, NUMBERS, strict=True):
    show(axis, run(jax.random.key(1), jnp.array(count)), f'{sampler}, {count}')
plt.show()

# %% [markdown]
# ## 3. Guidance
#
# Classifier-free guidance (Ho and Salimans, 2022,
# [arXiv:2207.12598](https://arxiv.org/abs/2207.12598)) goes from the denoiser without
# the class to the one with it, and beyond: $D = D_\varnothing + w (D_c -
# D_\varnothing)$. Samples are read by the nearest training image, which is right on
# most test images, and their variety is the mean distance of two samples of a class.


# %%
def nearest(x):
  """Classes of the nearest training images."""
  a, b = (v.reshape(len(v), -1) for v in (x, images))
  square = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
  return labels[square.argmin(axis=1)]


def variety(x):
  """Mean root-mean-square distance of two images of a class."""
  groups = x.reshape(-1, 10, 64).swapaxes(0, 1)
  pairs = jnp.square(groups[:, :, None] - groups[:, None]).mean(axis=-1)
  return float(jnp.sqrt(pairs).mean())


print(
  f'the reader is right on {float((nearest(test["x"]) == test["label"]).mean()):.1%}'
)
WEIGHTS = (0.0, 1.0, 2.0, 4.0)
many = jnp.tile(CLASSES, 40)
found = {}
figure, panels = plt.subplots(len(WEIGHTS), 1, figsize=(6.4, 3.6))
for axis, weight in zip(panels, WEIGHTS, strict=True):
  run = jax.jit(
    functools.partial(
      draw_digits, num_steps=18, sampler='heun', condition=many, guidance=weight
    )
  )
  x = run(jax.random.key(2))
  found[weight] = float((nearest(x) == many).mean()), variety(x)
  print(f'w = {weight}: class {found[weight][0]:.1%}, variety {found[weight][1]:.3f}')
  show(axis, x[:20], f'w = {weight}')
plt.show()
if BUDGET >= 1:
  assert found[0.0][0] < 0.3 < 0.9 < found[1.0][0] <= found[4.0][0] + 0.02
  assert found[1.0][1] > found[2.0][1] > found[4.0][1]

# %% [markdown]
# ## 4. In-painting
#
# Some of an image is known, and the rest is to be drawn given that. *Replacement* puts
# the known part, with as much noise as $x_t$ has, into every step. It is wrong at any
# number of steps, for what is unknown was drawn before. Of two normal numbers of
# correlation 0.9, the first known to be 1, the second is $N(0.9, 0.19)$: the truth is
# known here, and so is the denoiser.
#
# *RePaint* (Lugmayr et al., 2022,
# [arXiv:2201.09865](https://arxiv.org/abs/2201.09865)) goes back and forth until both
# parts agree. A *particle filter* weighs many completions by what is known, and is
# right in the limit of many.

# %%
COV = jnp.array([[1.0, 0.9], [0.9, 1.0]])
PAIR = processes.from_betas(processes.linear_betas(250))


def of_pair(x_t, t):
  alpha, sigma = PAIR.alpha(t[0]), PAIR.sigma(t[0])
  return x_t @ (alpha * COV @ jnp.linalg.inv(alpha**2 * COV + sigma**2 * jnp.eye(2))).T


def covariance(t):
  """Cov[x | x_t], which a denoiser does not tell."""
  alpha, sigma = PAIR.alpha(t), PAIR.sigma(t)
  inverse = jnp.linalg.inv(alpha**2 * COV + sigma**2 * jnp.eye(2))
  return COV - alpha**2 * COV @ inverse @ COV


NUM = 4000
evidence = {
  'known': jnp.ones((NUM, 2)),
  'observed': jnp.broadcast_to(jnp.array([True, False]), (NUM, 2)),
  'covariance': covariance,
}
PAINTERS = {
  'replacement': inpainting.replacement,
  'RePaint': functools.partial(inpainting.repaint, jump=10, resamplings=10),
}
moments = {}
for name, paint in PAINTERS.items():
  noise = samplers.noise(PAIR, jax.random.key(3), (NUM, 2))
  x = jax.jit(
    lambda noise, paint=paint: paint(
      of_pair, PAIR, jax.random.key(4), noise, times.even(PAIR), 250, **evidence
    )
  )(noise)[:, 1]
  moments[name] = float(x.mean()), float(x.var())
noise = samplers.noise(PAIR, jax.random.key(3), (64, NUM // 64, 2))
short = {
  name: value if name == 'covariance' else value[: NUM // 64]
  for name, value in evidence.items()
}
drawn = jax.jit(
  lambda noise: particles.particles(
    of_pair, PAIR, jax.random.key(5), noise, times.even(PAIR), 250, **short
  )
)(noise)
weights, second = jnp.exp(drawn.log_weights), drawn.x[..., 1]
mean = (weights * second).sum(axis=0).mean()
moments['64 particles'] = (
  float(mean),
  float((weights * (second - mean) ** 2).sum(axis=0).mean()),
)
print('                mean   variance')
for name, (mean, variance) in {'truth': (0.9, 0.19), **moments}.items():
  print(f'{name:<14}{mean:>6.3f}{variance:>11.3f}')
assert abs(moments['replacement'][0] - 0.9) > 0.2
assert abs(moments['RePaint'][0] - 0.9) < 0.05

# %% [markdown]
# ### Digits, the lower half hidden
#
# A model's query `impute` does the same of any data: here four test images, the pixels
# that are known, and completions. The particle filter's own covariance is not known
# here; with many steps that matters little.

# %%
x = test['x'][:4]
observed = jnp.broadcast_to(jnp.arange(8)[:, None, None] < 4, x.shape)
impute = method.queries['impute']
figure, panels = plt.subplots(3, 4, figsize=(10, 2.6))
for row, inpainter in zip(panels, ('replacement', 'repaint', 'particles'), strict=True):
  run = jax.jit(
    functools.partial(
      impute, num=8, inpainter=inpainter, num_steps=30, condition=test['label'][:4]
    )
  )
  completions = run(model, jax.random.key(6), x, observed)
  assert jnp.isfinite(completions).all()
  assert (jnp.where(observed, completions, 0.0) == jnp.where(observed, x, 0.0)).all()
  for i, axis in enumerate(row):
    hidden = jnp.where(observed[i], x[i], 1.0)
    show(axis, jnp.stack([x[i], hidden, *completions[:, i]]), inpainter)
plt.show()

# %% [markdown]
# ## What to try
#
# * `sampler='heun'` with churn: `functools.partial(samplers.heun, churn=20.0)`.
# * Guidance in an interval: the options `low` and `high` of `method.sample`.
# * The same on images of 28 pixels: `models.unet.UNet` in place of the perceptron.

# %%
print(f'{time.perf_counter() - START:.0f} s in all')
