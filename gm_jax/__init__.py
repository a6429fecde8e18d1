"""gm_jax: deep generative models in JAX, as NamedTuples of pure functions."""

__version__ = '0.1.0'
