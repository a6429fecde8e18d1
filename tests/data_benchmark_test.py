"""The data benchmark measures what it says, against a peer that does the same."""

import itertools
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.bench import data as bench  # noqa: E402
from gm_jax.data import registry  # noqa: E402


@pytest.fixture
def files(tmp_path):
  bench.make_files(tmp_path, num=400)
  return tmp_path


def test_every_source_loads_and_streams_whole_batches(files):
  names = bench.sources(files, None)
  assert len(names) == 8
  for name in names:
    sizes = list(itertools.islice(bench.ours(registry.load(name)), 3))
    assert sizes == [bench.BATCH_SIZE] * 3


def test_peers_give_every_example_once_an_epoch():
  pytest.importorskip('torch', reason="PyTorch is not installed: 'gm_jax[bench]'")
  arrays = [np.arange(300, dtype=np.int32), np.arange(300, dtype=np.int32)]
  for stream in bench.gathering_peers(arrays).values():
    assert list(itertools.islice(stream, 6)) == [128, 128, 44] * 2


@pytest.mark.parametrize('folder', ['icons', 'pets'])
def test_decoding_peer_reads_the_same_files(files, folder):
  peer = bench.Files(str(files / folder))
  x = registry.load(f'folder:{files}/{folder}').arrays('train')['x']
  assert len(peer) == 40
  every = {peer[i][0].tobytes() for i in range(40)}
  assert {image.tobytes() for image in x} <= every


def test_rate_counts_examples(monkeypatch):
  clock = itertools.count(0.0, 0.125)
  monkeypatch.setattr(bench.time, 'perf_counter', lambda: next(clock))
  # Two ticks pass the 0.2 seconds; what was waiting counts for nothing.
  sizes = itertools.chain([999, 999], itertools.repeat(10))
  assert bench.rate(sizes, waiting=2) == 20 / 0.25


def run(*args):
  command = [sys.executable, str(ROOT / 'experiments' / 'benchmark.py'), *args]
  return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.drill
def test_wrong_folder_is_one_line_and_exit_code_2():
  done = run('data', '--data_dir=/none/such')
  assert done.returncode == 2 and done.stdout == ''
  assert done.stderr == 'error: --data_dir=/none/such: no such folder\n'


@pytest.mark.slow
def test_command_prints_a_table_and_writes_the_numbers(tmp_path):
  done = run('data', '--quick', f'--json={tmp_path}/numbers.json')
  assert done.returncode == 0, done.stderr
  rows = json.loads((tmp_path / 'numbers.json').read_text())['numbers']['rows']
  assert {row['source'].partition(':')[0] for row in rows} == {
    'digits', 'toy', 'npz', 'folder', 'text'
  }  # fmt: skip
  assert all(row['rate'] > 0 and row['source'] in done.stdout for row in rows)
  assert all('others_cores' in row for row in rows)
