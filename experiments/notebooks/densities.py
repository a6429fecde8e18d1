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
# # Densities: exact, bound, bits per dimension
#
# A likelihood is a number with a kind. Before two of them are compared one asks: is it
# exact, or a bound? Is it a *density* of real numbers, or a *mass* of discrete data?
# In which unit are the data?
#
# You will see
#
# 1. the change of variables, checked against a Jacobian;
# 2. an exact density of points in the plane, which integrates to one;
# 3. pixels: how noise makes a density of them, why that density bounds the mass of
#    the levels, and how learned noise makes the bound better;
# 4. other models of the same images: an exact mass, lower bounds, and none at all;
# 5. mistakes, with what they cost in bits.

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
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax import flatten_util

from gm_jax import (
  amortized,
  bijectors,
  flow_layers,
  latent_priors,
  monotone,
  observations,
  priors,
)
from gm_jax.data import dataset, registry, toy, transforms
from gm_jax.losses import likelihood, penalties
from gm_jax.methods import autoregressive, dequantized_flow, flow, gan, tables, vae
from gm_jax.metrics import importance
from gm_jax.models import flows, latent, mlp, nade
from gm_jax.samplers import autoregressive as sampler
from gm_jax.tasks import density
from gm_jax.training import plots
from gm_jax.training import step as step_lib

BUDGET = float(os.environ.get('DENSITIES_BUDGET', '1'))
START = time.perf_counter()
print(jax.devices())


def train(name, method, draw, steps, *, rate=1e-3, b1=0.9, spec=None, frozen=None):
  """A model after `steps` steps, each on raw data {'x': draw(key)}.

  `method` is a function of an optimizer. `frozen` are parameters that stay as they are.
  """
  steps, start = max(2, round(BUDGET * steps)), time.perf_counter()
  tx = optax.adam(optax.cosine_decay_schedule(rate, steps), b1=b1)
  frozen = frozen or {}

  def kinds(params):
    return {n: 'fixed' if n in frozen else 'free' for n in params}

  moved = {'free': tx, 'fixed': optax.set_to_zero()}
  method = method(optax.multi_transform(moved, kinds) if frozen else tx)
  init_key, data_key, root_key = jax.random.split(jax.random.key(0), 3)
  batches = {'x': jax.vmap(draw)(jax.random.split(data_key, steps))}
  first = {'x': batches['x'][0]}
  first = dataset.transformed(spec, first) if spec else first
  state = step_lib.init(method, init_key, first)
  state = state._replace(params={**state.params, **frozen}) if frozen else state
  run = jax.jit(step_lib.train_step(method, spec=spec))
  state, metrics = run(state, root_key, batches)
  assert metrics['finite'].all(), 'a step gave a NaN or an infinity'
  print(f'{name}: {steps} steps in {time.perf_counter() - start:.0f} s')
  return method, step_lib.model(state)


# %% [markdown]
# ## 1. The change of variables
#
# An invertible map $z = f(x)$ and a density $p_z$ give
#
# $$\log p_x(x) = \log p_z(f(x)) + \log \left|\det \frac{\partial f}{\partial x}
# \right|.$$
#
# The determinant says how much $f$ spreads a small volume. Of $D$ numbers it costs
# $D^3$ operations in general; a coupling layer has a triangular Jacobian, so that the
# sum of the logarithms of its diagonal is enough. Here it is compared with automatic
# differentiation and `slogdet`, for layers with random parameters.

# %%
layers = bijectors.chain(
  flow_layers.linear([2, 0, 3, 1]),
  flow_layers.coupling(flows.Residual, monotone.rational_quadratic(8, 4.0)),
  bijectors.reverse(),
  flow_layers.coupling(flows.Residual, monotone.affine()),
)
x = jax.random.normal(jax.random.key(0), (64, 4))
params = layers.init(jax.random.key(1), x)
flat, unflatten = flatten_util.ravel_pytree(params)
noise = 0.1 * jax.random.normal(jax.random.key(2), flat.shape)
params = unflatten(flat + noise)

z, log_det = jax.jit(layers.forward)(params, x)
jacobians = jax.vmap(jax.jacfwd(lambda x: layers.forward(params, x[None])[0][0]))(x)
_, expected = jnp.linalg.slogdet(jacobians)
back, log_det_back = jax.jit(layers.inverse)(params, z)

