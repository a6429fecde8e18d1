"""The unrolled GAN's step in eager PyTorch, as one writes it there.

Inner steps are taken with `create_graph=True` and Adam as a function, since
torch.optim cannot be differentiated. Parameters are flat lists: kernel [in, out],
bias, kernel, ... Real and fake examples go through the discriminator as one
batch, which is the faster way in eager mode.
"""

import numpy as np
import torch
from torch.nn import functional


def device(platform: str) -> torch.device | None:
  """Where PyTorch can run beside JAX on `platform`; None if it cannot."""
  if platform == 'cpu':
    return torch.device('cpu')
  available = platform in ('gpu', 'cuda', 'rocm') and torch.cuda.is_available()
  return torch.device('cuda') if available else None


def synchronize(where: torch.device) -> None:
  """Waits until everything enqueued has been done."""
  if where.type == 'cuda':
    torch.cuda.synchronize()


def full_float32() -> None:
  """Turns TF32 off where PyTorch would use it, in convolutions too."""
  torch.set_float32_matmul_precision('highest')
  torch.backends.cudnn.allow_tf32 = False


def conditions(where: torch.device) -> str:
  """What PyTorch's times depend on."""
  name = torch.cuda.get_device_name() if where.type == 'cuda' else 'cpu'
  tf32 = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
  return (
    f'{torch.__version__}, {name}, {torch.get_num_threads()} threads,'
    f' float32 products {torch.get_float32_matmul_precision()},'
    f' TF32 {"on" if tf32 else "off"}'
  )


def init_adam(params: list[torch.Tensor]) -> tuple:
  """(count, first moments, second moments)."""
  zeros = [torch.zeros_like(p) for p in params]
  return 0, zeros, zeros


def adam(params, grads, state, rates):
  """One step of Adam with eps_root inside the root, as optax.adam takes it."""
  rate, b1, b2, eps, eps_root = rates
  count, mu, nu = state
  count += 1
  mu = [b1 * m + (1 - b1) * g for m, g in zip(mu, grads, strict=True)]
  nu = [b2 * n + (1 - b2) * g * g for n, g in zip(nu, grads, strict=True)]
  # In float32, as optax has it: 1 - b2^t is then off by 6e-5 of itself at t = 1,
  # which shows in the gradient (4e-4 at k = 10) and is no error of either.
  c1, c2 = (float(1 - np.float32(b) ** np.float32(count)) for b in (b1, b2))
  params = [
    p - rate * (m / c1) / (torch.sqrt(n / c2 + eps_root) + eps)
    for p, m, n in zip(params, mu, nu, strict=True)
  ]
  return params, (count, mu, nu)


def mlp(params, x):
  """A perceptron with tanh; params is flat: kernel, bias, kernel, bias, ..."""
  for i in range(0, len(params), 2):
    x = torch.addmm(params[i + 1], torch.tanh(x) if i else x, params[i])
  return x


def d_loss(params, real, fake):
  """-log D(x) - log(1 - D(G(z))), the mean."""
  logits = mlp(params, torch.cat([real, fake]))[:, 0]
  real_logits, fake_logits = logits[: len(real)], logits[len(real) :]
  return (functional.softplus(-real_logits) + functional.softplus(fake_logits)).mean()


def generator_gradient(g, d, d_state, real, z, k, rates):
  """Gradient of -d_loss at the discriminator k steps ahead, in the order of g."""
  g = [p.detach().requires_grad_() for p in g]
  d = [p.detach().requires_grad_() for p in d]
  fake = mlp(g, z)
  for _ in range(k):
    grads = torch.autograd.grad(d_loss(d, real, fake), d, create_graph=True)
    d, d_state = adam(d, grads, d_state, rates)
  return torch.autograd.grad(-d_loss(d, real, fake), g)


def discriminator_step(g, d, d_state, real, z, rates):
  """One ordinary step of the discriminator."""
  with torch.no_grad():
    fake = mlp(g, z)
  d = [p.detach().requires_grad_() for p in d]
  grads = torch.autograd.grad(d_loss(d, real, fake), d)
  with torch.no_grad():
    return adam(d, grads, d_state, rates)


def step(state, real, latent_size, k, rates):
  """One full training step: (g, g_state, d, d_state) after it."""
  g, g_state, d, d_state = state
  draw = dict(size=(len(real), latent_size), device=real.device)
  d, d_state = discriminator_step(g, d, d_state, real, torch.randn(**draw), rates)
  z = torch.randn(**draw)
  grads = generator_gradient(g, d, d_state, real, z, k, rates)
  with torch.no_grad():
    g, g_state = adam(g, grads, g_state, rates)
  return g, g_state, d, d_state


def stepper(g, d, real, latent_size, k, rates, where):
  """A function that takes one step from where the last one ended, and waits."""
  g, d, real = ([torch.tensor(p, device=where) for p in ps] for ps in (g, d, [real]))
  state = [g, init_adam(g), d, init_adam(d)]

  def take():
    state[:] = step(state, real[0], latent_size, k, rates)
    synchronize(where)

  return take


def first_gradient(g, d, real, z, k, rates):
  """The generator's gradient in the first step, both players' noise being z."""
  g, d = ([torch.tensor(p) for p in ps] for ps in (g, d))
  real, z = torch.tensor(real), torch.tensor(z)
  d, d_state = discriminator_step(g, d, init_adam(d), real, z, rates)
  grads = generator_gradient(g, d, d_state, real, z, k, rates)
  return [grad.numpy() for grad in grads]
