"""InfoGAN: codes that can be read off samples, so that codes come to mean something.

  min_{G, Q} max_D  V(D, G) - sum_i lambda_i L_i(G, Q),
  L_i = E_{c, x ~ G(z, c)} ln Q(c_i | x) + H(c_i)  <=  I(c_i; G(z, c))

with c = (a class, uniform numbers), Q(c | x) a categorical times Gaussians whose
standard deviations are learned: fixed at 1, L of a number could not exceed -0.226 nats.
Each step moves the discriminator, then Q on the generator's samples, then the generator
against both. Weights of 0 are the control: a plain GAN, with Q fitted post hoc.

Source: InfoGAN: Interpretable Representation Learning by Information Maximizing
Generative Adversarial Nets, Chen et al., 2016, arXiv:1606.03657.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import adversaries, base, conditions, players, priors
from gm_jax.losses import adversarial, mutual_information
from gm_jax.methods import gan
from gm_jax.players import DISCRIMINATOR, GENERATOR

CARD = gan.CARD._replace(latents='discrete', condition=('label',))
POSTERIOR = 'posterior'
LEAST_STD = 0.01  # of Q's Gaussians, of codes in [-1, 1]


class Codes(NamedTuple):
  """The parts of a generator's input, in this order."""

  noise: priors.Prior  # (key, num) -> [num, Z]
  num_classes: int  # K, of the categorical code
  num_continuous: int = 0  # C, of the codes uniform on [-1, 1]


class Inputs(NamedTuple):
  """The generator's inputs, and the codes in them."""

  z: base.Array  # [B, Z + K + C]
  label: base.Array  # [B] int, the categorical code
  continuous: base.Array  # [B, C]
  noise: base.Array  # [B, Z]


class Posterior(NamedTuple):
  """Q(c | x), from a network's outputs [B, K + 2 C]."""

  logits: base.Array  # [B, K]
  mean: base.Array  # [B, C]
  std: base.Array  # [B, C]


def draw(
  codes: Codes, key: base.Array, num: int, label: base.Array | None = None
) -> Inputs:
  """Draws inputs with fresh codes, of the classes `label` [num] or of random ones."""
  z_key, label_key, continuous_key = jax.random.split(key, 3)
  if label is None:
    label = jax.random.randint(label_key, (num,), 0, codes.num_classes)
  shape = (num, codes.num_continuous)
  continuous = jax.random.uniform(continuous_key, shape, minval=-1.0)
  return joined(codes, codes.noise(z_key, num), label, continuous)


def joined(
  codes: Codes, noise: base.Array, label: base.Array, continuous: base.Array
) -> Inputs:
  """Inputs of these noise [B, Z], classes [B] and numbers [B, C]."""
  parts = noise, conditions.one_hot(label, codes.num_classes), continuous
  return Inputs(jnp.concatenate(parts, -1), label, continuous, noise)


def as_posterior(codes: Codes, outputs: base.Array) -> Posterior:
  """Q(c | x) of a network's outputs [B, K + 2 C].

  Raises:
    ValueError: another number of outputs.
  """
  num, continuous = codes.num_classes, codes.num_continuous
  if outputs.shape[1:] != (num + 2 * continuous,):
    raise ValueError(
      f'the posterior must return {num} logits and {continuous} means and standard'
      f' deviations, [B, {num + 2 * continuous}], got {list(outputs.shape)}'
    )
  mean, raw = jnp.split(outputs[:, num:], 2, axis=1)
  return Posterior(outputs[:, :num], mean, jax.nn.softplus(raw) + LEAST_STD)


def information(posterior: Posterior, inputs: Inputs) -> tuple[base.Array, base.Array]:
  """The bounds of the class and of the numbers, [B] nats each."""
  class_bound = mutual_information.categorical(posterior.logits, inputs.label)
  if not inputs.continuous.shape[1]:
    return class_bound, jnp.zeros_like(class_bound)
  return class_bound, mutual_information.uniform(*posterior[1:], inputs.continuous)