print(f'log-determinants from {log_det.min():.2f} to {log_det.max():.2f}')
print(f'largest difference from slogdet: {jnp.abs(log_det - expected).max():.1e}')
print(f'the way back, of x: {jnp.abs(back - x).max():.1e}')
print(f'sum of the two log-determinants: {jnp.abs(log_det + log_det_back).max():.1e}')
np.testing.assert_allclose(log_det, expected, atol=1e-3)
np.testing.assert_allclose(log_det_back, -log_det, atol=1e-2)
np.testing.assert_allclose(back, x, atol=1e-2)

# %% [markdown]
# ## 2. An exact density
#
# A flow of spline couplings learns two moons, whose own density is known. The mean of
# $\log q(x)$ over test points is at most minus the entropy of the data; the difference
# is $\mathrm{KL}(p \| q)$.

# %%
MOONS = toy.moons()
step = bijectors.chain(
  flow_layers.linear([1, 0]),
  flow_layers.coupling(flows.Residual, monotone.rational_quadratic(8, 4.0)),
)
plane = bijectors.chain(flow_layers.actnorm(), bijectors.repeated(step, 6))


def plane_flow(tx):
  return flow.flow(plane, priors.normal(2), tx, shape=(2,))


def draw_points(key):
  return MOONS.sample(key, 512)


method, model = train('spline flow', plane_flow, draw_points, 1500, rate=2e-3)
print(method.card)

# %% [markdown]
# A density of the plane integrates to one. Of a flow that holds for *any* parameters,
# trained or not: `exact` on the card is a word about the number, not about the fit.

# %%
test = MOONS.sample(jax.random.key(1), 10_000)
log_q = jax.jit(method.log_prob)
nats, truth = log_q(model, None, test), jax.jit(MOONS.log_prob)(test)
kl = truth - nats
error = float(kl.std()) / math.sqrt(len(kl))

SIDE = 250
center, wide = test.mean(axis=0), 6 * test.std(axis=0)
axes = [jnp.linspace(c - w, c + w, SIDE) for c, w in zip(center, wide, strict=True)]
cell = float(jnp.prod(2 * wide / (SIDE - 1)))
grid = jnp.stack(jnp.meshgrid(*axes), axis=-1).reshape(-1, 2)
grid_q, grid_p = log_q(model, None, grid), jax.jit(MOONS.log_prob)(grid)
untrained = step_lib.model(step_lib.init(method, jax.random.key(3), {'x': test[:512]}))
integral = float(jnp.exp(grid_q).sum() * cell)
before = float(jnp.exp(log_q(untrained, None, grid)).sum() * cell)
entropy = -float((jnp.exp(grid_p) * jnp.where(grid_p > -80, grid_p, 0)).sum() * cell)

print(
  f'integral of the density on a grid: {integral:.4f}, before training {before:.4f}'
)
print(f'entropy of the data, on the grid:  {entropy:.4f} nats')
print(f'mean of -log p at test points:     {-truth.mean():.4f} nats')
print(f'mean of -log q at test points:     {-nats.mean():.4f} nats')
print(f'KL(p || q):                        {kl.mean():.4f} +- {error:.4f} nats')
assert abs(integral - 1) < 0.01 and abs(before - 1) < 0.01
assert kl.mean() > -3 * error

figure, panels = plt.subplots(1, 3, figsize=(9.6, 2.9), sharex=True, sharey=True)
panels[0].scatter(*np.asarray(test[:2500]).T, s=2, c=plots.COLORS[0], linewidths=0)
panels[0].set(title='data', xlim=(-1.6, 2.6), ylim=(-1.1, 1.6))
top = float(jnp.exp(grid_p).max())
for axis, (title, values) in zip(
  panels[1:], {'density of the data': grid_p, 'density of the flow': grid_q}.items(),
  strict=True,
):  # fmt: skip
  image = axis.pcolormesh(*axes, jnp.exp(values).reshape(SIDE, SIDE), vmin=0, vmax=top)
  axis.set(title=title)
figure.colorbar(image, ax=panels, label='density')
plt.show()

