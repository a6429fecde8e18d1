"""One step of the GAN and of the unrolled GAN in eager PyTorch, and its networks.

Networks are made from ours, with their parameters. Layouts differ: kernels are
[out, in] and [O, I, H, W] there, images [B, C, H, W], and a transposed kernel is
the flipped one; `generator_layout` and `discriminator_layout` turn a tree of
ours (parameters, or their gradient) into PyTorch's list. Adam is the library's,
fused, except in unrolled steps, which it cannot be differentiated through.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from experiments.bench import eager


class Networks(NamedTuple):
  """A generator and a discriminator, with the layouts of their parameters."""

  generator: nn.Module
  discriminator: nn.Module
  generator_layout: Callable[[Any], list]
  discriminator_layout: Callable[[Any], list]
  load_vectors: Callable[[nn.Module, Any], None] | None = None  # of spectral norms


class Scaled(nn.Module):
  """x * scale."""

  def __init__(self, scale: float):
    super().__init__()
    self.scale = scale

  def forward(self, x):
    return self.scale * x


def _dense(layer: Mapping) -> list:
  return [np.asarray(layer['kernel']).T] + _bias(layer)


def _bias(layer: Mapping) -> list:
  return [np.asarray(layer['bias'])] if 'bias' in layer else []


def _norm(params: Mapping, i: int) -> list:
  layer = params.get(f'BatchNorm_{i}')
  return [np.asarray(layer[n]) for n in ('scale', 'bias')] if layer else []


def mlp_layout(params: Mapping) -> list:
  """A perceptron's parameters in PyTorch's order and shapes."""
  return sum((_dense(params[f'Dense_{i}']) for i in range(len(params))), [])


def mlp(sizes: tuple[int, ...], scale: float = 1.0) -> nn.Module:
  """A perceptron with relu, of the sizes given, input first."""
  layers = [Scaled(scale)] if scale != 1 else []
  for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
    layers += [nn.ReLU()] * bool(i) + [nn.Linear(a, b)]
  return nn.Sequential(*layers)


def generator_layout(side: int) -> Callable[[Mapping], list]:
  """As `mlp_layout`, of a DCGAN generator whose first image is `side` wide."""

  def layout(params):
    kernel = np.asarray(params['Dense_0']['kernel'])
    channels = kernel.shape[1] // side**2

    def first(v):  # [..., (H, W, C)] -> [(C, H, W), ...]
      v = np.moveaxis(np.reshape(v, (*v.shape[:-1], side, side, channels)), -1, -3)
      return np.ascontiguousarray(v.reshape(*v.shape[:-3], -1).T)

    dense = {n: np.asarray(v) for n, v in params['Dense_0'].items()}
    arrays = [first(dense[n]) for n in ('kernel', 'bias') if n in dense]
    arrays += _norm(params, 0)
    for i in range(sum(name.startswith('UpConv') for name in params)):
      up = params[f'UpConv_{i}']
      flipped = np.asarray(up['kernel'])[::-1, ::-1].transpose(2, 3, 0, 1)
      arrays += [np.ascontiguousarray(flipped), *_bias(up), *_norm(params, i + 1)]
    return arrays

  return layout


def generator(z: int, side: int, channels: tuple[int, ...], normalize: bool):
  """A DCGAN generator: `channels` of the image after each layer, the last to tanh."""
  layers = [nn.Linear(z, channels[0] * side**2, bias=not normalize)]
  layers += [nn.Unflatten(1, (channels[0], side, side))]
  for n, (i, o) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
    layers += [nn.BatchNorm2d(i)] * normalize + [nn.ReLU()]
    bias = n == len(channels) - 2 or not normalize
    layers.append(nn.ConvTranspose2d(i, o, 4, 2, 1, bias=bias))
  return nn.Sequential(*layers, nn.Tanh())


def discriminator_layout(side: int) -> Callable[[Mapping], list]:
  """As `generator_layout`, of a discriminator whose last image is `side` wide."""

  def layout(params):
    arrays, num = [], sum(name.startswith('Conv') for name in params)
    for i in range(num):
      conv = params[f'Conv_{i}']
      kernel = np.asarray(conv['kernel']).transpose(3, 2, 0, 1)
      arrays += [np.ascontiguousarray(kernel), *_bias(conv)]
      # The first layer has no batch normalization: the second one's is number 0.
      arrays += _norm(params, i - 1)
    kernel = np.asarray(params['Dense_0']['kernel']).reshape(side, side, -1)
    kernel = np.ascontiguousarray(np.moveaxis(kernel, -1, 0)).reshape(1, -1)
    return arrays + [kernel, *_bias(params['Dense_0'])]

  return layout


def discriminator(side: int, channels: tuple[int, ...], normalize: bool):
  """A DCGAN discriminator: `channels` before each layer, `side` after the last."""
  layers = []
  for n, (i, o) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
    norm = normalize and n > 0
    layers.append(nn.Conv2d(i, o, 4, 2, 1, bias=not norm))
    layers += [nn.BatchNorm2d(o)] * norm + [nn.LeakyReLU(0.2)]
  return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side**2, 1))


def images(x: np.ndarray) -> torch.Tensor:
  """[B, H, W, C] -> [B, C, H, W]; other arrays as they are."""
  x = np.asarray(x)
  x = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x
  return torch.tensor(x)


def load(module: nn.Module, arrays: list, where: torch.device) -> nn.Module:
  """The module with these parameters, where it shall run."""
  params = list(module.parameters())
  with torch.no_grad():
    for param, array in zip(params, arrays, strict=True):
      if param.shape != array.shape:
        raise ValueError(f'{tuple(array.shape)} does not fit {tuple(param.shape)}')
      param.copy_(torch.tensor(array))
  return module.to(where)


class Peer(NamedTuple):
  """What is timed: both wait for the device."""

  step: Callable[[], None]
  sample: Callable[[int], None]
  results: Callable[[], dict]  # gradients and losses of the last step, by player


def _has_norm(module: nn.Module) -> bool:
  """Whether two calls are not one call of both inputs."""
  return any(
    isinstance(m, nn.BatchNorm2d) or parametrize.is_parametrized(m)
    for m in module.modules()
  )


def make(
  networks: Networks,
  params: tuple,
  real: np.ndarray,
  latent_size: int,
  rates: tuple,
  where: torch.device,
  *,
  num_unroll: int | None = None,
  half: bool = False,
  z: np.ndarray | None = None,
  collections: Mapping | None = None,
) -> Peer:
  """The peer of one setting.

  Args:
    networks: to run, loaded with `params`.
    params: of our generator and discriminator.
    real: the batch.
    latent_size: of z.
    rates: of Adam: rate, b1, b2, eps, eps_root.
    where: cpu or cuda.
    num_unroll: k of the unrolled minimax GAN; None for the non-saturating GAN.
    half: autocast to bfloat16.
    z: used by both players in place of draws, [B, Z].
    collections: of our discriminator, where it has spectral norms.
  """
  g = load(networks.generator, networks.generator_layout(params[0]), where)
  d = load(networks.discriminator, networks.discriminator_layout(params[1]), where)
  if networks.load_vectors is not None:
    networks.load_vectors(d, collections)
  real = images(real).to(where)
  fixed = None if z is None else torch.tensor(np.asarray(z)).to(where)

  def draw(num):
    return torch.randn(num, latent_size, device=where) if fixed is None else fixed

  def lower():
    dtype = torch.bfloat16
    return torch.autocast(where.type, dtype) if half else contextlib.nullcontext()

  if num_unroll is None:
    take, results = _gan(g, d, real, draw, lower, rates)
  else:
    take, results = _unrolled(g, d, real, draw, lower, rates, num_unroll)

  def step():
    take()
    eager.synchronize(where)

  def sample(num):
    g.eval()
    with torch.no_grad(), lower():
      g(torch.randn(num, latent_size, device=where))
    g.train()
    eager.synchronize(where)

  return Peer(step, sample, results)


def _losses(d: Callable, real, fake, together: bool):
  """-log D(x) - log(1 - D(G(z))), the mean; batch norm sees each kind alone."""
  if together:
    logits = d(torch.cat([real, fake])).float()
    real_logits, fake_logits = logits[: len(real)], logits[len(real) :]
  else:
    real_logits, fake_logits = d(real).float(), d(fake).float()
  return (functional.softplus(-real_logits) + functional.softplus(fake_logits)).mean()


def _gan(g, d, real, draw, lower, rates):
  rate, *betas, eps, _ = rates
  g_params, d_params = list(g.parameters()), list(d.parameters())
  options = dict(lr=rate, betas=tuple(betas), eps=eps, fused=True)
  g_opt, d_opt = (torch.optim.Adam(p, **options) for p in (g_params, d_params))
  together, losses = not _has_norm(d), {}

  def take():
    with torch.no_grad(), lower():
      fake = g(draw(len(real)))
    with lower():
      losses['discriminator'] = loss = _losses(d, real, fake, together)
    d_opt.zero_grad()
    loss.backward()
    d_opt.step()
    with lower():
      logits = d(g(draw(len(real)))).float()
    losses['generator'] = loss = functional.softplus(-logits).mean()
    g_opt.zero_grad()
    loss.backward(inputs=g_params)  # the critic's are not computed
    g_opt.step()

  def results():
    params = {'generator': g_params, 'discriminator': d_params}
    return {n: ([p.grad for p in params[n]], losses[n]) for n in params}

  return take, results


def _unrolled(g, d, real, draw, lower, rates, k):
  together = not _has_norm(d)
  g_params, d_params = ([p.detach() for p in m.parameters()] for m in (g, d))
  state = [g_params, eager.init_adam(g_params), d_params, eager.init_adam(d_params)]
  last = {}

  def call(module, params, x):
    names = [name for name, _ in module.named_parameters()]
    return torch.func.functional_call(module, dict(zip(names, params, strict=True)), x)

  def loss(params, fake):
    return _losses(lambda x: call(d, params, x), real, fake, together)

  def take():
    g_params, g_state, d_params, d_state = state
    g_params, d_params = (
      [p.detach().requires_grad_() for p in params] for params in (g_params, d_params)
    )
    with lower():
      with torch.no_grad():
        fake = call(g, g_params, draw(len(real)))
      d_loss = loss(d_params, fake)
    d_grads = torch.autograd.grad(d_loss, d_params)
    with torch.no_grad():
      d_params, d_state = eager.adam(d_params, d_grads, d_state, rates)
    ahead, ahead_state = [p.detach().requires_grad_() for p in d_params], d_state
    with lower():
      fake = call(g, g_params, draw(len(real)))
      for _ in range(k):
        grads = torch.autograd.grad(loss(ahead, fake), ahead, create_graph=True)
        ahead, ahead_state = eager.adam(ahead, grads, ahead_state, rates)
      g_loss = -loss(ahead, fake)
    g_grads = torch.autograd.grad(g_loss, g_params)
    with torch.no_grad():
      g_params, g_state = eager.adam(g_params, g_grads, g_state, rates)
    state[:] = g_params, g_state, d_params, d_state
    last.update(generator=(g_grads, g_loss), discriminator=(d_grads, d_loss))

  return take, lambda: last
