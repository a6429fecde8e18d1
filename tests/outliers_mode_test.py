"""The launcher's modes `classify` and `outliers`, of a JEM that lacks two classes."""

import importlib
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gm_jax.tasks import classification, outliers, results  # noqa: E402
from gm_jax.training import launch, trained  # noqa: E402
from gm_jax.training import step as step_lib  # noqa: E402


@pytest.mark.slow
def test_modes_are_the_tasks_of_the_trained_model(tmp_path):
  experiment = importlib.import_module('experiments.configs.jem_digits')
  config = experiment.get_config('classes:digits?without=8,9')
  config.update({
    'steps': 20, 'steps_per_dispatch': 10, 'log_every': 10, 'evaluate_every': 0,
    'checkpoint_every': 20, 'sample_every': 0, 'num_steps': 5, 'width': 32,
  })  # fmt: skip
  launch.train(experiment, config, tmp_path)
  run = trained.load(tmp_path)
  key = step_lib.streams(jax.random.key(config.seed)).inference
  arrays = {split: run.data.arrays(split) for split in ('test', 'held_out')}
  for name, task in (
    ('classify', classification.classification),
    ('outliers', outliers.outliers),
  ):
    launch.MODES[name](experiment, config, tmp_path)
    expected = results.numbers(task(run.method, run.model, key, arrays, run.data.spec))
    found = json.loads((tmp_path / f'{name}.json').read_text())
    for number, value in expected.items():
      np.testing.assert_allclose(found[number][0], value, rtol=1e-4, atol=1e-6)
  with np.load(tmp_path / 'outliers.npz') as file:
    scores = {name: file[name][0] for name in file.files}
  assert {name.partition('_')[0] for name in scores} == {
    'energy', 'gradient', 'classifier',
  }  # fmt: skip
  num = len(arrays['held_out']['x'])
  assert scores['energy_held_out'].shape == (num,) and num > 300
  request = launch.Request(
    drawing=launch.Request().drawing._replace(options={'names': 'energy+classifier'})
  )
  values = launch.MODES['outliers'](
    experiment, config, tmp_path, launch.DEFAULT, request
  )
  assert 'auroc_gradient' not in values and 'auroc_classifier' in values
