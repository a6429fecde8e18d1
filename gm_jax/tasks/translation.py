"""Images translated from domain to domain: the images themselves, and their errors.

For any method with the query `translate`. Where that takes `reference`, an image whose
style to take, the way back is in the style of what was translated. Errors are mean
absolute differences of a number of an image in model space. Where images of several
domains belong together, `arrays['pairs']` holds them (`x` and `y`, or `x`
`[N, D, ...]`), and the error against the truth stands beside that of an image that was
left as it is.
"""

import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.losses import translation
from gm_jax.tasks import density, quality, results

PAIRS = 'pairs'
COLUMNS = 16  # of a picture
Classify = Callable[[base.Array], base.Array]


def translate(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  condition: int | None = None,
  split: str = 'test',
  reference: int | None = None,
) -> base.Result:
  """Translates the images of a split.

  Of two domains, `x` and `y`, these are the y where the condition is x, and x where it
  is y.

  Args:
    method: with the query `translate`.
    model: its parameters.
    key: of queries that draw.
    arrays: raw, by split.
    spec: of the data.
    condition: the domain to translate to, of two domains 0 for x and 1 for y.
    split: which is translated.
    reference: index of an image of the split, in whose style all are translated; None
      leaves the style to the method.

  Returns:
    `num`; arrays `inputs`, `outputs` and, where the images' own domain is known,
    `back`, raw `[N, ...]`; a grid of them, a row each, where all have one shape.

  Raises:
    ValueError: the method does not translate, there is no condition, the images are of
      another shape than those of the model, or the reference is not among them or is
      more than the method takes.
  """
  query, raw = results.query_of(method, 'translate'), results.split_of(arrays, split)
  if condition is None:
    raise ValueError('translate needs the domain to translate to: --condition=NAME')
  one, other = _spaces(spec, condition)
  images = raw.get('y', raw['x']) if 'y' in spec.parts and not condition else raw['x']
  images = results.images_of_shape(images, one.shape)

  translated = _in_chunks(query, model, key)
  x = one.transform.forward(key, images)
  style = None if reference is None else _one_for_all(query, x, reference)
  out = translated(x, condition, style)
  found = {'inputs': images, results.OUTPUTS: other.transform.inverse(out)}
  if 'y' in spec.parts:
    found['back'] = one.transform.inverse(translated(out, 1 - condition))
  elif 'domain' in raw:
    own = jnp.asarray(raw['domain'], jnp.int32)
    found['back'] = one.transform.inverse(translated(out, own, x))
  if len({a.shape[1:] for a in found.values()}) == 1:
    rows = jnp.stack([a[:COLUMNS] for a in found.values()])
    found[results.GRID] = rows.astype(found[results.OUTPUTS].dtype)
  kind = f'images to domain {condition}'
  return base.Result({'num': (jnp.asarray(len(images)), kind)}, found)


def _takes_reference(query: Callable) -> bool:
  return 'reference' in inspect.signature(query).parameters


def _one_for_all(query: Callable, x: base.Array, reference: int) -> base.Array:
  """The image of this index, once for each of x `[N, ...]`."""
  if not _takes_reference(query):
    raise ValueError('this method translates in one style and takes no reference')
  if not 0 <= reference < len(x):
    raise ValueError(f'reference must be from 0 to {len(x) - 1}, got {reference}')
  return jnp.broadcast_to(x[reference], x.shape)


def _in_chunks(query: Callable, model: base.Model, key: base.Array) -> Callable:
  """(images `[N, ...]`, the domain of all or of each) -> translations, in chunks.

  A third argument, images `[N, ...]`, is the reference of a method that takes one.
  """
  styled = _takes_reference(query)

  def translated(images, domain, reference=None):
    each, common = {}, {'condition': domain}
    if jnp.ndim(domain):
      each, common = common, each
    if styled and reference is not None:
      each['reference'] = reference
    return density.in_chunks(
      lambda x, own: query(model, key, x, **common, **own), images, each
    )

  return translated


def _spaces(spec: base.DataSpec, condition: int) -> tuple:
  """The spaces of the images that are translated, and of what they become."""
  if 'y' not in spec.parts:
    return spec, spec
  pair = spec, spec.parts['y']
  return pair if condition else pair[::-1]


def two_domains(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num: int = quality.TEST,
) -> base.Result:
  """Errors of translations between two domains, and of what comes back.

  Args:
    method: with the query `translate`.
    model: its parameters.
    key: of queries that draw.
    arrays: raw, by split: 'pairs', where x and y of one index belong together, or else
      'test'.
    spec: of the data, with the part `y`.
    num: examples, at most.

  Returns:
    `back_to_x` and `back_to_y`; of pairs `to_y` and `to_x` too, and, of domains of one
    shape, `unchanged`, the error of an x that is left as it is.

  Raises:
    ValueError: the method does not translate, or there are no two domains.
  """
  query = results.query_of(method, 'translate')
  split = results.split_of(arrays, PAIRS if PAIRS in arrays else 'test')
  test = results.in_model_space(spec, split, num)
  if 'y' not in test:
    raise ValueError(f'errors of two domains need y, and the data have {sorted(test)}')
  x, y = test['x'], test['y']

  def error(a, b):
    return translation.absolute_error(a, b).mean()

  translated = _in_chunks(query, model, key)
  there, back = translated(x, 1), translated(y, 0)
  found = {'back_to_x': error(x, translated(there, 0))}
  found['back_to_y'] = error(y, translated(back, 1))
  if PAIRS in arrays:
    found |= {'to_y': error(y, there), 'to_x': error(x, back)}
    if x.shape == y.shape:
      found['unchanged'] = error(x, y)
  kind = f'mean absolute error, N = {len(x)}'
  return base.Result({name: (value, kind) for name, value in found.items()})


