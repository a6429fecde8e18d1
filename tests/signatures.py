"""The law of queries, for every method that a test has at hand."""

import inspect

from gm_jax import base


def check_signatures(method):
  """Every query's arguments are those of `base.QUERIES`; options have defaults."""
  for name, query in method.queries.items():
    expected, found = base.QUERIES[name], inspect.signature(query).parameters.values()
    positional = [p.name for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert tuple(positional) == ('model', 'key', *expected.arguments), name
    keywords = {p.name: p for p in found if p.kind is p.KEYWORD_ONLY}
    assert 'condition' in keywords, name
    required = [n for n, p in keywords.items() if p.default is p.empty]
    assert required == list(expected.required), name
