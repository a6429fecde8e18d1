"""The records of a workdir: whose it is, and what a run that cannot go on leaves."""

import json

import pytest
from ml_collections import config_dict

from gm_jax.training import workdir


def claimed(path, steps):
  config = config_dict.ConfigDict({'steps': steps, 'data': 'digits'})
  return workdir.claimed(path, config, {'experiment': 'a.py', 'data': 'none'})


def steps_in(path):
  return json.loads((path / 'config.json').read_text())['steps']


def test_a_run_that_cannot_go_on_leaves_the_records_of_before(tmp_path):
  with claimed(tmp_path, 10):
    assert steps_in(tmp_path) == 10
  with pytest.raises(workdir.RunError, match='not this'), claimed(tmp_path, 20):
    assert steps_in(tmp_path) == 20
    raise workdir.RunError('not this')
  assert steps_in(tmp_path) == 10
  with claimed(tmp_path, 30):
    pass
  assert steps_in(tmp_path) == 30