# %% [markdown]
# ## 3. Pixels
#
# Pixels are integers $k \in \{0, \dots, L - 1\}$, and what a model says of them is a
# mass. A density becomes a model of levels by *dequantization*: $y = 2 (k + u) / L - 1$
# with noise $u \sim U(0, 1)$. The mass that a density $p$ implies is that of the cell,
#
# $$P(k) = \int_0^1 p(y(k, u))\, \frac2L\, du \quad\text{and by Jensen's inequality}
# \quad \log P(k) \ge E_u \left[\log p(y(k, u)) + \log \frac2L\right].$$
#
# The right side is what a flow can compute. It is an exact density of the noisy pixel,
# and a bound for the level. First a single pixel, whose density is normal: there the
# mass is known.
#
# * The mean of $\log w_i$, $w_i = p(y(k, u_i)) \cdot 2 / L$, is below $\log P(k)$.
# * The logarithm of the mean of $w_i$ comes close to $\log P(k)$ with many draws.
# * With noise of density $q(u \mid k)$ the weight is $w / q$. Noise drawn like $p$
#   inside the cell has the same weight everywhere: then the bound is the mass.

# %%
LEVELS, MEAN, STD, DRAWS = 5, -0.1, 0.35, 20_000
spread = transforms.dequantization(LEVELS)
raw = jnp.arange(LEVELS)[:, None]
keys = jax.random.split(jax.random.key(0), DRAWS)


def log_weights(key):
  y = spread.forward(key, raw)
  return jax.scipy.stats.norm.logpdf(y[:, 0], MEAN, STD) + spread.log_det(key, raw)


weights = jax.jit(jax.vmap(log_weights))(keys)
edges = jnp.linspace(-1, 1, LEVELS + 1)
log_mass = jnp.log(jnp.diff(jax.scipy.stats.norm.cdf(edges, MEAN, STD)))
bound, averaged = weights.mean(axis=0), importance.log_mean(weights)[0]

low, high = (edges[:-1] - MEAN) / STD, (edges[1:] - MEAN) / STD
drawn = jax.random.truncated_normal(keys[0], low, high, (DRAWS, LEVELS))
log_ratio = jax.scipy.stats.norm.logpdf(drawn) - jax.scipy.stats.truncnorm.logpdf(
  drawn, low, high
)  # the width of a cell is in both, and cancels
best = log_ratio.mean(axis=0)

print('level   log mass   bound, uniform   log of mean weight   bound, best noise')
for k in range(LEVELS):
  numbers = log_mass[k], bound[k], averaged[k], best[k]
  print('{:5}   {:8.4f}   {:14.4f}   {:18.4f}   {:17.4f}'.format(k, *numbers))
print(f'sum of the masses {jnp.exp(log_mass).sum():.4f}: the rest lies outside [-1, 1]')
assert (bound < log_mass).all()
np.testing.assert_allclose(averaged, log_mass, atol=0.03)
np.testing.assert_allclose(best, log_mass, atol=1e-3)

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9))
line = jnp.linspace(-1, 1, 300)
curve = jax.scipy.stats.norm.pdf(line, MEAN, STD)
left.plot(line, curve, c=plots.COLORS[0], label='density')
left.stairs(
  jnp.exp(log_mass) / (2 / LEVELS), edges, color='#888888', label='mass / width'
)
left.set(xlabel='y', ylabel='density', title='a density, and its cells')
left.legend(frameon=False, fontsize=7, loc='upper right')
for i, (name, values) in enumerate(
  {'log mass': log_mass, 'bound, uniform noise': bound}.items()
):
  right.bar(np.arange(LEVELS) + 0.4 * i - 0.2, values, 0.4, label=name,
            color=plots.COLORS[i])  # fmt: skip
right.set(xlabel='level', ylabel='nats', title='steep cells lose most')
right.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ### A flow of digits
#
# Images of $8 \times 8$ pixels of 17 levels. A flow as Glow (Kingma and Dhariwal, 2018,
# [arXiv:1807.03039](https://arxiv.org/abs/1807.03039)), small and of one scale, is
# trained on noisy pixels, with fresh noise in every step.

# %%
data = registry.load('digits?transform=levels')
noisy = registry.load('digits?transform=dequantization')
arrays = {split: data.arrays(split) for split in ('train', 'test')}
SHAPE, LEVELS, SIZE = data.spec.shape, data.spec.num_levels, math.prod(data.spec.shape)
images = jnp.asarray(arrays['train']['x'])
test = jnp.asarray(arrays['test']['x'])


def draw_images(key):
  return images[jax.random.randint(key, (64,), 0, len(images))]


