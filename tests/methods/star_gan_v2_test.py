"""StarGAN v2: a step by the paper's formulas, who moves, its styles and weights."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import domains, priors
from gm_jax.losses import penalties
from gm_jax.methods import star_gan_v2
from gm_jax.training import step as step_lib

B, K, RATE = 4, 3, 0.05
Z = jax.random.normal(jax.random.key(9), (2 * B, 2))
OTHERS = jnp.array([2, 5, 0, 6, 1, 7, 3, 4])  # of the test: whom each has as its second
DOMAIN = jnp.array([0, 0, 1, 1, 2, 2, 2, 0])  # images at even places, references at odd
WEIGHTS = {'style_weight': 0.7, 'diversity_weight': 0.4, 'cycle_weight': 2.0}


class Writer(nn.Module):
  """A translator: a dense layer of x beside the style."""

  @nn.compact
  def __call__(self, x, style, *, train=False):
    return nn.Dense(2, name='dense')(jnp.concatenate([x, style], axis=1))


class Reader(nn.Module):
  """A linear map a domain, to styles of two numbers."""

  @nn.compact
  def __call__(self, x, domain, *, train=False):
    kernel = self.param('kernel', nn.initializers.normal(0.5), (K, 2, 2))
    return jnp.einsum('bi,bis->bs', x, kernel[domain])


class Critic(nn.Module):
  """Logits of K domains, not linear in x."""

  @nn.compact
  def __call__(self, x, *, train=False):
    h = jnp.tanh(nn.Dense(5, False, name='hidden')(x))
    return nn.Dense(K, False, name='heads')(h)


class Counting(nn.Module):
  """A network that counts how often it was applied in training."""

  body: nn.Module

  @nn.compact
  def __call__(self, *inputs, train=False):
    count = self.variable('calls', 'number', jnp.zeros, (), jnp.int32)
    if train:
      count.value += 1
    return self.body(*inputs)


NETWORKS = {
  'generator': Writer(), 'mapping': Reader(), 'encoder': Reader(),
  'discriminator': Critic(),
}  # fmt: skip


def r1(critic, key, real, fake):
  return penalties.r1(critic, real) / 2


def make(networks=NETWORKS, tx=None, **changes):
  txs = dict.fromkeys(networks, tx or optax.sgd(RATE))
  settings = {'num_domains': K, 'prior': lambda key, num: Z[:num], **WEIGHTS}
  return star_gan_v2.star_gan_v2(networks, txs, **settings | changes)


def batch():
  return {'x': jax.random.normal(jax.random.key(0), (2 * B, 2)), 'domain': DOMAIN}


def started(method):
  return jax.jit(method.init)(jax.random.key(0), batch())


@pytest.fixture(scope='module')
def compiled():
  """A state, and (state, batch) -> what a step makes of it, its references known."""
  method = make(penalty=r1, diversity_steps=8)
  state, key = started(method), jax.random.key(1)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(domains, 'draw_others', lambda *_: OTHERS)
    step = jax.jit(method.step).lower(state, key, batch()).compile()
  return state, lambda state, batch: step(state, key, batch)


def by_hand(p, x, others):
  """Parameters after a step, and its four losses, by the formulas alone."""
  real, reference, other = x[::2], x[1::2], x[others][1::2]
  domain, target = DOMAIN[::2], DOMAIN[1::2]
  latents = 'mapping', Z[::2], Z[1::2]
  references = 'encoder', reference, other
  losses = []

  def write(p, x, s):
    dense = p['generator']['dense']
    return x @ dense['kernel'][:2] + s @ dense['kernel'][2:] + dense['bias']

  def read(p, name, x, domain):
    return jnp.stack([x[i] @ p[name]['kernel'][c] for i, c in enumerate(domain)])

  def logit(p, x, domain):
    hidden, heads = (p['discriminator'][n]['kernel'] for n in ('hidden', 'heads'))
    return (jnp.tanh(x @ hidden) * heads[:, domain].T).sum(axis=1)

  def squared_slope(p, x, domain):
    hidden, heads = (p['discriminator'][n]['kernel'] for n in ('hidden', 'heads'))
    slope = (heads[:, domain].T * (1 - jnp.tanh(x @ hidden) ** 2)) @ hidden.T
    return (slope**2).sum(axis=1)

  def critics(d, p, source, code, _):
    p = p | d
    fake = write(p, real, read(p, source, code, target))
    loss = jnp.log1p(jnp.exp(-logit(p, real, domain)))
    loss += jnp.log1p(jnp.exp(logit(p, fake, target)))
    return (loss + squared_slope(p, real, domain) / 2).mean()

  def translators(g, p, source, code, other):
    fixed, p = p, p | g
    s = read(p, source, code, target)
    fake = write(p, real, s)
    apart = write(fixed, real, read(fixed, source, other, target))
    back = write(p, fake, read(p, 'encoder', real, domain))
    loss = jnp.log1p(jnp.exp(-logit(p, fake, target))).mean()
    loss += (
      WEIGHTS['style_weight'] * jnp.abs(s - read(p, 'encoder', fake, target)).mean()
    )
    loss -= WEIGHTS['diversity_weight'] * jnp.abs(fake - apart).mean()
    return loss + WEIGHTS['cycle_weight'] * jnp.abs(real - back).mean()

  turns = (
    (critics, ('discriminator',), latents),
    (critics, ('discriminator',), references),
    (translators, ('generator', 'mapping', 'encoder'), latents),
    (translators, ('generator',), references),
  )
  for loss_fn, names, codes in turns:
    loss, slope = jax.value_and_grad(loss_fn)({n: p[n] for n in names}, p, *codes)
    p = p | jax.tree.map(lambda a, b: a - RATE * b, {n: p[n] for n in names}, slope)
    losses.append(loss)
  return p, losses


def test_a_step_is_down_the_gradients_of_the_papers_objectives(compiled):
  state, step = compiled
  after, metrics = step(state, batch())
  expected, losses = jax.jit(by_hand)(state.params, batch()['x'], OTHERS)
  chex.assert_trees_all_close(after.params, expected, rtol=1e-4, atol=1e-6)
  names = [f'{turn}_{who}_loss' for who in ('discriminator', 'generator')
           for turn in ('latent', 'reference')]  # fmt: skip
  np.testing.assert_allclose([metrics[n] for n in names], losses, rtol=1e-4)


def test_encoder_and_mapping_move_once_a_step_and_the_other_two_twice():
  networks = {name: Counting(network) for name, network in NETWORKS.items()}
  method = make(networks, optax.adam(RATE))
  state = started(method)
  after, _ = jax.jit(method.step)(state, jax.random.key(1), batch())
  updates = {n: int(s[0].count) for n, s in after.opt_state.items()}
  assert updates == {'generator': 2, 'mapping': 1, 'encoder': 1, 'discriminator': 2}
  # Collections are kept of who moves: of the critic by real and fake images twice, of
  # the translator by both styles and the way back, of those that give styles once.
  calls = {n: int(c['number']) for n, c in after.extra['calls'].items()}
  assert calls == {'generator': 6, 'mapping': 2, 'encoder': 2, 'discriminator': 4}


def test_heads_of_a_domain_that_is_not_there_have_no_gradient(compiled):
  state, step = compiled
  params = step(state, {'x': batch()['x'], 'domain': DOMAIN % 2})[0].params
  gaps = jax.tree.map(lambda a, b: np.abs(a - b), params, state.params)
  for name in ('mapping', 'encoder'):
    assert gaps[name]['kernel'][2].max() == 0 < gaps[name]['kernel'][:2].max()
  heads = gaps['discriminator']['heads']['kernel']
  assert heads[:, 2].max() == 0 and (heads[:, :2].max(axis=0) > 0).all()


def test_the_weight_of_diversity_is_a_function_of_the_states_step(compiled):
  """So that a run that goes on does not begin again with all of it."""
  state, step = compiled
  found = {}
  for at, weight in ((0, 0.4), (2, 0.3), (7, 0.05), (8, 0.0), (900, 0.0)):
    _, found[at] = step(state._replace(step=jnp.int32(at)), batch())
    np.testing.assert_allclose(found[at]['diversity_weight'], weight, atol=1e-6)
  # With all else the same, losses differ by this term.
  gap = found[8]['latent_generator_loss'] - found[0]['latent_generator_loss']
  np.testing.assert_allclose(gap, 0.4 * found[0]['latent_diversity'], rtol=1e-4)


def perfect():
  """Parameters of x = (content, style): the style is written over and read again.

  The critic's are zero, where it stays: its logits have no gradient there.
  """
  writes = jnp.zeros((4, 2)).at[0, 0].set(1.0).at[2, 1].set(1.0)
  reads = jnp.zeros((K, 2, 2)).at[:, 1, 0].set(1.0)
  return {
    'generator': {'dense': {'kernel': writes, 'bias': jnp.zeros(2)}},
    'mapping': {'kernel': jnp.zeros((K, 2, 2)).at[:, 0, 0].set(1.0)},
    'encoder': {'kernel': reads},
    'discriminator': {
      'hidden': {'kernel': jnp.zeros((2, 5))}, 'heads': {'kernel': jnp.zeros((5, K))}
    },
  }  # fmt: skip


def test_a_perfect_translator_stays_where_no_critic_and_no_diversity_moves_it(compiled):
  state, step = compiled
  state = state._replace(params=perfect(), step=jnp.int32(8))  # whose weight is 0
  after, metrics = step(state, batch())
  chex.assert_trees_all_equal(after.params, state.params)
  for name in ('latent_style_loss', 'latent_cycle_loss', 'reference_cycle_loss'):
    assert metrics[name] == 0
  # Two styles apart are half of it in the mean over both numbers.
  gaps = np.abs(Z[::2, 0] - Z[1::2, 0]) / 2
  np.testing.assert_allclose(metrics['latent_diversity'], gaps.mean(), rtol=1e-5)


def test_others_are_drawn_evenly_in_the_domain_and_never_themselves():
  domain = jnp.array([0, 1, 0, 2, 0, 1])
  draw = jax.jit(jax.vmap(lambda key: domains.draw_others(key, domain)))
  drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
  expected = {0: (2, 4), 1: (5,), 2: (0, 4), 3: (3,), 4: (0, 2), 5: (1,)}
  for i, others in expected.items():
    counts = np.bincount(drawn[:, i], minlength=6)
    assert set(np.flatnonzero(counts)) == set(others)
    assert np.abs(counts[list(others)] - 4000 / len(others)).max() <= 4 * 32


def test_translations_are_in_a_drawn_style_or_in_that_of_a_reference():
  method = make(prior=priors.normal(2))
  state = started(method)._replace(params=perfect())
  translate = functools.partial(method.queries['translate'], step_lib.model(state))
  x, key = batch()['x'], jax.random.key(3)
  for domain in (1, np.uint8(1), jnp.full(len(x), 1)):
    out = translate(key, x, condition=domain)
    drawn = priors.normal(2)(key, len(x))[:, 0]
    np.testing.assert_allclose(out, jnp.stack([x[:, 0], drawn], axis=1), rtol=1e-6)
  assert np.abs(translate(jax.random.key(4), x, condition=1) - out)[:, 1].min() > 1e-3
  for reference, style in ((x[::-1], x[::-1, 1]), (x[2], jnp.full(len(x), x[2, 1]))):
    out = translate(None, x, condition=1, reference=reference)
    np.testing.assert_allclose(out, jnp.stack([x[:, 0], style], axis=1), rtol=1e-6)
  # Back again in its own style an image is what it was.
  again = translate(None, out, condition=0, reference=x)
  np.testing.assert_allclose(again, x, rtol=1e-6)
  for options, word in (
    ({'condition': K}, 'domain must be from 0 to 2'),
    ({'condition': None}, 'the domain to translate to'),
    ({'condition': 0, 'reference': x[:3]}, r'reference must be .*got \(3, 2\)'),
    ({'condition': 0, 'reference': 'folder:there'}, r'reference must be .*got \(\)'),
  ):
    with pytest.raises(ValueError, match=word) as error:
      translate(key, x, **options)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('changes', 'word'),
  [({'num_domains': 1}, 'at least two domains'), ({'cycle_weight': -1.0}, '>= 0'),
   ({'diversity_weight': -1.0}, '>= 0'), ({'diversity_steps': 0}, 'steps >= 1')],
)  # fmt: skip
def test_what_does_not_fit_is_refused(changes, word):
  with pytest.raises(ValueError, match=word) as error:
    make(**changes)
  assert '\n' not in str(error.value)
