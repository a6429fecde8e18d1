"""What configs share, against closed forms: optimizers, schedules, attempts."""

import pathlib
import sys
import types

import chex
import jax
import numpy as np
import pytest

from gm_jax.training import setup

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs import common, gan_ring  # noqa: E402

RATE, B1, B2, EPS, EPS_ROOT = 0.03, 0.4, 0.999, 1e-8, 1e-8
PARAMS = {'large': np.zeros(3), 'small': np.zeros((2, 2))}


def config_of(**changes):
  config = gan_ring.get_config()
  plain = {'b1': B1, 'warmup_steps': 0, 'decay_steps': 0, 'clip': 0.0}
  config.update({**plain, **changes})
  return config


def gradients(num):
  """Of very different sizes over time; those of one leaf are near eps_root."""
  rng = np.random.default_rng(0)
  return [
    {
      'large': 10.0 ** rng.uniform(-1, 1) * rng.normal(size=3),
      'small': 1e-4 * rng.normal(size=(2, 2)),
    }
    for _ in range(num)
  ]


def updates_of(tx, grads):
  state, updates = tx.init(PARAMS), []
  for grad in grads:
    update, state = tx.update(grad, state, PARAMS)
    updates.append(update)
  return updates, state


def adam_by_hand(grads, rate, clip=np.inf):
  """Kingma and Ba's algorithm 1, with eps_root, on clipped gradients."""
  first = {name: 0 * p for name, p in PARAMS.items()}
  second, updates = first, []
  for t, grad in enumerate(grads):
    norm = np.sqrt(sum(np.sum(g**2) for g in grad.values()))  # of all leaves
    grad = {name: g * min(1, clip / norm) for name, g in grad.items()}
    first = {n: B1 * first[n] + (1 - B1) * g for n, g in grad.items()}
    second = {n: B2 * second[n] + (1 - B2) * g**2 for n, g in grad.items()}
    updates.append(
      {
        n: -rate(t)
        * (first[n] / (1 - B1 ** (t + 1)))
        / (np.sqrt(second[n] / (1 - B2 ** (t + 1)) + EPS_ROOT) + EPS)
        for n in PARAMS
      }
    )
  return updates


def cosine(t, start, end):
  fraction = np.clip((t - start) / (end - start), 0, 1)
  return RATE * 0.5 * (1 + np.cos(np.pi * fraction))


@pytest.mark.parametrize(
  ('changes', 'rate'),
  [
    ({}, lambda t: RATE),
    ({'warmup_steps': 5}, lambda t: RATE * min(t / 5, 1)),
    ({'decay_steps': 12}, lambda t: cosine(t, 0, 12)),
    (
      {'warmup_steps': 4, 'decay_steps': 12},
      lambda t: RATE * t / 4 if t < 4 else cosine(t, 4, 12),
    ),
  ],
)
@pytest.mark.parametrize('clip', [0.0, 0.7])
def test_adam_warms_up_decays_and_clips_as_written(changes, rate, clip):
  tx = common.adam(config_of(clip=clip, **changes), RATE)
  grads = gradients(16)
  expected = adam_by_hand(grads, rate, clip or np.inf)
  with jax.enable_x64(True):
    updates, _ = updates_of(tx, grads)
  chex.assert_trees_all_close(updates, expected, rtol=1e-5, atol=1e-9)


def wraps(attempts):
  """The `wrap` that `make_method` is given in each attempt of a run."""
  given = []

  def make_method(config, spec, *, wrap):
    given.append(wrap)
    return gan_ring.make_method(config, spec, wrap=wrap)

  experiment = types.SimpleNamespace(make_method=make_method)
  prepared = setup.prepare(experiment, config_of(batch_size=32))
  given.clear()
  for attempt in attempts:
    prepared.make_phases(attempt)
  return given


def test_every_attempt_halves_the_update_and_keeps_the_state():
  tx = common.adam(config_of(clip=0.7, warmup_steps=2), RATE)
  grads = gradients(5)
  with jax.enable_x64(True):
    plain, plain_state = updates_of(tx, grads)
    halved = [updates_of(wrap(tx), grads) for wrap in wraps(range(3))]
  for attempt, (updates, state) in enumerate(halved):
    expected = jax.tree.map(lambda u, a=attempt: np.divide(u, [1, 2, 4][a]), plain)
    chex.assert_trees_all_close(updates, expected, rtol=1e-6)
    chex.assert_trees_all_close(state, plain_state, rtol=1e-6)  # and structures
  assert np.abs(plain[-1]['large']).max() > 0.001