def many_domains(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  domains: Classify,
  labels: Classify | None = None,
  num: int = 200,
) -> base.Result:
  """How translations from each of D domains to each other are read, and their errors.

  Args:
    method: with the query `translate`.
    model: its parameters.
    key: of queries that draw.
    arrays: raw, by split: 'pairs', x `[N, D, ...]` of images that belong together (and
      `label` `[N]`), or else 'test' with `domain`.
    spec: of the data, with the part `domain`.
    domains: images in [-1, 1] -> logits `[B, D]`, trained independently of the method.
    labels: likewise of labels `[B, K]`, or None.
    num: examples of each domain, at most.

  Returns:
    `domain_accuracy`, the fraction read as the domain asked for; `back`, the error of
    what comes back; with `labels` `label_kept`, the fraction read as the label of what
    was translated; of pairs `paired`, the error, and `unchanged`, that of an image left
    as it is. All are of translations to another domain than the image's.

  Raises:
    ValueError: the method does not translate, or the data have no domains.
  """
  query = results.query_of(method, 'translate')
  if 'domain' not in spec.parts:
    raise ValueError('these data have no domains to translate between')
  count = spec.parts['domain'].num_levels
  x, domain, label, truth = _sources(arrays, spec, num, count)

  translated = _in_chunks(query, model, key)
  sums, total = {}, 0
  for target in range(count):
    out = translated(x, target)
    counted = domain != target
    found = {
      'domain_accuracy': domains(quality.scaled(spec, out)).argmax(axis=1) == target,
      'back': translation.absolute_error(x, translated(out, domain, x)),
    }
    if labels is not None and label is not None:
      found['label_kept'] = labels(quality.scaled(spec, out)).argmax(axis=1) == label
    if truth is not None:
      found['paired'] = translation.absolute_error(truth[:, target], out)
      found['unchanged'] = translation.absolute_error(truth[:, target], x)
    total += counted.sum()
    for name, values in found.items():
      sums[name] = sums.get(name, 0.0) + jnp.where(counted, values, 0).sum()
  size = f'N = {len(x)} images to each other domain'
  kinds = {'domain_accuracy': 'fraction read as asked for', 'label_kept': 'fraction'}
  return base.Result({
    name: (value / total, f'{kinds.get(name, "mean absolute error")}, {size}')
    for name, value in sums.items()
  })  # fmt: skip


def styles(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num: int = 200,
) -> base.Result:
  """How far translations of one image to one domain differ, when styles do.

  Args:
    method: with the query `translate`, which draws styles and takes `reference`.
    model: its parameters.
    key: of the styles that are drawn.
    arrays: as of `many_domains`.
    spec: of the data, with the part `domain`.
    num: examples of each domain, at most.

  Returns:
    `diversity`, the mean absolute difference of two translations of an image in two
    styles that are drawn, and `reference_diversity`, in those of two images of the
    domain; `data_diversity`, that of these two images.

  Raises:
    ValueError: the method does not translate or has one style, or the data have no
      domains.
  """
  query = results.query_of(method, 'translate')
  if 'domain' not in spec.parts:
    raise ValueError('these data have no domains to translate between')
  if not _takes_reference(query):
    raise ValueError('this method translates in one style and takes no reference')
  count = spec.parts['domain'].num_levels
  x, domain, _, _ = _sources(arrays, spec, num, count)

  keys = jax.random.split(key)

  def apart(target):
    # Every image's references: of the domain's n images those i and i + 1, modulo n.
    order = jnp.argsort(domain != target, stable=True)
    size = jnp.maximum((domain == target).sum(), 1)
    references = jnp.stack([x[order[(jnp.arange(len(x)) + i) % size]] for i in (0, 1)])
    drawn = jax.lax.map(lambda k: _in_chunks(query, model, k)(x, target), keys)
    translated = _in_chunks(query, model, key)
    like = jax.lax.map(lambda r: translated(x, target, r), references)
    pairs = (drawn, like, references)
    return jnp.stack([translation.absolute_error(*pair).mean() for pair in pairs])

  means = jax.lax.map(apart, jnp.arange(count)).mean(axis=0)
  names = ('diversity', 'reference_diversity', 'data_diversity')
  kind = f'mean absolute difference, N = {len(x)} images to each domain'
  return base.Result({
    name: (value, kind) for name, value in zip(names, means, strict=True)
  })  # fmt: skip


def _sources(arrays, spec, num, count) -> tuple:
  """Images `[M, ...]`, their domains, labels, and what they are in every domain."""
  if PAIRS not in arrays:
    test = results.in_model_space(spec, results.split_of(arrays, 'test'), num * count)
    label = test.get('label')
    return test['x'], jnp.asarray(test['domain']), label, None
  pairs = results.split_of(arrays, PAIRS)
  raw = jnp.asarray(pairs['x'])[:num]
  x = results.in_model_space(spec, {'x': raw.reshape(-1, *raw.shape[2:])})['x']
  domain = jnp.tile(jnp.arange(count), len(raw))
  label = (
    jnp.repeat(jnp.asarray(pairs['label'])[:num], count) if 'label' in pairs else None
  )
  truth = jnp.repeat(x.reshape(len(raw), count, *x.shape[1:]), count, axis=0)
  return x, domain, label, truth
