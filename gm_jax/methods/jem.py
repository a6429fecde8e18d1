"""JEM: a classifier is an energy, and is trained as both.

  p(x, y) = exp(f_y(x)) / Z,   E(x) = -ln sum_y exp f_y(x),   p(y | x) = softmax(f(x))_y

  log p(x, y) = log p(y | x) + log p(x)

The first term is learned by cross entropy, the second by chains contrasted with data,
as an energy-based model is. Examples without a label teach the second alone. The loss
is the cross entropy, a mean over labelled examples, and

  v (mean of E(x) - E(x') + w (E(x)^2 + E(x')^2)),  x' held fixed, where chains got.

JEM's step of 1 and noise of 0.01 are chains of temperature T = 5e-5, which climb: its
exp(-E) is then no density of x, while p(y | x) has no temperature. See `gm_jax.chains`.

Source: Your Classifier is Secretly an Energy Based Model and You Should Treat it Like
One, Grathwohl et al., 2020, arXiv:1912.03263.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, contrasts, gradient
from gm_jax import chains as chains_lib
from gm_jax.losses import energy as losses

CLASSIFIER = 'classifier'


def jem(
  network: nn.Module,
  chains: chains_lib.Chains,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  num_classes: int,
  energy_weight: float = 1.0,
  weight: float = 0.0,
  input_noise: float = 0.0,
  gap_limit: float | None = None,
) -> base.Method:
  """A classifier of `label` [B] in [-1, C), -1 for not labelled, and an energy.

  Args:
    network: f, (x `[B, *shape]`, train) -> `[B, C]`, differentiable in x; data and
      negatives are one batch of it.
    chains: which draw the negatives, of E(x).
    tx: the optimizer.
    shape: of an example.
    num_classes: C.
    energy_weight: v of the energies' part; 0 is a classifier, its chains still run.
    weight: w of the squared energies; the paper has none.
    input_noise: standard deviation of noise added to data.
    gap_limit: of |E(x) - E(x')|, means of a batch, beyond which the metric
      `diverged_energy_gap` is 1; None for no such metric.

  Returns:
    The method. Queries: `energy`, E(x), or -f_y(x) with labels as the `condition`;
    `classify`, log p(y | x); `sample_info`. Samples are chains of the buffer that go
    on; of a class, those chosen by p(y | x), which then follow -f_y. Options
    `num_steps`, `step_size`, and `rate` at which they begin at noise.

  Raises:
    ValueError: chains that make no sense, a negative weight or noise, or a limit <= 0;
      when called, data of another shape, a network that does not return [B, C], or a
      batch above the buffer.
  """
  shape, chains = tuple(shape), chains_lib.checked(chains)
  contrasts.check_objective(weight, input_noise, gap_limit)
  if not energy_weight >= 0:
    raise ValueError(f'energy_weight must be >= 0, got {energy_weight}')

  init, apply = contrasts.network(
    network, CLASSIFIER, chains, shape=shape, num_outputs=num_classes
  )

  def evaluated(model, x, condition=None):
    f = apply(*model, x)[0]
    if condition is None:
      return losses.marginal_energy(f)
    return losses.joint_energy(f, condition)

  def loss_fn(params, extra, key, batch):
    x, label = batch['x'], jnp.asarray(batch['label'], jnp.int32)
    model = base.Model(jax.lax.stop_gradient(params), extra)
    chains_key, noise_key, key = jax.random.split(key, 3)

    # 1. Chains, with the network as in evaluation; no gradient passes through them.
    negatives, extra, acceptance = contrasts.negatives(
      chains, lambda x: evaluated(model, x), chains_key, x, extra
    )

    # 2. log p(x): energies down at the data, up where chains got.
    x = x + input_noise * jax.random.normal(noise_key, x.shape, x.dtype)
    both = jnp.concatenate([x, negatives])
    f, extra = apply(params, extra, both, key=key, train=True)
    energies = jnp.split(losses.marginal_energy(f), 2)
    loss, metrics = contrasts.contrast(*energies, weight=weight, gap_limit=gap_limit)

    # 3. log p(y | x), of what is labelled.
    known, logs = label >= 0, jax.nn.log_softmax(f[: len(x)])
    own = jnp.take_along_axis(logs, jnp.maximum(label, 0)[:, None], axis=1)[:, 0]
    num = jnp.maximum(1, known.sum())
    entropy = -jnp.where(known, own, 0.0).sum() / num
    right = known & (logs.argmax(axis=1) == label)
    metrics |= {'cross_entropy': entropy, 'labelled_accuracy': right.sum() / num}
    metrics['acceptance'] = acceptance.mean()
    return entropy + energy_weight * loss, (extra, metrics)

  def energy(model, key, x, *, condition=None):
    del key
    return evaluated(model, x, condition)

  def classify(model, key, x, *, condition=None):
    del key, condition
    return jax.nn.log_softmax(apply(*model, x)[0])

  def choose(model, key, held, num, condition):
    if condition is None:
      return contrasts.any_of(model, key, held, num, condition)
    label = jnp.asarray(condition, jnp.int32)
    return jax.random.categorical(key, classify(model, None, held).T[label])

  sample, sample_info = contrasts.sampler(chains, evaluated, shape=shape, choose=choose)
  return gradient.from_loss(
    loss_fn, tx, init, sample=sample,
    card=contrasts.card(chains)._replace(condition=('label',)),
    queries={'energy': energy, 'classify': classify, 'sample_info': sample_info},
  )  # fmt: skip
