"""Goals of the benchmarks, each judged by what was measured."""

from collections.abc import Iterable, Sequence

from gm_jax.training import report

NOISY = 1.5  # median / best beyond which a time is not judged
UNCLEAN = 'not judged: other work on the cores'
# Cores that other processes may use in a row that is judged. On two idle cores rows saw
# 0.02 of a core at most; beside one busy loop 0.7 (when ours kept both busy) to 1.0.
OTHERS = 0.25
RATIOS = (
  'times_faster',
  'times_torch',
  'times_floor',
  'times_own_floor',
  'percent_product',
)


def noisy(row: dict, *names: str) -> bool:
  """Whether other work on the machine spoiled one of these times."""
  return any(row.get(f'{n}_ms', 0) > NOISY * row.get(f'{n}_ms_best', 0) for n in names)


def unclean(*rows: dict) -> bool:
  """Whether other processes used the cores while one of these rows was measured."""
  return any((row.get('others_cores') or 0) > OTHERS for row in rows)


def cells(row: dict, names: Iterable[str]) -> list:
  """Cells of a table; an unclean row says so beside every ratio."""
  found = {name: row.get(name, '-') for name in names}
  for name, value in found.items():
    if value is None:
      found[name] = 'not measured'
    elif unclean(row) and name in (*RATIOS, 'others_cores') and value != '-':
      found[name] = f'{value:.4g} unclean'
  return list(found.values())


def spoiled(rows: Sequence[dict], *names: str) -> str | None:
  """Why nothing is judged by these times of these rows; None if something is."""
  if unclean(*rows):
    return UNCLEAN
  return 'not judged: noisy' if any(noisy(row, *names) for row in rows) else None


def verdicts(rows: dict, plain_mb: float | None, platform: str) -> list[dict]:
  """The goals, each with its number (None: not measured) and verdict."""
  five, ten, fifty = (rows.get(k, {}) for k in (5, 10, 50))
  on_cpu, first = platform == 'cpu', 'k = 10, two CPU cores: times'

  def ratio(value, other):
    return None if value is None or other is None else value / other

  memory = ratio(fifty.get('temp_mb'), plain_mb)
  growth = ratio(fifty.get('compile_s'), five.get('compile_s'))
  faster, floor = ten.get('times_faster'), ten.get('times_floor')
  by_step, by_both = spoiled([ten], 'step'), spoiled([ten], 'step', 'torch')
  by_memory, by_compiling = spoiled([fifty]), spoiled([five, fifty])
  wanted = [
    (f'{first} faster than PyTorch', '>=', 1.5, on_cpu, faster, by_both),
    (f'{first} the floor', '<=', 3.0, on_cpu, floor, by_step),
    ('k = 50: memory / memory of a plain scan', '<=', 0.2, True, memory, by_memory),
    ('compile time at k = 50 / at k = 5', '<=', 1.3, True, growth, by_compiling),
    (
      'k = 10, accelerator: times faster than PyTorch',
      '>=',
      5.0,
      not on_cpu,
      faster,
      by_both,
    ),
  ]
  return [
    judge(what, sign, bound, value if here else None, why)
    for what, sign, bound, here, value, why in wanted
  ]


def step_verdicts(rows: dict, platform: str) -> list[dict]:
  """The goals of `steps`, judged as by `verdicts`; `rows` by name."""
  plain, half = rows.get('gan_dcgan_28', {}), rows.get('gan_dcgan_28_bf16', {})
  residual, on_cpu = rows.get('sngan_32', {}), platform == 'cpu'
  what = "{}: our time / PyTorch's"
  wanted = [
    (what.format('DCGAN 28x28, two CPU cores'), 1.8, plain, on_cpu),
    (what.format('DCGAN 28x28, accelerator, float32'), 1.0, plain, not on_cpu),
    (what.format('DCGAN 28x28, accelerator, bfloat16'), 1.0, half, not on_cpu),
    (what.format('SNGAN 32x32, two CPU cores'), 1.8, residual, on_cpu),
    (what.format('SNGAN 32x32, accelerator'), 1.0, residual, not on_cpu),
  ]
  return [
    judge(
      name,
      '<=',
      bound,
      row.get('times_torch') if here else None,
      spoiled([row], 'step', 'torch'),
    )
    for name, bound, row, here in wanted
  ]


def judge(what, sign, bound, value, why: str | None) -> dict:
  """A goal with its number (None: not measured) and verdict; `why`: none is given."""
  met = value is not None and (value >= bound if sign == '>=' else value <= bound)
  verdict = 'not measured' if value is None else why or ('met' if met else 'NOT MET')
  return {'goal': f'{what} {sign} {bound:g}', 'value': value, 'verdict': verdict}


def faster(rows: Sequence[dict], wanted: dict[str, str], bound: float) -> list[dict]:
  """Judges how many times faster than its peer each row is, of these goals.

  Args:
    rows: of `timing.beside`.
    wanted: the beginning of a row's name by what is wanted of it.
    bound: the least `times_faster`.
  """
  found = []
  for what, word in wanted.items():
    row = next((r for r in rows if r['name'].startswith(word)), {})
    why = spoiled([row], 'ours', 'peer')
    found.append(judge(what, '>=', bound, row.get('times_faster'), why))
  return found


def table(found: Sequence[dict]) -> report.Table:
  """Builds the table of goals, a row for each result of `judge`."""

  def measured(goal):
    value = '-' if goal['value'] is None else goal['value']
    return f'{value:.4g} unclean' if goal['verdict'] == UNCLEAN else value

  rows = [[goal['goal'], measured(goal), goal['verdict']] for goal in found]
  return report.Table(('goal', 'measured', 'verdict'), rows)
