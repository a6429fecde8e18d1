"""A topic model of short documents, whose evidence is a sum that can be computed.

theta ~ Dir(alpha), and for each of N words z_n | theta ~ Cat(theta) and
x_n | z_n ~ Cat(B[z_n]), with a known table B `[K, V]`: a mixture of Dirichlet and
multinomial. Sums run over all K^N assignments z. In nats.

Source: Latent Dirichlet Allocation, Blei et al., 2003, JMLR 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import special

from gm_jax.losses import divergence, shapes

Array = jax.Array
MAX_ASSIGNMENTS = 1_000_000  # K^N, of a document that is enumerated


class TopicModel(NamedTuple):
  """The model theta ~ Dir(alpha), z_n | theta ~ Cat(theta), x_n | z_n ~ Cat(B[z_n])."""

  concentration: Array  # alpha [K] > 0
  emission: Array  # B [K, V], rows of probabilities


class MeanField(NamedTuple):
  """The mean field q(theta) prod_n q(z_n), of each document."""

  concentration: Array  # gamma [B, K], of a Dirichlet
  responsibility: Array  # phi [B, N, K], q(z_n = k)


def _words(model: TopicModel, x: Array) -> Array:
  """The chances B[k, x_n] of a document's words, [B, N, K]."""
  shapes.check_levels(model.emission.shape[1], x=x)
  if x.ndim != 2:
    raise ValueError(f'x must be [B, N] words, got {list(x.shape)}')
  return model.emission.T[x.astype(jnp.int32)]


def assignments(num_components: int, length: int) -> Array:
  """All K^N ways to give N words one of K components each.

  Args:
    num_components: K.
    length: N.

  Returns:
    `[K^N, N, K]` one-hot.

  Raises:
    ValueError: there are more than a million.
  """
  if num_components**length > MAX_ASSIGNMENTS:
    raise ValueError(
      f'{num_components}^{length} assignments are too many to enumerate; at most'
      f' {MAX_ASSIGNMENTS:,}'
    )
  codes = jnp.indices((num_components,) * length).reshape(length, -1).T
  return jax.nn.one_hot(codes, num_components)


def _log_joint(model: TopicModel, x: Array) -> tuple[Array, Array]:
  """log p(x, z) of every assignment, [B, K^N], and the assignments."""
  words, alpha = _words(model, x), model.concentration
  ways = assignments(len(alpha), x.shape[1])
  counts = ways.sum(axis=1)  # [K^N, K]
  # p(z) is the Dirichlet-multinomial of a sequence: theta is integrated out.
  rising = special.gammaln(alpha + counts) - special.gammaln(alpha)
  total = special.gammaln(alpha.sum()) - special.gammaln(alpha.sum() + x.shape[1])
  chance = (ways * words[:, None]).sum(axis=-1)  # [B, K^N, N], B[z_n, x_n]
  return total + rising.sum(axis=-1) + jnp.log(chance).sum(axis=-1), ways


def evidence(model: TopicModel, x: Array) -> Array:
  """The exact evidence log p(x) of documents, by a sum over all assignments.

  p(x) = sum_z p(z) prod_n B[z_n, x_n],
  p(z) = G(A) / G(A + N) prod_k G(alpha_k + n_k(z)) / G(alpha_k),  A = sum_k alpha_k

  G is the gamma function and n_k(z) counts the words of component k.

  Args:
    model: of K components and V words.
    x: `[B, N]` integer words, K^N at most a million.

  Returns:
    `[B]` nats, -inf where no component has a word.

  Raises:
    ValueError: x is not [B, N] words in [0, V), or has too many assignments.
  """
  return special.logsumexp(_log_joint(model, x)[0], axis=1)


def posterior(model: TopicModel, x: Array) -> Array:
  """The exact posterior of assignments, p(z | x), theta integrated out.

  Given z, theta is Dirichlet with concentration alpha + n(z): so this table is the
  whole posterior.

  Args:
    model: of K components and V words.
    x: `[B, N]` integer words, K^N at most a million.

  Returns:
    `[B, K^N]` probabilities in the order of `assignments`.

  Raises:
    ValueError: x is not [B, N] words in [0, V), or has too many assignments.
  """
  return jax.nn.softmax(_log_joint(model, x)[0], axis=1)


