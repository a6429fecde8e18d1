"""Kills, full disks, a second run, a reader that leaves: nothing is lost by any.

After every fault the same command goes on, and ends with the very state and the very
rows of a run that nothing happened to, bitwise.
"""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent import futures

import launch_test
import pytest
from wrong_test import contents, environment, prepared_folder, run, small

from gm_jax.training import checkpoint

KILLS = 20
LONG = {'steps': 300, 'seeds': 2, 'checkpoint_every': 10, 'sample_every': 100}

pytestmark = pytest.mark.drill


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """A function: leaves -> workdir of a run that nothing happened to."""
  made = {}

  def get(**leaves):
    key = repr(leaves)
    if key not in made:
      here = prepared_folder(tmp_path_factory.mktemp('straight') / 'x')
      done, _ = run(small(here / 'run', **leaves), here)
      assert done.returncode == 0, done.stderr
      made[key] = here / 'run'
    return made[key]

  return get


def started(workdir, here, **leaves):
  return subprocess.Popen(
    small(workdir, **leaves), env=environment(here), cwd=here / 'cwd',
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
  )  # fmt: skip


def unfinished(workdir):
  return list((workdir / 'checkpoints').glob(f'*{checkpoint.UNFINISHED}*'))


def signs(workdir):
  """What changes while a run trains."""
  return {p.name for p in (workdir / 'checkpoints').glob('*')}


def killed(workdir, here, moment, chance) -> bool | None:
  """Starts a run and kills it; whether inside a write, None if it ended before.

  Args:
    workdir: of the run.
    here: folder of the process.
    moment: 'starting', 'training' or 'writing'.
    chance: of random delays.
  """
  before, seen = contents(workdir / 'checkpoints'), signs(workdir)
  left = {path.name for path in unfinished(workdir)}
  child = started(workdir, here, **LONG)
  if moment == 'starting':
    with contextlib.suppress(subprocess.TimeoutExpired):
      child.wait(chance.uniform(0, 3))
  while child.poll() is None and moment == 'training' and signs(workdir) <= seen:
    time.sleep(0.01)
  if moment == 'training':
    time.sleep(chance.uniform(0, 0.3))
  until = chance.randrange(1, 6)  # the write to be killed in
  while child.poll() is None and moment == 'writing' and until:
    now = {path.name for path in unfinished(workdir)} - left
    until, left = until - bool(now), left | now
  if moment == 'writing':
    time.sleep(chance.uniform(0, 0.02))
  child.send_signal(signal.SIGKILL)
  if child.wait() == 0:
    return None
  after = contents(workdir / 'checkpoints')
  assert all(after.get(path, content) == content for path, content in before.items())
  return bool(unfinished(workdir))


