"""Four host devices and one compilation cache for the whole suite."""

import os
import pathlib

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '4')

import jax  # noqa: E402
import pytest  # noqa: E402

CACHE = pathlib.Path(__file__).parents[1] / '.cache' / 'jax'
jax.config.update('jax_compilation_cache_dir', str(CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


@pytest.fixture(autouse=True, scope='module')
def _programs_of_a_module():
  """Compiled programs go with their module: thousands exhaust a process's mappings."""
  yield
  jax.clear_caches()
