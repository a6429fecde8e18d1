"""The folder in which results that take long are kept: programs, classifiers."""

import os
import pathlib


def folder(name: str = '') -> pathlib.Path | None:
  """Where things of a name are kept, made by who writes there first.

  Args:
    name: of a folder inside, or '' for all.

  Returns:
    The folder that `GM_JAX_CACHE` names, for all of them, else one of this name in
    `~/.cache/gm_jax`; None for a user without a home.
  """
  chosen = os.environ.get('GM_JAX_CACHE')
  if chosen:
    return pathlib.Path(chosen)
  try:
    return pathlib.Path.home() / '.cache' / 'gm_jax' / name
  except RuntimeError:
    return None
