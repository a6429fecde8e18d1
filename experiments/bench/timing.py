"""What the benchmarks share: programs, their times and memory, what these rest on.

Ours and the peer are timed in turn, in one process, so that other work on the
machine meets both. It does not slow both alike (PyTorch's threads spin while they
wait), so the cores that other processes use meanwhile are measured too, and neither
rows with much of that nor medians far from the best are judged (`goals`).
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import goals
from gm_jax.training import report

try:
  from experiments.bench import eager
except ImportError:
  eager = None

NO_TORCH = "PyTorch is not installed: pip install 'gm_jax[bench]'"
SECONDS = 20.0  # of timing for each row, at most
# Of a table whose rows are made by `beside`: title, key.
COLUMNS = {
  'what': 'name',
  'ours ms': 'ours_ms',
  'best ms': 'ours_ms_best',
  'beside it': 'peer',
  'ms': 'peer_ms',
  'best': 'peer_ms_best',
  'times faster': 'times_faster',
  'difference': 'difference',
  'others, cores': 'others_cores',
}
PROC = pathlib.Path('/proc')  # of Linux
WATCHED = 0.5  # seconds, at least: ticks of 0.01 are too coarse for less


def prepare():
  """Makes both sides compute alike; where PyTorch runs beside JAX, or None.

  Compile times are real, and float32 products are float32: a GPU would use TF32
  in JAX's products and in PyTorch's convolutions.
  """
  jax.config.update('jax_enable_compilation_cache', False)
  platform = jax.default_backend()
  if platform != 'cpu':
    jax.config.update('jax_default_matmul_precision', 'highest')
  where = eager.device(platform) if eager else None
  if where is not None:
    eager.full_float32()
  return where


def compiled(function: Callable, args: tuple, **options) -> tuple[Callable, float]:
  """A compiled function, and the seconds that tracing and compiling took."""
  start = time.perf_counter()
  program = jax.jit(function, **options).lower(*args).compile()
  return program, time.perf_counter() - start


def temporary_megabytes(program) -> float:
  """The most temporary memory the program holds at once."""
  return program.memory_analysis().temp_size_in_bytes / 1e6


def peak_megabytes(program) -> float:
  """Arguments, outputs and temporary memory, what is donated counted once."""
  sizes = program.memory_analysis()
  total = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
  return (total + sizes.temp_size_in_bytes - sizes.alias_size_in_bytes) / 1e6


def device_peak_megabytes() -> float | None:
  """The most the device has held so far in this process; None on a CPU."""
  stats = jax.devices()[0].memory_stats() or {}
  peak = stats.get('peak_bytes_in_use')
  return None if peak is None else peak / 1e6


def matmuls() -> tuple[tuple[int, int, int], ...]:
  """[a, b] times [b, c] products that are timed; the first is a small net's."""
  large = () if jax.default_backend() == 'cpu' else ((8192, 8192, 8192),)
  return (1024, 128, 128), (1024, 1024, 1024), *large


def named(rates: Sequence[float]) -> dict[str, float]:
  """Rates by product, as JSON has them."""
  return dict(zip(map(str, matmuls()), rates, strict=True))


def matmul_rates(repeats: int = 30, dtype=jnp.float32) -> list[float]:
  """The best rate of each product of `matmuls`, in operations a second."""
  rates = []
  multiply = jax.jit(jnp.matmul)
  for a, b, c in matmuls():
    left, right = jnp.ones((a, b), dtype), jnp.ones((b, c), dtype)
    seconds = [timed(lambda: multiply(left, right)) for _ in range(repeats)]  # noqa: B023
    rates.append(2 * a * b * c / min(seconds[1:]))
  return rates


def timed(function: Callable) -> float:
  """Seconds of one call, until its result is there."""
  start = time.perf_counter()
  jax.block_until_ready(function())
  return time.perf_counter() - start


@contextlib.contextmanager
def watch(*rows: dict) -> Iterator[None]:
  """Measures how many cores other processes use meanwhile, as `others_cores`.

  Of several watches of a row the most is kept; None where it cannot be measured.
  """
  start, before = time.perf_counter(), others_seconds()
  yield
  if before is not None:
    time.sleep(max(0.0, start + WATCHED - time.perf_counter()))
  after, seconds = others_seconds(), time.perf_counter() - start
  cores = None
  if before is not None and after is not None:
    cores = round(max(0.0, after - before) / seconds, 2)
  for row in rows:
    earlier = row.get('others_cores', 0.0)
    row['others_cores'] = None if None in (cores, earlier) else max(cores, earlier)


def others_seconds() -> float | None:
  """Seconds that the cores of this process have worked for others; None if unknown."""
  try:
    own = own_ticks()
    busy = busy_ticks((PROC / 'stat').read_text(), cores())
  except OSError:
    return None
  # Some sandboxes show a machine that never worked.
  return (busy - own) / os.sysconf('SC_CLK_TCK') if busy else None


def busy_ticks(text: str, cpus: Collection[int]) -> int:
  """Clock ticks that these CPUs have worked, by a /proc/stat.

  What a hypervisor took (steal) counts, a guest's time is in the user's.
  """
  total, wanted = 0, {f'cpu{n}' for n in cpus}
  for line in text.splitlines():
    name, *ticks = line.split()
    if name in wanted:
      user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
      total += user + nice + system + irq + softirq + steal
  return total


