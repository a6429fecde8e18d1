"""Four host devices, one compilation cache, groups of tests and what they cost.

A worker takes groups of tests: a row of the table of laws, or a file. Compiled
programs are shared, and forgotten where memory is short. `--costs`
prints CPU seconds (of the process and its children) by group and by test, and the peak
memory of each worker.
"""

import collections
import ctypes
import gc
import os
import pathlib
import re
import resource
import sys

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '4')
# By the environment, so that the processes which tests start have the same cache.
ROOT = pathlib.Path(__file__).parents[1]
CACHE = os.environ.setdefault('GM_JAX_TEST_CACHE', str(ROOT / '.cache' / 'jax'))
os.environ['JAX_COMPILATION_CACHE_DIR'] = CACHE
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'

import jax  # noqa: E402
import pytest  # noqa: E402

# Compiling takes a third of the time with the older emitters, whole programs at once.
# An unknown flag ends the process: only where it is known to be one.
if 'JAX_DISABLE_MOST_OPTIMIZATIONS' in os.environ and jax.__version__[:5] == '0.10.':
  QUICK = '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
  if QUICK not in os.environ.get('XLA_FLAGS', ''):  # as in a worker
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {QUICK}'.strip()

ENOUGH = 1.25  # GiB, from which compiled programs are forgotten between two tests
SHOWN = 30  # tests, the costliest
# Files that take minutes, of few tests each.
COSTLY = (
  'launch', 'notebook', 'wrong', 'processes', 'own_data', 'reproduce', 'edge',
  'conditional_configs', 'translation_configs', 'puzzle_config', 'explicit_configs',
  'ledger_variational', 'ledger_variational_inference', 'ledger_conditional_gans',
  'ledger_text_to_image', 'variational_configs', 'text_configs', 'wrong_generated',
)  # fmt: skip


def pytest_addoption(parser):
  parser.addoption('--costs', action='store_true', help='print CPU seconds and memory')


def pytest_configure(config):
  if config.getoption('costs') and not hasattr(config, 'workerinput'):
    config.pluginmanager.register(Costs())


def group_of(nodeid):
  """A file; of the table of laws a row, of what is tried on every config a config."""
  file, _, test = nodeid.partition('::')
  by_row = file.endswith(('methods_test.py', 'strict_test.py'))
  row = re.search(r'\[(\w+)', test) if by_row else None
  return f'{file} -k {row[1]}' if row else file


def pytest_collection_modifyitems(items):
  """Costly groups first, so that at the end no worker waits for long."""
  counts = collections.Counter(group_of(item.nodeid) for item in items)
  first = {f'tests/{name}_test.py': i for i, name in enumerate(COSTLY)}
  ranks = {
    group: (first.get(group, len(first)), -count, i)
    for i, (group, count) in enumerate(counts.items())
  }
  items.sort(key=lambda item: ranks[group_of(item.nodeid)])


def pytest_collection_finish():
  gc.collect()
  gc.freeze()  # imported for good: collecting garbage need not look at it again


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
  # By hand: pytest-xdist 3.8 does not see the marks of its loadgroup in pytest 9.2.
  from xdist import scheduler

  class ByGroup(scheduler.LoadScopeScheduling):
    def _split_scope(self, nodeid):
      return group_of(nodeid)

  return ByGroup(config, log) if config.getoption('dist') == 'loadscope' else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
  item.began = cpu_seconds()
  result = yield
  if nextitem and memory() > ENOUGH:
    forget_programs()
  return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
  report = yield
  if call.when == 'teardown':
    cost = cpu_seconds() - item.began, cpu_seconds(), peak_memory()
    report.user_properties.append(('cost', cost))
  return report


def forget_programs():
  """Each is 1.5 MiB; thousands exhaust memory and a process's mappings."""
  jax.clear_caches()
  gc.collect()
  if sys.platform == 'linux':  # glibc keeps what they leave until it is asked
    getattr(ctypes.CDLL(None), 'malloc_trim', int)(0)


def memory():
  """GiB of this process now; 0 where nothing tells."""
  if sys.platform != 'linux':
    return 0.0
  with open('/proc/self/statm') as file:
    return int(file.read().split()[1]) * resource.getpagesize() / 2**30


def cpu_seconds():
  usage = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
  return sum(u.ru_utime + u.ru_stime for u in usage)


def peak_memory():
  """In GiB; Linux counts KiB, macOS bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if sys.platform == 'linux' else 2**30)


class Costs:
  """Adds up what the tests of all workers cost."""

  def __init__(self):
    self.groups, self.tests, self.workers = collections.Counter(), {}, {}

  def pytest_runtest_logreport(self, report):
    if report.when != 'teardown':
      return
    seconds, total, peak = dict(report.user_properties)['cost']
    self.groups[group_of(report.nodeid)] += seconds
    self.tests[report.nodeid] = seconds
    self.workers[getattr(report, 'worker_id', 'alone')] = total, peak

  def pytest_terminal_summary(self, terminalreporter):
    line, costliest = terminalreporter.write_line, collections.Counter(self.tests)
    terminalreporter.section('CPU seconds')
    for name, seconds in self.groups.most_common():
      line(f'{seconds:8.1f} {name}')
    terminalreporter.section('CPU seconds of the costliest tests')
    for name, seconds in costliest.most_common(SHOWN):
      line(f'{seconds:8.1f} {name}')
    terminalreporter.section('workers')
    for name, (total, peak) in sorted(self.workers.items()):
      line(f'{name}: {total:.1f} CPU s, at most {peak:.2f} GiB')
    total, tests = sum(t for t, _ in self.workers.values()), sum(self.tests.values())
    line(f'{total:.1f} CPU s in all, {total - tests:.1f} of it imports and collection')