step = bijectors.chain(
  flow_layers.actnorm(),
  flow_layers.linear([3, 2, 1, 0]),
  flow_layers.coupling(functools.partial(flows.Convolutions, width=32),
                       monotone.affine()),
)  # fmt: skip
pixel_map = bijectors.chain(
  bijectors.logit(),
  bijectors.squeeze(),
  bijectors.repeated(step, 8),
  bijectors.flatten((4, 4, 4)),
  bijectors.elementwise(monotone.affine()),
)


def image_flow(tx):
  return flow.flow(pixel_map, priors.normal(SIZE), tx, shape=SHAPE)


uniform_noise, flow_model = train(
  'flow, uniform noise', image_flow, draw_images, 700, rate=2e-3, spec=noisy.spec
)

# %% [markdown]
# Nats become bits per dimension, $-\log_2 P / D$, the log-determinant of $y$ by $k$
# added: here by hand, and by the function of the package. The task `density` names the
# number by its kind: `bits_per_dim_bound` is at least the bits of the levels' own mass.

# %%
key = jax.random.key(5)
y = noisy.spec.transform.forward(key, test)
log_det = noisy.spec.transform.log_det(key, test)
nats = jax.jit(uniform_noise.log_prob)(flow_model, None, y)
by_hand = -(nats + SIZE * math.log(2 / LEVELS)) / (SIZE * math.log(2))
bits = likelihood.bits_per_dimension(nats, SIZE, measure='density', log_det=log_det)
np.testing.assert_allclose(bits, by_hand, rtol=1e-5)
print(f'log p(y) {nats.mean():.2f} nats, of the noisy pixels')
print(f'log-determinant {log_det[0]:.2f} nats, the same for every image')
print(
  f'{bits.mean():.3f} bits per dimension; uniform levels have {math.log2(LEVELS):.3f}'
)
for name, (value, kind) in density.density(
  uniform_noise, flow_model, key, arrays, noisy.spec, splits=('test',)
).values.items():
  print(f'  {name:<24}{value:8.3f}  {kind}')

# %% [markdown]
# ### Tighter bounds of the same mass
#
# The flow above stays as it is, so that the mass of an image is one fixed number. It is
# bounded in four ways: with uniform noise, and with noise that a second flow draws for
# each image (variational dequantization, Ho et al., 2019,
# [arXiv:1902.00275](https://arxiv.org/abs/1902.00275)); by one draw, and by the
# logarithm of the mean of many weights. All are lower bounds of the log-mass, on
# average over the noise, so that the highest is the tightest.

# %%
noise_step = bijectors.chain(
  bijectors.reverse(),
  flow_layers.coupling(functools.partial(flows.Convolutions, width=32),
                       monotone.affine()),
)  # fmt: skip
noise_map = bijectors.chain(
  bijectors.squeeze(),
  bijectors.repeated(noise_step, 4),
  bijectors.inverted(bijectors.squeeze()),
)


def learned_flow(tx):
  return dequantized_flow.dequantized_flow(
    pixel_map, noise_map, priors.normal(SIZE), tx, shape=SHAPE, num_levels=LEVELS,
    context=lambda x: bijectors.squeeze().forward((), x)[0],
  )  # fmt: skip


learned_noise, learned_model = train(
  'noise alone', learned_flow, draw_images, 400, spec=data.spec, rate=2e-3,
  frozen=flow_model.params,
)  # fmt: skip
same = jax.tree.map(
  jnp.array_equal, learned_model.params['flow'], flow_model.params['flow']
)
assert all(jax.tree.leaves(same)), 'the density was to stay as it is'

# %%
MANY, some = 100, test[:100]


def uniform_weights(key, num):
  def one(key):
    y = noisy.spec.transform.forward(key, some)
    log_p = uniform_noise.log_prob(flow_model, None, y)
    return log_p + noisy.spec.transform.log_det(key, some)

  return jax.vmap(one)(jax.random.split(key, num))


bounds = {}
for num in (1, MANY):
  key = jax.random.key(7)
  uniform = jax.jit(
    lambda key, n=num: importance.importance_bound(uniform_weights, key, n)[0]
  )
  learned = jax.jit(functools.partial(learned_noise.queries['iwae'], num_samples=num))
  bounds['uniform', num] = uniform(key)
  bounds['learned', num] = learned(learned_model, key, some)