def _expected_log(concentration: Array) -> Array:
  """E ln theta of a Dirichlet, [..., K]."""
  total = concentration.sum(axis=-1, keepdims=True)
  return special.digamma(concentration) - special.digamma(total)


def dirichlet_kl(q: Array, p: Array) -> Array:
  """The KL divergence of Dirichlet distributions.

  ln G(Q) - ln G(P) + sum_k [ln G(p_k) - ln G(q_k) + (q_k - p_k) E_q ln theta_k]

  Args:
    q: `[..., K]` concentrations, of the sum Q.
    p: `[..., K]` concentrations, of the sum P; the two are broadcast.

  Returns:
    `[...]` nats, at least 0 but for rounding.
  """
  q, p = shapes.floats(q=q, p=p)
  each = special.gammaln(p) - special.gammaln(q) + (q - p) * _expected_log(q)
  return special.gammaln(q.sum(-1)) - special.gammaln(p.sum(-1)) + each.sum(axis=-1)


def elbo(model: TopicModel, q: MeanField, x: Array) -> Array:
  """The ELBO of a mean field under the topic model.

  sum_nk phi_nk (E_q ln theta_k + ln B[k, x_n] - ln phi_nk)
    - KL(Dir(gamma) || Dir(alpha))

  Source: Latent Dirichlet Allocation, Blei et al., 2003, JMLR 3, eq. 15.

  Args:
    model: of K components and V words.
    q: of B documents.
    x: `[B, N]` integer words.

  Returns:
    `[B]` nats, at most `evidence`.

  Raises:
    ValueError: x is not [B, N] words in [0, V).
  """
  words, phi = _words(model, x), q.responsibility
  each = _expected_log(q.concentration)[:, None]
  terms = phi * each + special.xlogy(phi, words) + special.entr(phi)
  return terms.sum((1, 2)) - dirichlet_kl(q.concentration, model.concentration)


def kl(model: TopicModel, q: MeanField, x: Array) -> Array:
  """The KL divergence of a mean field from the exact posterior, by enumeration.

  KL(q(z) || p(z | x)) + sum_z q(z) KL(Dir(gamma) || Dir(alpha + n(z)))

  Args:
    model: of K components and V words.
    q: of B documents.
    x: `[B, N]` integer words, K^N at most a million.

  Returns:
    `[B]` nats, at least 0 but for rounding.

  Raises:
    ValueError: x is not [B, N] words in [0, V), or has too many assignments.
  """
  log_joint, ways = _log_joint(model, x)
  chance = (ways * q.responsibility[:, None]).sum(axis=-1).prod(axis=-1)  # [B, K^N]
  of_theta = dirichlet_kl(
    q.concentration[:, None], model.concentration + ways.sum(axis=1)
  )
  of_z = divergence.kl(chance, jax.nn.softmax(log_joint, axis=1))
  return of_z + (chance * of_theta).sum(axis=1)


def ascent(model: TopicModel, x: Array, *, num_sweeps: int) -> tuple[MeanField, Array]:
  """Coordinate ascent of the topic model's mean field.

  phi_nk ~ B[k, x_n] exp(E_q ln theta_k),  gamma = alpha + sum_n phi_n

  from phi = 1 / K. The ELBO has several maxima, and this is one of them.

  Source: Latent Dirichlet Allocation, Blei et al., 2003, JMLR 3, eq. 6 and 7.

  Args:
    model: of K components and V words, each word of x of some component.
    x: `[B, N]` integer words.
    num_sweeps: times that both are updated.

  Returns:
    The last q; the ELBO `[num_sweeps + 1, B]` nats at the start and after each sweep.

  Raises:
    ValueError: x is not [B, N] words in [0, V).
  """
  log_words = jnp.log(_words(model, x))
  alpha = model.concentration

  def sweep(q, _):
    logits = log_words + _expected_log(q.concentration)[:, None]
    phi = jax.nn.softmax(logits, axis=-1)
    q = MeanField(alpha + phi.sum(axis=1), phi)
    return q, elbo(model, q, x)

  phi = jnp.full_like(log_words, 1.0 / len(alpha))
  first = MeanField(alpha + phi.sum(axis=1), phi)
  q, elbos = jax.lax.scan(sweep, first, length=num_sweeps)
  return q, jnp.concatenate([elbo(model, first, x)[None], elbos])
