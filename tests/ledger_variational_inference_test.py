"""The ledger of variational inference: its models, its encoders, its hook for VAEs."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import latent_priors
from gm_jax.variational_inference import linear_gaussian

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from experiments.ledger import variational_inference as ledger  # noqa: E402


@pytest.mark.parametrize('correlation', ledger.CORRELATIONS)
def test_two_latents_have_their_correlation_given_x(correlation):
  with jax.enable_x64(True):
    scale = linear_gaussian.posterior(
      ledger.correlated(correlation), jnp.zeros((1, 2))
    ).scale
    cov = np.asarray(scale @ scale.T)
  found = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
  np.testing.assert_allclose(found, correlation, atol=1e-9)


def test_draws_have_the_moments_of_the_model():
  model = ledger.linear_model(jax.random.key(0))
  x = jax.jit(ledger.draw, static_argnums=2)(model, jax.random.key(1), 50_000)
  cov = model.weights @ model.weights.T + model.std**2 * np.eye(ledger.DIMS)
  np.testing.assert_allclose(np.cov(x.T), cov, atol=0.06)
  topic = ledger.topic_model(jax.random.key(0), 0.1)
  draw = jax.jit(ledger.documents, static_argnums=2)
  words = np.asarray(draw(topic, jax.random.key(1), 20_000))
  chances = np.bincount(words.ravel(), minlength=ledger.WORDS) / words.size
  np.testing.assert_allclose(chances, topic.emission.mean(0), atol=0.01)
  # Two words of a document are of one topic with chance (1 + alpha) / (1 + 3 alpha).
  same = 1.1 / 1.3
  pairs = same * topic.emission.T @ topic.emission / 3
  other = np.ones((3, 3)) - np.eye(3)
  pairs += (1 - same) * topic.emission.T @ other @ topic.emission / 6
  np.testing.assert_allclose(
    (words[:, 0] == words[:, 1]).mean(), np.trace(pairs), atol=0.02
  )


def test_sweeps_are_counted_until_every_example_is_near():
  elbos = [[-9.0, -5.0], [-2.0, -1.0005], [-1.0005, -1.0], [-1.0, -1.0], [-1.0, -1.0]]
  assert ledger.sweeps_needed(elbos) == 2
  assert ledger.sweeps_needed([[-1.0]] * 3) == 0


def test_an_encoder_of_half_of_x_loses_what_the_other_half_tells(monkeypatch):
  monkeypatch.setattr(ledger, 'ASCENT', 300)
  monkeypatch.setattr(ledger, 'NUM', 200)
  model = ledger.linear_model(jax.random.key(0))
  half = ledger.Encoder('', 'diagonal', seen=ledger.DIMS // 2)
  held, _ = ledger.encoder_gaps(half, model, steps=1000)
  # The best q given half of x: the mean of what it is, its variance of each latent from
  # the ELBO's own optimum, which the other half does not change.
  gain = np.asarray(linear_gaussian.posterior(model, jnp.eye(ledger.DIMS)).mean).T
  cov = model.weights @ model.weights.T + model.std**2 * np.eye(ledger.DIMS)
  seen = ledger.DIMS // 2
  rest = cov[seen:, seen:] - cov[seen:, :seen] @ np.linalg.solve(
    cov[:seen, :seen], cov[:seen, seen:]
  )
  lost = gain[:, seen:] @ rest @ gain[:, seen:].T  # what is unknown of the mean
  precision = np.eye(ledger.LATENTS) + model.weights.T @ model.weights / model.std**2
  expected = np.trace(precision @ lost) / 2
  error = float(held.amortization.std()) / np.sqrt(200)
  assert abs(float(held.amortization.mean()) - expected) < 4 * error
  gap = np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1]
  np.testing.assert_allclose(held.approximation, gap / 2, atol=1e-3)


def test_the_hook_for_a_decoder_gives_the_gaps_in_closed_form():
  model = ledger.linear_model(jax.random.key(0))
  x = ledger.draw(model, jax.random.key(1), 8)
  exact = linear_gaussian.posterior(model, x)
  best = linear_gaussian.mean_field(model, x)
  log_std = jnp.broadcast_to(jnp.log(jnp.diag(best.scale)), best.mean.shape)
  encoded = latent_priors.Gaussian(best.mean + 0.2, log_std + 0.3)

  def log_likelihood(z, x):
    mean = z @ model.weights.T
    return jax.scipy.stats.norm.logpdf(x, mean, model.std).sum(-1)

  log_prob, found = jax.jit(
    lambda: ledger.vae_gaps(
      log_likelihood, encoded, jax.random.key(2), x, num_steps=200, rate=0.05
    )
  )()
  np.testing.assert_allclose(log_prob, linear_gaussian.evidence(model, x), atol=0.1)
  family = linear_gaussian.kl(best, exact)
  encoder = linear_gaussian.Gaussian(
    encoded.mean, jnp.exp(encoded.log_std)[..., None] * jnp.eye(ledger.LATENTS)
  )
  whole = linear_gaussian.kl(encoder, exact)
  np.testing.assert_allclose(found.approximation, family, atol=0.15)
  np.testing.assert_allclose(found.amortization, whole - family, atol=0.15)
  assert float((whole - family).min()) > 0.5


@pytest.mark.slow
def test_all_tables_and_the_picture(tmp_path, capsys, monkeypatch):
  for name, value in {'NUM': 20, 'SWEEPS': 20, 'STEPS': 20, 'ASCENT': 20}.items():
    monkeypatch.setattr(ledger, name, value)
  monkeypatch.setattr(ledger, 'VAE_STEPS', (50,))
  monkeypatch.setattr(ledger, 'VAE_NUM', 4)
  numbers = ledger.run(out=tmp_path)
  names = ['identity', 'correlation', 'topics', 'gaps', 'vae']
  assert list(numbers['tables']) == names
  for row in numbers['tables']['identity'].rows:
    assert float(row[-1]) < 1e-10
  assert len(numbers['gaps']) == len(ledger.ENCODERS)
  assert (tmp_path / 'variational_inference.png').stat().st_size > 1000
  assert 'largest error' in capsys.readouterr().out