for (name, num), nats in bounds.items():
  bits = likelihood.bits_per_dimension(nats, SIZE, measure='mass')
  draws = f'{num} draw' + 's' * (num > 1)
  print(f'{name} noise, {draws:<10} {nats.mean():8.2f} nats {bits.mean():7.3f} bits')
gains = {
  'more draws of uniform noise': bounds['uniform', MANY] - bounds['uniform', 1],
  'learned noise, one draw': bounds['learned', 1] - bounds['uniform', 1],
  'learned noise, more draws': bounds['learned', MANY] - bounds['uniform', 1],
}
for name, gain in gains.items():
  error = float(gain.std()) / math.sqrt(len(gain))
  print(f'gain of {name}: {gain.mean():.2f} +- {error:.2f} nats')
assert bounds['uniform', 1].mean() < bounds['uniform', MANY].mean()
assert bounds['learned', 1].mean() < bounds['learned', MANY].mean()

# %% [markdown]
# The noise that the second flow draws, at pixels of the lowest, of middle and of the
# highest level. Uniform noise would be flat.

# %%
noise = jax.random.logistic(jax.random.key(8), (len(test), *SHAPE))
context = bijectors.squeeze().forward((), 2.0 * test / (LEVELS - 1) - 1)[0]
u = jax.nn.sigmoid(
  jax.jit(noise_map.inverse)(learned_model.params['dequantizer'], noise, context)[0]
)
groups = {'0': test == 0, '4 to 12': (test >= 4) & (test <= 12), '16': test == 16}
figure, axis = plt.subplots(figsize=(5.2, 2.9))
for (name, chosen), color in zip(groups.items(), plots.COLORS, strict=False):
  counts, edges = np.histogram(
    np.asarray(u)[np.asarray(chosen)], 20, (0, 1), density=True
  )
  axis.stairs(counts, edges, color=color, label=f'level {name}')
axis.axhline(1, c='#888888', lw=1, ls=':')
axis.set(xlabel='noise u', ylabel='density', ylim=(0, None))
axis.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 4. Exact, bound, none
#
# The same images by other models: pixels independent of each other, by counting; NADE
# (Larochelle and Murray, 2011), every pixel given those before it; a variational
# auto-encoder; a GAN. Their cards say what kind of number they have.

# %%
independent = tables.independent(SHAPE, LEVELS, smoothing=0.1)
state = independent.init(jax.random.key(0), {'x': images})
state, _ = independent.step(state, jax.random.key(0), {'x': images})  # counts them all
counted = step_lib.model(state)


def make_nade(tx):
  return autoregressive.autoregressive(
    nade.NADE(SIZE, 128, LEVELS, LEVELS),
    tx,
    shape=SHAPE,
    likelihood=likelihood.categorical,
    draw=sampler.categorical,
  )


def make_vae(tx):
  dense, codes = functools.partial(mlp.MLP, activation=nn.gelu), 16
  observation = observations.logistics(1, LEVELS, 1)
  shape = observation.parameters(SHAPE)
  networks = amortized.Networks(
    latent.Encoder(dense((256, 256, 2 * codes)), LEVELS),
    latent.Decoder(dense((256, 256, math.prod(shape))), shape),
    latent_priors.normal(codes),
    observation,
  )
  return vae.vae(networks, tx)


def make_gan(tx):
  generator = latent.Decoder(mlp.MLP((256, 256, SIZE)), SHAPE)
  return gan.gan(
    generator,
    mlp.MLP((256, 256, 1)),
    tx,
    tx,
    prior=priors.normal(64),
    penalty=lambda critic, key, real, fake: penalties.r1(critic, real) / 2,
  )


scaled = registry.load('digits?transform=scaling')  # the levels as numbers in [-1, 1]
trained = {
  'independent pixels': (independent, counted, data.spec),
  'NADE': (
    *train('NADE', make_nade, draw_images, 2000, rate=3e-3, spec=data.spec),
    data.spec,
  ),
  'VAE': (*train('VAE', make_vae, draw_images, 2000, spec=data.spec), data.spec),
  'flow': (uniform_noise, flow_model, noisy.spec),
  'flow, learned noise': (learned_noise, learned_model, data.spec),
  'GAN': (
    *train('GAN', make_gan, draw_images, 3000, b1=0.5, spec=scaled.spec),
    scaled.spec,
  ),
}