def own_ticks() -> int:
  """Clock ticks that this process and its descendants, also ended ones, have worked."""
  parents, ticks = {}, {}
  for path in PROC.glob('[0-9]*/stat'):
    with contextlib.suppress(OSError):  # it has just ended
      fields = path.read_text().rpartition(')')[2].split()
      pid = int(path.parent.name)
      parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
  own = {os.getpid()}
  while more := {pid for pid, parent in parents.items() if parent in own} - own:
    own |= more
  return sum(ticks.get(pid, 0) for pid in own)


def cores() -> Collection[int]:
  """CPUs that this process may run on."""
  if hasattr(os, 'sched_getaffinity'):
    return os.sched_getaffinity(0)
  return range(os.cpu_count() or 1)


def in_turn(ours: Callable, peer: Callable | None, repeats: int) -> np.ndarray:
  """[2, repeats] seconds of calls of ours and of the peer's (NaN without one)."""
  seconds, start = [], time.perf_counter()
  while len(seconds) < 2 + repeats:  # two to warm up
    seconds.append((timed(ours), timed(peer) if peer else float('nan')))
    if len(seconds) >= 5 and time.perf_counter() - start > SECONDS:
      break
  return np.asarray(seconds[2:]).T


def summary(name: str, seconds: np.ndarray) -> dict:
  """Median, best and all of some times, in milliseconds."""
  ms = 1e3 * seconds
  middle, best = float(np.median(ms)), float(ms.min())
  return {f'{name}_ms': middle, f'{name}_ms_best': best, f'{name}_ms_all': ms.tolist()}


def beside(name: str, peer: str, ours: Callable, theirs, repeats: int, **more) -> dict:
  """A row of both sides' times, measured in turn; `theirs` may be None."""
  row = {'name': name, 'peer': peer if theirs else f'{peer}: none'}
  with watch(row):
    times = in_turn(ours, theirs, repeats)
  row |= summary('ours', times[0])
  if theirs:
    row |= summary('peer', times[1])
    row['times_faster'] = row['peer_ms'] / row['ours_ms']
  return row | more


def divided(row: dict, per: int) -> dict:
  """A row whose milliseconds are of one of `per` things."""

  def one(value):
    return [v / per for v in value] if isinstance(value, list) else value / per

  return {
    name: one(value) if '_ms' in name and value is not None else value
    for name, value in row.items()
  }


def difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
  """|ours - theirs| / |theirs|, over all arrays at once."""
  ours, theirs = (np.concatenate([np.ravel(g) for g in gs]) for gs in (ours, theirs))
  return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def conditions(where) -> dict[str, str]:
  """What the numbers depend on."""
  facts = report.versions()
  facts['cpu cores'] = str(len(cores()))
  facts['float32 products'] = f'{jax.config.jax_default_matmul_precision or "default"}'
  facts['torch'] = 'not measured'
  if where is not None:
    facts['torch'] = eager.conditions(where)
  return facts


def show_rates(rates: Sequence[float], what: str = '') -> None:
  """Prints the rates of `matmul_rates`."""
  for (a, b, c), rate in zip(matmuls(), rates, strict=True):
    print(f'product {what}[{a}, {b}] x [{b}, {c}]: {rate / 1e9:.0f} Gflop/s')


def finish(
  rows: list[dict],
  columns: dict[str, str],
  found: list[dict],
  conditions: dict[str, str],
  agreement: float,
) -> dict:
  """Prints what was measured beside peers, and what spoils it; returns all of it.

  Args:
    rows: as `beside` makes them.
    columns: names of a row's numbers, by the table's headers.
    found: results of `goals.judge`.
    conditions: printed beneath.
    agreement: relative difference of values, from which a row is named.

  Returns:
    Numbers, and the tables `times` and `goals`.
  """
  cells = [goals.cells(row, columns.values()) for row in rows]
  table = report.Table(list(columns), cells)
  numbers = {
    'tables': {'times': table, 'goals': goals.table(found)},
    'rows': rows,
    'conditions': conditions,
    'goals': found,
  }
  print(report.text_table(*table) + '\n')
  for row in rows:
    if row.get('difference', 0.0) >= agreement:
      print(f'{row["name"]}: values differ by {row["difference"]:.2g}')
    if goals.noisy(row, 'ours', 'peer'):
      print(f'{row["name"]}: noisy, see the best times')
  show_end(numbers)
  return numbers


def show_end(numbers: dict) -> None:
  """Prints the conditions and the goals."""
  if eager is None:
    print(NO_TORCH)
  for name, value in numbers['conditions'].items():
    print(f'{name}: {value}')
  print('\n' + report.text_table(*numbers['tables']['goals']))
  show_unclean(numbers['rows'])


def show_unclean(rows: Sequence[dict]) -> None:
  """Prints in how many rows other work took cores, if in any."""
  unclean = [row['others_cores'] for row in rows if goals.unclean(row)]
  if unclean:
    print(
      f'\n{len(unclean)} of {len(rows)} rows are unclean: other processes used up to'
      f' {max(unclean):g} of {len(cores())} cores, over {goals.OTHERS:g}; nothing is'
      ' judged by them: measure again while nothing else runs'
    )
