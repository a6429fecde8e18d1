"""Semi-supervised VAE: the class is a code too, which a classifier guesses.

  labelled    L(x, y) = E_{q(z | x, y)} log p(x | y, z) - KL(q(z | x, y) || p(z))
                        + log p(y)
  unlabelled  U(x) = sum_y q(y | x) L(x, y) + H(q(y | x))

  max  sum over labelled of [L(x, y) + alpha log q(y | x)] + sum over others of U(x)

The sum over classes is exact: every example is decoded once for each. Without alpha no
labelled example would teach the classifier. Classes are equally likely a priori.

Source: Semi-supervised Learning with Deep Generative Models, Kingma et al., 2014,
arXiv:1406.5298, eq. 6 to 9 (model M2).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import amortized, base, gradient, players
from gm_jax.losses import variational
from gm_jax.metrics import importance

CLASSIFIER = 'classifier'


def semi_supervised_vae(
  networks: amortized.Networks,
  classifier: nn.Module,
  tx: optax.GradientTransformation,
  *,
  num_classes: int,
  alpha: float,
) -> base.Method:
  """A VAE of data some of which are labelled: `label` [B] in [-1, C), -1 for not.

  Args:
    networks: encoder and decoder with the condition `conditions.by_class(C)`; without
      batch statistics.
    classifier: x [B, ...] -> logits [B, C] of q(y | x).
    tx: the optimizer of all.
    num_classes: C.
    alpha: weight of the classification, >= 0; the paper has a tenth of the number of
      examples over that of labelled ones.

  Returns:
    The method; queries `elbo` and `iwae` (of log p(x), or of log p(x | y) where
    `condition` is given), `classify`, `encode` (of the likeliest class, unless it is
    given), `decode` and `reconstruct`. Samples are of a class drawn, or of those asked
    for.

  Raises:
    ValueError: networks without a condition, or a negative weight.
  """
  if networks.condition is None or alpha < 0:
    raise ValueError(
      'networks must be conditioned on the class and alpha >= 0, got'
      f' {networks.condition} and {alpha}'
    )
  log_p = -math.log(num_classes)  # of every class
  draw, queries = amortized.sampler(networks), amortized.queries(networks)

  def init(key, batch):
    key, c_key = jax.random.split(key)
    params, extra = amortized.init(networks, key, batch)
    c_params, c_state = players.init(classifier, c_key, batch['x'][:2])
    extra = players.with_collections(extra, {CLASSIFIER: c_state})
    return {**params, CLASSIFIER: c_params}, extra

  def classify(model, key, x, *, condition=None):
    del key, condition
    return players.apply_trained(classifier, CLASSIFIER, model, x)

  def of_every_class(fn, num):
    """`fn` of labels [B], all alike, for each class: [C, ...]."""
    labels = jnp.broadcast_to(jnp.arange(num_classes)[:, None], (num_classes, num))
    return jax.vmap(fn)(labels)

  def bound_given(model, key, x, label, train=False):
    """A bound of log p(x | y) by one draw, [B]; all classes have the same noise."""
    value = networks.embed(label)
    drawn = amortized.draws(networks, *model, key, x, value, num=1, train=train)
    terms = drawn.terms(drawn.z)
    kl = amortized.prior_term(drawn, terms)
    return variational.elbo(terms.log_likelihood[0], kl)

  def unlabelled(log_q, bounds):
    """U, [B], of L [C, B] and log q(y | x) [C, B]."""
    return (jnp.exp(log_q) * (bounds - log_q)).sum(axis=0)

  def loss_fn(params, extra, key, batch):
    x, label = batch['x'], jnp.asarray(batch['label'], jnp.int32)
    model = base.Model(params, extra)
    log_q = jax.nn.log_softmax(classify(model, key, x)).T
    bounds = log_p + of_every_class(
      lambda y: bound_given(model, key, x, y, train=True), len(x)
    )
    known, own = label >= 0, (jnp.maximum(label, 0), jnp.arange(len(x)))
    supervised = bounds[own] + alpha * log_q[own]
    objective = jnp.where(known, supervised, unlabelled(log_q, bounds))
    right = known & (log_q.argmax(axis=0) == label)
    metrics = {
      'bound': jnp.where(known, bounds[own], unlabelled(log_q, bounds)).mean(),
      'labelled_accuracy': right.sum() / jnp.maximum(1, known.sum()),
    }
    return -objective.mean(), (extra, metrics)

  def elbo(model, key, x, *, condition=None):
    if condition is not None:
      return bound_given(model, key, x, condition)
    log_q = jax.nn.log_softmax(classify(model, key, x)).T
    bounds = log_p + of_every_class(lambda y: bound_given(model, key, x, y), len(x))
    return unlabelled(log_q, bounds)

  def iwae(model, key, x, *, num_samples, condition=None):
    if condition is not None:
      return queries['iwae'](
        model, key, x, num_samples=num_samples, condition=condition
      )

    def log_weights(key, num):
      def weights_of(label):
        value = networks.embed(label)
        drawn = amortized.draws(networks, *model, key, x, value, num=num, train=False)
        return drawn.terms(drawn.z).log_weights

      # A draw of z for every class at once is one unbiased weight of p(x).
      return log_p + jax.nn.logsumexp(of_every_class(weights_of, len(x)), axis=0)

    return importance.importance_bound(log_weights, key, num_samples)[0]

  def class_of(model, key, x, condition):
    return classify(model, key, x).argmax(axis=1) if condition is None else condition

  def encode(model, key, x, *, condition=None):
    label = class_of(model, key, x, condition)
    return queries['encode'](model, key, x, condition=label)

  def reconstruct(model, key, x, *, condition=None):
    label = class_of(model, key, x, condition)
    return queries['reconstruct'](model, key, x, condition=label)

  def sample(model, key, num, *, condition=None, mean=False):
    if condition is None:
      key, label_key = jax.random.split(key)
      condition = jax.random.randint(label_key, (num,), 0, num_classes)
    return draw(model, key, num, condition=condition, mean=mean)

  found = elbo, iwae, classify, encode, reconstruct
  return gradient.from_loss(
    loss_fn,
    tx,
    init,
    card=amortized.CARD._replace(
      measure=networks.observation.measure, condition=('label',)
    ),
    sample=sample,
    queries={'decode': queries['decode'], **{fn.__name__: fn for fn in found}},
  )