def infogan(
  generator: nn.Module,
  discriminator: nn.Module,
  posterior: nn.Module,
  g_tx: optax.GradientTransformation,
  d_tx: optax.GradientTransformation,
  q_tx: optax.GradientTransformation,
  *,
  codes: Codes,
  information_weight: float = 1.0,
  continuous_weight: float = 0.1,
  game: base.Game = adversarial.NON_SATURATING,
  penalty: Callable | None = None,
) -> base.Method:
  """A GAN whose codes can be read off its samples.

  Args:
    generator: [B, Z + K + C] -> x [B, ...].
    discriminator: x [B, ...] -> logits [B] or [B, 1], or [B, P] of P patches.
    posterior: Q, x [B, ...] -> [B, K + 2 C].
    g_tx: the generator's optimizer.
    d_tx: the discriminator's.
    q_tx: Q's.
    codes: what the generator's input is made of.
    information_weight: lambda >= 0, of the class's bound in the generator's loss.
    continuous_weight: that of the numbers' bound, which has no largest value: Q may be
      ever surer of them.
    game: what generator and discriminator minimize.
    penalty: (critic, key, real, fake) -> [B], or None.

  Returns:
    The method; samples take `condition`, classes [num] of the categorical code, whose
    meaning is its own and not a label's; queries `critic`, `cluster` (Q's logits of
    that class), `posterior` (a `Posterior`), `decode` and `prior` (of all inputs, a
    dict of `label`, `continuous` where there are such, and `noise`).

  Raises:
    ValueError: a weight < 0, K < 2 or C < 0.
  """
  weights = information_weight, continuous_weight
  if min(weights) < 0:
    raise ValueError(f'the weights of the information must be >= 0, got {weights}')
  if codes.num_classes < 2 or codes.num_continuous < 0:
    raise ValueError(
      f'codes need num_classes >= 2 and num_continuous >= 0: {codes[1:]}'
    )
  d_step = adversaries.stepper(discriminator, d_tx, game, penalty)

  def prior(key, num):
    return draw(codes, key, num).z

  def init(key, batch):
    pair_key, q_key = jax.random.split(key)
    pair = adversaries.initializer(generator, discriminator, g_tx, d_tx, prior)
    q = players.new_player(posterior, q_tx, q_key, batch['x'][:2])
    return players.put(pair(pair_key, batch), POSTERIOR, q)

  def bounds(params, model_state, key, x, inputs):
    outputs, model_state = players.apply(posterior, params, model_state, x, key=key)
    return information(as_posterior(codes, outputs), inputs), model_state

  def q_loss(params, model_state, key, x, inputs):
    both, model_state = bounds(params, model_state, key, x, inputs)
    return -sum(both).mean(), (model_state, {})

  def step(state, key, batch):
    c_key, fake_key, d_key, q_key, g_c_key, g_key = jax.random.split(key, 6)
    g, d, q = (players.get(state, n) for n in (GENERATOR, DISCRIMINATOR, POSTERIOR))
    real, num = batch['x'], len(batch['x'])
    inputs = draw(codes, c_key, num)
    fake, _ = players.apply(generator, g.params, g.model_state, inputs.z, key=fake_key)

    # 1. The discriminator, and Q on the same samples.
    d, metrics = d_step(d, d_key, real, fake)
    q, _, _ = players.gradient_step(q_loss, q_tx, q, q_key, fake, inputs)

    # 2. The generator against both, on fresh codes.
    def g_loss(params, model_state, key, inputs):
      g_key, d_key, q_key = jax.random.split(key, 3)
      x, model_state = players.apply(
        generator, params, model_state, inputs.z, key=g_key
      )
      loss = adversaries.generator_loss(discriminator, game, d, d_key, real, x)
      (class_bound, number_bound), _ = bounds(q.params, q.model_state, q_key, x, inputs)
      terms = {
        'generator_loss': loss,
        'information_class': class_bound.mean(),
        'information_continuous': number_bound.mean(),
      }
      gain = information_weight * class_bound + continuous_weight * number_bound
      return loss - gain.mean(), (model_state, terms)

    inputs = draw(codes, g_c_key, num)
    g, _, terms = players.gradient_step(g_loss, g_tx, g, g_key, inputs)
    all_players = {GENERATOR: g, DISCRIMINATOR: d, POSTERIOR: q}
    return players.after_step(state, all_players), {**metrics, **terms}

  def draw_inputs(model, key, num, *, condition=None):
    del model
    conditions.check_num(condition, num)
    drawn = draw(codes, key, num, condition)
    numbers = {'continuous': drawn.continuous} if codes.num_continuous else {}
    return {'label': drawn.label, **numbers, 'noise': drawn.noise}

  def decode(model, key, z, *, condition=None):
    del key, condition  # the codes in z stand for it
    numbers = z.get('continuous', jnp.zeros((len(z['label']), 0)))
    inputs = joined(codes, z['noise'], z['label'], numbers)
    return players.apply_trained(generator, GENERATOR, model, inputs.z)

  def sample(model, key, num, *, condition=None):
    return decode(model, None, draw_inputs(model, key, num, condition=condition))

  def infer(model, key, x, *, condition=None):
    del key, condition
    return as_posterior(codes, players.apply_trained(posterior, POSTERIOR, model, x))

  def cluster(model, key, x, *, condition=None):
    return infer(model, key, x, condition=condition).logits

  critic = adversaries.critic_query(discriminator)
  return base.Method(
    card=CARD,
    init=init,
    step=step,
    sample=sample,
    queries={
      'critic': critic,
      'cluster': cluster,
      'posterior': infer,
      'decode': decode,
      'prior': draw_inputs,
    },
  )