def test_twenty_kills_at_random_end_bitwise_equal_every_time(straight, tmp_path):
  expected = straight(**LONG)

  def one(number):
    """(kills, those of them inside a write) of one run, which then ends well."""
    chance = random.Random(number)
    here, workdir = prepared_folder(tmp_path / str(number)), tmp_path / f'run {number}'
    moments = ['starting', 'training', 'writing', 'writing', 'writing']
    chance.shuffle(moments)
    hits = [killed(workdir, here, moment, chance) for moment in moments]
    done, _ = run(small(workdir, **LONG), here)
    assert done.returncode == 0, done.stderr
    launch_test.assert_same_end(expected, workdir)
    assert not unfinished(workdir)
    hits = [hit for hit in hits if hit is not None]
    return len(hits), sum(hits)

  kills = inside = 0
  with futures.ThreadPoolExecutor(2) as pool:
    numbers = iter(range(3 * KILLS // 5))
    while kills < KILLS:
      pairs = list(pool.map(one, [next(numbers), next(numbers)]))
      kills += sum(pair[0] for pair in pairs)
      inside += sum(pair[1] for pair in pairs)
  assert inside >= KILLS // 4


def assert_one_line(done, code, *says):
  lines = done.stderr.splitlines()
  assert done.returncode == code, done.stderr
  assert len(lines) == 1 and lines[0].startswith('error: '), done.stderr
  assert not [words for words in says if words not in lines[0]], lines[0]
  assert 'Traceback' not in done.stdout


def test_a_second_run_in_the_workdir_names_the_first_and_changes_nothing(tmp_path):
  here, workdir = prepared_folder(tmp_path / 'x'), tmp_path / 'run'
  first = subprocess.Popen(
    small(workdir, steps=10**6), env=environment(here), cwd=here / 'cwd',
    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  try:
    while not (workdir / 'checkpoints' / '20').exists():
      assert first.poll() is None
      time.sleep(0.05)
    first.send_signal(signal.SIGSTOP)
    before = contents(workdir)
    second, _ = run(small(workdir, steps=10**6), here)
    says = (f'process {first.pid}', 'wait for it', 'another --workdir')
    assert_one_line(second, 2, *says)
    assert contents(workdir) == before
    first.send_signal(signal.SIGCONT)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 143
  finally:
    first.kill()
    first.communicate()
  done, _ = run(small(workdir, '--mode=evaluate', steps=10**6), here)
  assert done.returncode == 0, done.stderr


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


def limited(number, command):
  """A command of which no file may grow beyond this, as on a full disk."""
  return [sys.executable, '-c', LIMITED, str(number), *command]


@pytest.mark.parametrize('kilobytes', [1, 40, 200])
def test_where_no_file_may_grow_the_run_ends_and_goes_on_later(
  kilobytes, straight, tmp_path
):
  here, workdir = prepared_folder(tmp_path / 'x'), tmp_path / 'run'
  shutil.copytree(straight(), workdir)
  before = contents(workdir / 'checkpoints')
  command = small(workdir, '--compilation_cache=', steps=80)  # the suite's stays whole
  done, _ = run(limited(1024 * kilobytes, command), here)
  assert_one_line(done, 1, 'cannot write to', 'checkpoints from before')
  assert contents(workdir / 'checkpoints').items() >= before.items()
  done, _ = run(small(workdir, steps=80), here)
  assert done.returncode == 0 and 'going on from step' in done.stdout, done.stderr
  launch_test.assert_same_end(straight(steps=80), workdir)


COMPILED = """
import sys
import jax
from gm_jax.training import launch
launch.use_compilation_cache(sys.argv[1])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
print(jax.jit(lambda x: x + 40)(2))
"""


def test_a_cache_of_programs_that_is_torn_or_cannot_grow_says_nothing(tmp_path):
  here = prepared_folder(tmp_path / 'x')
  cache = tmp_path / 'cache'
  command = [sys.executable, '-c', COMPILED, str(cache)]
  done, _ = run(limited(20, command), here)  # tears its first program itself
  assert (done.returncode, done.stdout, done.stderr) == (0, '42\n', '')
  torn = list(cache.glob('*-cache'))
  assert torn and all(path.stat().st_size <= 20 for path in torn)
  done, _ = run(command, here)
  assert (done.returncode, done.stdout, done.stderr) == (0, '42\n', '')


@pytest.fixture
def small_disk(tmp_path):
  """A disk of 2 MB, where one may be mounted."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(disk)]
  if not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('mounting a small disk needs rights')
  yield disk
  subprocess.run(['umount', '-l', str(disk)], check=True)


def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_space(
  small_disk, tmp_path
):
  here, workdir = prepared_folder(tmp_path / 'x'), small_disk / 'run'
  done, _ = run(small(workdir, '--config.keep_checkpoints=100', steps=20), here)
  assert done.returncode == 0, done.stderr
  before = contents(workdir / 'checkpoints')
  ballast = small_disk / 'ballast'
  with ballast.open('wb') as file, contextlib.suppress(OSError):
    file.write(bytes(2**21))
  again = small(workdir, '--config.keep_checkpoints=100', steps=80)
  done, _ = run(again, here)
  assert_one_line(
    done, 1, 'cannot write to', 'No space left', 'checkpoints from before'
  )
  assert contents(workdir / 'checkpoints').items() >= before.items()
  ballast.unlink()
  subprocess.run(['mount', '-o', 'remount,size=64m', str(small_disk)], check=True)
  done, _ = run(again, here)
  assert done.returncode == 0 and 'going on from step 20' in done.stdout, done.stderr


def test_a_reader_that_goes_away_ends_the_run_in_one_line(tmp_path):
  here = prepared_folder(tmp_path / 'x')
  child = subprocess.Popen(
    small(tmp_path / 'run', steps=10**6), env=environment(here), cwd=here / 'cwd',
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  child.stdout.readline()
  child.stdout.close()
  error = child.stderr.read()
  assert child.wait(60) == 1
  assert error.splitlines() == [
    'error: standard output was closed; the same command goes on'
  ]
