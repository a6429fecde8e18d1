"""The U-Net of diffusion models beside that of diffusers, of the same size.

A training step of flow matching and Adam, alone and in a loop of steps as the launcher
runs them, and images by DDIM. Levels, blocks, channels and heads are equal; theirs
halve and double by 3x3 convolutions where ours have 4x4 ones, so that ours has an
eighth more parameters, and each side has its own weights.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import goals, timing
from gm_jax import denoisers, diffusion, processes, times
from gm_jax.models import unet

try:
  import diffusers
  import torch
except ImportError:
  diffusers = torch = None

SIDE, BATCH, FEATURES, BLOCKS, HEADS = 28, 64, 32, 2, 4
IMAGES, STEPS, LOOP = 16, 20, 4
RATE = 1e-3
COLUMNS = timing.COLUMNS
LEAST = round(1 / 1.8, 3)  # times faster: it may take 1.8 times as long
GOALS = {
  'a training step, as launched: times faster than diffusers': 'in a loop',
  'images by DDIM: times faster than diffusers': 'DDIM',
}


class Sides(NamedTuple):
  """What is timed, and the number of parameters."""

  step: Callable
  loop: Callable | None  # `LOOP` steps
  sample: Callable
  num_parameters: int


def images(scale: int) -> np.ndarray:
  shape = BATCH // scale, SIDE, SIDE, 1
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def ours(scale: int) -> Sides:
  """Functions without arguments."""
  network = unet.UNet(
    FEATURES // scale, (1, 2, 2), BLOCKS, attention=(2,), num_heads=HEADS
  )
  line, steps = processes.rectified(), processes.from_betas(processes.linear_betas())
  batch = {'x': jnp.asarray(images(scale))}

  def parts(process, form):
    shape = batch['x'].shape[1:]
    return diffusion.Denoising(network, process, form, shape, times.even(process))

  method = diffusion.method(
    parts(line, denoisers.FLOW), optax.adam(RATE), times.uniform(line)
  )
  sample, _ = diffusion.sampling(parts(steps, denoisers.NOISE))
  state = jax.jit(method.init)(jax.random.key(0), batch)
  model, key = diffusion.base.Model(state.params, {}), jax.random.key(1)
  step = jax.jit(method.step)

  @jax.jit
  def loop(state, batch):
    keys = jax.random.split(key, LOOP)
    return jax.lax.scan(lambda s, key: method.step(s, key, batch), state, keys)

  num = IMAGES // scale
  draw = jax.jit(lambda m, n: sample(m, key, num, num_steps=n, sampler='ddim'))
  return Sides(
    lambda: step(state, key, batch),
    lambda: loop(state, batch),
    lambda: draw(model, jnp.array(STEPS)),
    sum(leaf.size for leaf in jax.tree.leaves(state.params)),
  )


def theirs(scale: int) -> Sides | None:
  """The same by diffusers; None if it is not installed."""
  if diffusers is None:
    return None
  device = timing.eager.device(jax.default_backend())
  features = FEATURES // scale
  network = diffusers.UNet2DModel(
    sample_size=SIDE, in_channels=1, out_channels=1, layers_per_block=BLOCKS,
    block_out_channels=(features, 2 * features, 2 * features),
    down_block_types=('DownBlock2D', 'DownBlock2D', 'AttnDownBlock2D'),
    up_block_types=('AttnUpBlock2D', 'UpBlock2D', 'UpBlock2D'),
    attention_head_dim=2 * features // HEADS,
    norm_num_groups=unet.num_groups(features),
  ).to(device)  # fmt: skip
  optimizer = torch.optim.Adam(network.parameters(), RATE)
  x = torch.tensor(images(scale)).permute(0, 3, 1, 2).contiguous().to(device)
  scheduler = diffusers.DDIMScheduler()  # its betas are the linear ones of 1,000 steps
  wait = torch.cuda.synchronize if device.type == 'cuda' else lambda: None

  def step():
    noise, t = torch.randn_like(x), torch.rand(len(x), device=device)
    t_each = t[:, None, None, None]
    output = network((1 - t_each) * x + t_each * noise, 1000 * t).sample
    loss = torch.mean((output - (noise - x)) ** 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    wait()

  @torch.no_grad()
  def sample():
    scheduler.set_timesteps(STEPS)
    z = torch.randn(IMAGES // scale, 1, SIDE, SIDE, device=device)
    for t in scheduler.timesteps:
      z = scheduler.step(network(z, t).sample, t, z).prev_sample
    wait()
    return z

  return Sides(step, None, sample, sum(p.numel() for p in network.parameters()))


def rows(repeats: int, scale: int) -> list[dict]:
  """Ours and theirs in turn, in milliseconds of a step and of an image."""
  own, peer = ours(scale), theirs(scale)
  name = 'diffusers'
  sizes = f'{own.num_parameters:,} parameters'
  if peer is not None:
    name += f', {peer.num_parameters:,} parameters'
  batch = f'{BATCH // scale} images of {SIDE} x {SIDE}'

  def row(what, mine, other, per=1):
    found = timing.beside(what, name, mine, other, repeats)
    return timing.divided(found, per)

  peer_step, peer_sample = peer and peer.step, peer and peer.sample
  many = peer and (lambda: [peer.step() for _ in range(LOOP)])
  num = IMAGES // scale
  return [
    row(f'step, {sizes}, {batch}', own.step, peer_step),
    row(f'in a loop of {LOOP}, a step', own.loop, many, LOOP),
    row(f'DDIM, {STEPS} steps, {num} images, an image', own.sample, peer_sample, num),
  ]


def verdicts(rows: list[dict]) -> list[dict]:
  """The goals, each with its number and verdict."""
  return goals.faster(rows, GOALS, LEAST)


def run(*, repeats: int, quick: bool = False) -> dict:
  """Measures all, prints, returns numbers and tables; `quick` is a quarter the size."""
  where = timing.prepare()
  timing.compiled(jnp.sin, (jnp.ones(3),))  # the first one loads the compiler
  found = rows(repeats, 4 if quick else 1)
  return timing.finish(found, COLUMNS, verdicts(found), timing.conditions(where), 1e-4)