# %%
found = {}
for name, (method, model, spec) in trained.items():
  for num_samples in (None, MANY) if 'iwae' in method.queries else (None,):
    key, title = (
      jax.random.key(9),
      f'{name}, {num_samples} draws' if num_samples else name,
    )
    try:
      result = density.density(
        method, model, key, arrays, spec, splits=('test',), num_samples=num_samples
      )
    except ValueError as error:
      print(f'{title:<34}   --            {error}')
      continue
    number = next(n for n in result.values if n.startswith('nll') and 'error' not in n)
    value, kind = result.values[number]
    error = result.values[number + '_error'][0]
    found[title] = float(value), float(error), number
    print(f'{title:<34}{value:7.2f} +- {error:.2f}  {number:<10} {kind}')
assert trained['GAN'][0].log_prob is None and 'GAN' not in found

# %% [markdown]
# What may be concluded? Two exact numbers compare. An upper bound of $-\log P$ that is
# *below* an exact number decides: the model with the bound is better by at least the
# difference, on these images and up to the standard errors. A bound *above* decides
# nothing, for one does not see how loose it is; nor do two bounds. And masses compare
# with masses alone, of the same images in the same levels. The GAN has samples and no
# number: likelihood and the quality of samples are two things.

# %%
exact = {name: n for name, n in found.items() if n[2] == 'nll'}
for name, (value, error, number) in found.items():
  for other, (against, its_error, _) in exact.items():
    if name == other:
      continue
    clear = abs(value - against) > 3 * math.hypot(error, its_error)
    if clear and value < against:
      verdict = 'better' + ', at least by that' * (number != 'nll')
    elif clear and number == 'nll':
      verdict = 'worse'
    else:
      verdict = 'undecided'
    print(f'{name:<34} - {other:<20} {value - against:7.2f} nats: {verdict}')


# %%
rows = {'data': test[:14]}
for name, (method, model, spec) in trained.items():
  if name != 'flow, learned noise':  # the same density as `flow`
    samples = jax.jit(method.sample, static_argnums=2)(model, jax.random.key(10), 14)
    rows[name] = spec.transform.inverse(samples)
figure, panels = plt.subplots(len(rows), 1, figsize=(7.2, 4.2))
for axis, (name, values) in zip(panels, rows.items(), strict=True):
  padded = np.pad(np.asarray(values)[..., 0], ((0, 0), (0, 0), (0, 1)),
                  constant_values=LEVELS - 1)  # fmt: skip
  picture = np.concatenate(list(padded), axis=1)
  axis.imshow(picture, cmap='gray', vmin=0, vmax=LEVELS - 1)
  axis.set(xticks=[], yticks=[], frame_on=False)
  axis.set_ylabel(name, rotation=0, ha='right', va='center', fontsize=8)
plt.show()

# %% [markdown]
# ## 5. Mistakes
#
# ### A density on a lattice
#
# Without noise a density of pixels can be as high as one likes: a narrow peak on every
# level is enough. The number says nothing about the mass. With noise it is a bound
# again, and the peaks pay.

# %%
points = test.reshape(-1, 1)[:5000].astype(jnp.float32)
noise = jax.random.uniform(jax.random.key(11), points.shape)
centers = np.arange(LEVELS)[:, None] + 0.5
rises = []
print('deviation   density on levels   bound, with noise   mass (all in bits)')
for std in (0.5, 0.1, 0.02, 0.004):
  peaks = toy.gaussian_mixture(centers, std)
  edges = jnp.stack([points, points + 1])  # [2, N, 1] against [L] centers
  cdf = jax.scipy.stats.norm.cdf(edges, centers[:, 0], std).mean(axis=-1)
  numbers = (
    peaks.log_prob(points + 0.5),
    peaks.log_prob(points + noise),
    jnp.log(cdf[1] - cdf[0]),
  )
  on, spread_out, mass = (-float(n.mean()) / math.log(2) for n in numbers)
  rises.append(on)
  print(f'{std:9}   {on:17.2f}   {spread_out:17.2f}   {mass:4.2f}')
  assert spread_out > mass - 0.02 > 0
assert rises == sorted(rises, reverse=True) and rises[-1] < 0

try:
  density.density(uniform_noise, flow_model, key, arrays, data.spec)
except ValueError as error:
  print(f'refused: {error}')

# %% [markdown]
# Negative bits per dimension are a sign of this mistake, or of the next: no mass has
# them.
#
# ### The log-determinant of preprocessing
#
# In another unit a density is another number,
# $\log p_{cx}(cx) = \log p_x(x) - D \log c$. Pixels of 256 levels divided by 256 seem
# 8 bits per dimension cheaper than they are.

