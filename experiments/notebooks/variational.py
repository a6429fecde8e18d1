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
# # A variational auto-encoder, its bound, and its losses in a project of your own
#
# You will see
#
# 1. a loss of `gm_jax.losses.variational` by itself, beside a closed form;
# 2. a VAE (Kingma and Welling, 2013, [arXiv:1312.6114](https://arxiv.org/abs/1312.6114))
#    of small digits trained on this machine's device, CPU, GPU or TPU;
# 3. its lower bound of $\log p(x)$ by one draw, by many, and by annealed importance
#    sampling; samples, reconstructions, and a walk along its code.

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

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from gm_jax import amortized, latent_priors, observations
from gm_jax.data import dataset, registry
from gm_jax.losses import variational
from gm_jax.methods import vae
from gm_jax.models import latent, mlp
from gm_jax.training import step as step_lib

STEPS = int(os.environ.get('VARIATIONAL_STEPS', '2000'))
print(jax.devices())

# %% [markdown]
# ## One loss alone
#
# For $z \sim N(0, 1)$ and $x \mid z \sim N(z, 1)$ the evidence $\log p(x)$ and the
# posterior $N(x/2, 1/2)$ are known. Losses are functions of arrays: the bound of any
# $q(z) = N(m, s^2)$ is that of a draw and of the divergence's closed form, and its
# gradient is JAX's.

# %%
X = 1.5
EVIDENCE = -(X**2) / 4 - 0.5 * math.log(4 * math.pi)


def elbo(q, noise):
  mean, log_std = q
  z = mean + jnp.exp(log_std) * noise
  log_likelihood = variational.gaussian_log_prob_each(z, 0.0, X)
  kl = variational.standard_normal_kl(*(jnp.full((len(noise), 1), p) for p in q))
  return variational.elbo(log_likelihood, kl)


@jax.jit
def ascend(q, key):
  noise = jax.random.normal(key, (256,))
  gradient = jax.grad(lambda q: elbo(q, noise).mean())(q)
  return jax.tree.map(lambda p, g: p + 0.05 * g, q, gradient)


q = (jnp.zeros(()), jnp.zeros(()))
for key in jax.random.split(jax.random.key(0), 500):
  q = ascend(q, key)
bound = elbo(q, jax.random.normal(jax.random.key(1), (100_000,))).mean()
print(f'q: mean {q[0]:.3f} (exact {X / 2}), std {jnp.exp(q[1]):.3f} (exact 0.707)')
print(f'ELBO {bound:.4f}, log p(x) {EVIDENCE:.4f}')
assert abs(q[0] - X / 2) < 0.05 and abs(bound - EVIDENCE) < 0.02

# %% [markdown]
# ## The model
#
# An encoder and a decoder, a prior, and an observation model: digits have 17 gray
# levels, whose distribution is a discretized logistic at every pixel.

# %%
data = registry.load('digits?transform=levels')
splits = {
  split: dataset.transformed(data.spec, data.arrays(split))['x']
  for split in ('train', 'validation', 'test')
}
CODES, HIDDEN = 16, 256
observation = observations.logistics(1, data.spec.num_levels, 1)
shape = observation.parameters(data.spec.shape)
dense = functools.partial(mlp.MLP, activation=nn.gelu)
networks = amortized.Networks(
  latent.Encoder(dense((HIDDEN, HIDDEN, 2 * CODES)), data.spec.num_levels),
  latent.Decoder(dense((HIDDEN, HIDDEN, math.prod(shape))), shape),
  latent_priors.normal(CODES),
  observation,
)
method = vae.vae(networks, optax.adam(optax.cosine_decay_schedule(1e-3, STEPS)))
print(method.card)

# %% [markdown]
# ## Training
#
# `method.init` and `method.step` are pure; many steps are one compiled scan. The test
# bound is looked at now and then: small data are overfitted.

# %%
BLOCK = max(1, STEPS // 10)
state = step_lib.init(method, jax.random.key(0), {'x': splits['train'][:64]})
train_step = step_lib.train_step(method)


@jax.jit
def block(state, key, train):
  def batch(key):
    return {'x': train[jax.random.randint(key, (64,), 0, len(train))]}

  keys = jax.random.split(jax.random.fold_in(key, state.step), BLOCK)
  return train_step(state, key, jax.vmap(batch)(keys))


@jax.jit
def nats(model, x):
  return -method.queries['elbo'](model, jax.random.key(2), x).mean()


curve = []
for _ in range(10):
  state, _ = block(state, jax.random.key(1), splits['train'])
  model = step_lib.model(state)
  curve.append([int(state.step), *(float(nats(model, x)) for x in splits.values())])
  print('step {}: train {:.1f}, validation {:.1f}, test {:.1f} nats'.format(*curve[-1]))

figure, axis = plt.subplots(figsize=(5.6, 3.2))
for name, values in zip(splits, np.array(curve).T[1:], strict=True):
  axis.plot(np.array(curve)[:, 0], values, label=name)
axis.set(xlabel='step', ylabel='upper bound of -log p, nats')
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# ## How likely are test images?
#
# Three numbers of the same 50 images: the ELBO of one draw, the bound of 1,000 draws,
# and annealed importance sampling. The first two are lower bounds, the third is one on
# average.

# %%
x = splits['test'][:50]
queries, key = method.queries, jax.random.key(3)
one = jax.jit(queries['elbo'])(model, key, x)
many = jax.jit(functools.partial(queries['iwae'], num_samples=1000))(model, key, x)
ais = functools.partial(queries['log_prob_estimate'], num_steps=100, num_leapfrog=5)
annealed, error = jax.jit(ais)(model, key, x)
print(f'ELBO                 {one.mean():8.2f} nats')
print(f'1,000 draws          {many.mean():8.2f} nats')
print(f'annealed             {annealed.mean():8.2f} nats')
assert one.mean() < many.mean() and abs(annealed.mean() - many.mean()) < 2

# %% [markdown]
# ## Samples, reconstructions, a walk along the code


# %%
def show(title, rows):
  rows = np.asarray(rows)[..., 0]
  picture = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
  plt.figure(figsize=(6, 6 * picture.shape[0] / picture.shape[1] + 0.3))
  plt.imshow(picture, cmap='gray', vmin=0, vmax=16)
  plt.title(title, fontsize=9)
  plt.axis('off')
  plt.show()


samples = method.sample(model, jax.random.key(4), 32)
show('samples', samples.reshape(2, 16, 8, 8, 1))
again = queries['reconstruct'](model, key, x[:16])
show('test images, and what comes back', jnp.stack([x[:16], again]))

codes = queries['encode'](model, key, splits['train'])
widest = jnp.argsort(-codes.std(axis=0))[:4]
walk = jnp.linspace(-2.5, 2.5, 16)
z = jnp.broadcast_to(queries['encode'](model, key, x[:1]), (4, 16, CODES))
z = z.at[jnp.arange(4)[:, None], jnp.arange(16), widest[:, None]].set(walk)
show('four dimensions of a code', queries['decode'](model, key, z.reshape(64, -1))
     .reshape(4, 16, 8, 8, 1))  # fmt: skip
