"""Four host devices, one compilation cache, groups of tests and what they cost.

A worker takes groups of tests: a row of the table of laws, or a file. A group shares
compiled programs, which go when it ends, and sooner where memory is short. `--costs`
prints CPU seconds (of the process and its children) by group and by test, and the peak
memory of each worker.
"""

import collections
import ctypes
import gc
import os
import pathlib
import resource
import sys

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '4')

import jax  # noqa: E402
import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).parents[1]
CACHE = os.environ.setdefault('GM_JAX_TEST_CACHE', str(ROOT / '.cache' / 'jax'))
jax.config.update('jax_compilation_cache_dir', CACHE)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
# Compiling takes a third of the time with the older emitters, whole programs at once.
# An unknown flag ends the process: only where it is known to be one.
if 'JAX_DISABLE_MOST_OPTIMIZATIONS' in os.environ and jax.__version__[:5] == '0.10.':
  QUICK = '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {QUICK}'

ENOUGH = 1.0  # GiB, from which compiled programs are forgotten between two tests
SHOWN = 30  # tests, the costliest


def pytest_addoption(parser):
  parser.addoption('--costs', action='store_true', help='print CPU seconds and memory')


def pytest_configure(config):
  if config.getoption('costs') and not hasattr(config, 'workerinput'):
    config.pluginmanager.register(Costs())


def group_of(item):
  mark = item.get_closest_marker('xdist_group')
  return mark.kwargs['name'] if mark else str(item.path.relative_to(ROOT / 'tests'))


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items):
  for item in items:
    item.add_marker(pytest.mark.xdist_group(name=group_of(item)))
  order = {group: i for i, group in enumerate(dict.fromkeys(map(group_of, items)))}
  items.sort(key=lambda item: order[group_of(item)])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
  item.began = cpu_seconds()
  result = yield
  ended = nextitem is None or group_of(nextitem) != group_of(item)
  if ended or memory() > ENOUGH:
    forget_programs()
  return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
  report = yield
  if call.when == 'teardown':
    cost = group_of(item), cpu_seconds() - item.began, cpu_seconds(), peak_memory()
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
    group, seconds, total, peak = dict(report.user_properties)['cost']
    self.groups[group] += seconds
    self.tests[report.nodeid.split('@')[0]] = seconds
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