# %%
noise_of_256 = transforms.dequantization(256)  # to [-1, 1]: 2 / 256
raw = jax.random.randint(jax.random.key(12), (100, *SHAPE), 0, 256)
key = jax.random.key(13)
nats = jnp.full(len(raw), -SIZE * math.log(2))  # the uniform density of [-1, 1]
for unit, factor in {'[-1, 1]': 1.0, '[0, 1]': 0.5, '[0, 256]': 128.0}.items():
  in_unit = nats - SIZE * math.log(factor)
  without = likelihood.bits_per_dimension(in_unit, SIZE, measure='density')
  full = likelihood.bits_per_dimension(
    in_unit, SIZE, measure='density',
    log_det=noise_of_256.log_det(key, raw) + SIZE * math.log(factor),
  )  # fmt: skip
  print(f'uniform, in {unit:<9} {without[0] + 0:6.2f} bits without, {full[0]:.2f} with')
  np.testing.assert_allclose(full, 8, rtol=1e-5)

# %% [markdown]
# The same with Gaussians that are fitted to digits, in three units: without the
# log-determinant the best unit wins, with it they are one model. The logit is not a
# unit: it is another model, whose log-determinant depends on the image. Noise and
# levels are the same; all four numbers with the log-determinant are bounds of masses.

# %%
width = {'in [0, 17]': 1.0, 'in [0, 1]': 1 / LEVELS, 'in [-1, 1]': 2 / LEVELS}
train_key, test_key = jax.random.split(jax.random.key(14))
spread = transforms.dequantization(LEVELS)
to_logit = transforms.logit(LEVELS)


def in_levels(key, raw):
  return (spread.forward(key, raw) + 1) * (LEVELS / 2)


def fitted(x, y):
  """log N(y; mean, std of x) of every pixel by itself, [B] nats."""
  mean, std = x.mean(axis=0), x.std(axis=0) + 0.05 * x.std()
  return bijectors.total(jax.scipy.stats.norm.logpdf(y, mean, std))


cases = {
  name: (lambda key, raw, c=c: c * in_levels(key, raw), SIZE * math.log(c))
  for name, c in width.items()
}
cases['logit'] = to_logit.forward, to_logit.log_det(test_key, test)
scores = {}
for name, (forward, log_det) in cases.items():
  nats = fitted(forward(train_key, images), forward(test_key, test))
  bits = functools.partial(likelihood.bits_per_dimension, nats, SIZE, measure='density')
  scores[name] = float(bits(log_det=log_det).mean())
  print(f'{name:<11} {bits().mean():6.3f} bits without, {scores[name]:.3f} with')
for name in width:
  np.testing.assert_allclose(scores[name], scores['in [0, 17]'], atol=1e-3)

# %% [markdown]
# ### The logit's log-determinant
#
# It is another number for every image: a constant would be wrong. Beside it stands the
# derivative by `jvp`, which for a map of each pixel by itself is its diagonal.

# %%
values = test[:200].astype(jnp.float32)
log_det = to_logit.log_det(key, values)
slope = jax.jvp(
  functools.partial(to_logit.forward, key), (values,), (jnp.ones_like(values),)
)[1]
print(f'log-determinant from {log_det.min():.1f} to {log_det.max():.1f} nats an image,')
spread_bits = log_det.std() / (SIZE * math.log(2))
print(f'a standard deviation of {spread_bits:.3f} bits per dimension')
np.testing.assert_allclose(log_det, bijectors.total(jnp.log(slope)), rtol=1e-4)
assert log_det.std() > 1

# %% [markdown]
# ## What to compare
#
# * A mass with a mass, a density with a density of the same data in the same unit.
# * Exact with exact. A bound on the good side of an exact number decides, on the other
#   side it does not. More draws make a bound tighter and cost as much more.
# * Bits per dimension only with the log-determinant of everything before the model.
#
# ## What to try
#
# * Train both flows together, as the paper does: `frozen=None` in section 3, and no
#   assertion below it.
# * Other toys and maps: `toy.checkerboard()`, `monotone.affine()`.
# * `pixelcnn.PixelCNN` in place of NADE, as exact.

# %%
print(f'{time.perf_counter() - START:.0f} s in all')
