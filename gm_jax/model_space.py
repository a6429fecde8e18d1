"""The one door from raw data to model space.

Batches are raw (pixels, points, tokens); a compiled step takes them to the space in
which the model works. `x` goes by the spec's own transform, every other array by its
`Part`; an array without one, as a label, stays as it is.
"""

import jax

from gm_jax import base


def forward(spec: base.DataSpec, key: base.Array, batch: base.Batch) -> dict:
  """Takes a batch to model space.

  Args:
    spec: of the data.
    key: of the noise, if there is any. `x` has the key as it is, so that
      `spec.transform.log_det(key, raw)` is about the same noise.
    batch: raw arrays `[B, ...]` by batch key.

  Returns:
    Arrays by the same keys.
  """
  out = dict(batch)
  if 'x' in batch:
    out['x'] = spec.transform.forward(key, batch['x'])
  for name, part in spec.parts.items():
    if name in batch:
      own_key = jax.random.fold_in(key, base.BATCH_KEYS.index(name))
      out[name] = part.transform.forward(own_key, batch[name])
  return out
