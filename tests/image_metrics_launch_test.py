"""--mode=evaluate --metrics, in a run's workdir; what is refused before it is read."""

import json
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from gm_jax.training import launch, setup

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MAIN = [sys.executable, str(ROOT / 'experiments' / 'main.py')]


def test_unknown_metrics_are_named_before_anything_is_read():
  request = launch.Request(metrics=('frechet', 'fid'))
  with pytest.raises(setup.UsageError, match="no metric 'fid'.* There are: frechet,"):
    launch.evaluate(None, None, '/nowhere', request=request)
  request = launch.Request(features='pixels')
  with pytest.raises(setup.UsageError, match='--features is of --metrics'):
    launch.evaluate(None, None, '/nowhere', request=request)


@pytest.mark.slow
def test_metrics_of_a_run(tmp_path, capsys):
  from experiments.configs import kde_digits

  config = kde_digits.get_config()
  config.batch_size = 420  # which four devices divide
  launch.train(kde_digits, config, tmp_path)
  capsys.readouterr()
  drawing = launch.PLAIN.drawing._replace(options={'num': '200', 'k': '3'})
  metrics = ('frechet', 'prdc', 'neighbors')
  request = launch.Request(drawing=drawing, metrics=metrics, features='pixels')
  found = launch.evaluate(kde_digits, config, tmp_path, request=request)
  record = json.loads((tmp_path / 'metrics.json').read_text())
  assert record['frechet'] == [float(found['frechet'][0])]
  assert record['request']['metrics'] == list(metrics)
  assert 'real: 360 (test); fake: 200' in record['kinds']['precision']
  assert 'k = 3' in record['kinds']['precision']
  with Image.open(tmp_path / 'metrics.png') as image:
    assert image.size[0] >= 64
  assert 'features: pixels in [0, 1]' in capsys.readouterr().out
  wrong = request._replace(features='pixel')
  with pytest.raises(setup.UsageError, match='one of: pixels, classifier, inception'):
    launch.evaluate(kde_digits, config, tmp_path, request=wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (['--mode=sample', '--metrics=frechet'], 'are of --mode=evaluate'),
    (['--mode=evaluate', '--metrics=fid'], "no metric 'fid'; did you mean"),
    (['--mode=evaluate', '--features=pixels'], '--features is of --metrics'),
  ],
)
def test_a_mistake_of_the_command_is_one_line(tmp_path, args, message):
  run = [*MAIN, '--config=kde_digits', f'--workdir={tmp_path}', *args]
  done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert message in done.stderr
