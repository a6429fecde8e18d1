"""Goals of the benchmarks, each judged by what was measured."""

from collections.abc import Sequence

from gm_jax.training import report

NOISY = 1.5  # median / best beyond which a time is not judged


def noisy(row: dict, *names: str) -> bool:
  """Whether other work on the machine spoiled one of these times."""
  return any(row.get(f'{n}_ms', 0) > NOISY * row.get(f'{n}_ms_best', 0) for n in names)


def verdicts(rows: dict, plain_mb: float | None, platform: str) -> list[dict]:
  """The goals, each with its number (None: not measured) and verdict."""
  ten = rows.get(10, {})
  here = {'cpu': platform == 'cpu', 'accelerator': platform != 'cpu', 'any': True}

  def ratio(name, k, other):
    value = rows.get(k, {}).get(name)
    return None if value is None or other is None else value / other

  memory = ratio('temp_mb', 50, plain_mb)
  growth = ratio('compile_s', 50, rows.get(5, {}).get('compile_s'))
  faster, floor = ten.get('times_faster'), ten.get('times_floor')
  wanted = [
    ('k = 10, two CPU cores: times faster than PyTorch', '>=', 1.5, 'cpu', faster),
    ('k = 10, two CPU cores: times the floor', '<=', 3.0, 'cpu', floor),
    ('k = 50: memory / memory of a plain scan', '<=', 0.2, 'any', memory),
    ('compile time at k = 50 / at k = 5', '<=', 1.3, 'any', growth),
    (
      'k = 10, accelerator: times faster than PyTorch',
      '>=',
      5.0,
      'accelerator',
      faster,
    ),
  ]
  found = []
  for what, sign, bound, where, value in wanted:
    names = ('step', 'torch') if 'PyTorch' in what else ('step',)
    spoiled = 'k = 10' in what and noisy(ten, *names)
    value = value if here[where] else None
    found.append(judge(what, sign, bound, value, spoiled))
  return found


def step_verdicts(rows: dict, platform: str) -> list[dict]:
  """The goals of `steps`, judged as by `verdicts`; `rows` by name."""
  plain, half = rows.get('gan_dcgan_28', {}), rows.get('gan_dcgan_28_bf16', {})
  what = "DCGAN 28x28, {}: our time / PyTorch's"
  wanted = [
    (what.format('two CPU cores'), 1.8, plain, platform == 'cpu'),
    (what.format('accelerator, float32'), 1.0, plain, platform != 'cpu'),
    (what.format('accelerator, bfloat16'), 1.0, half, platform != 'cpu'),
  ]
  return [
    judge(
      name,
      '<=',
      bound,
      row.get('times_torch') if here else None,
      noisy(row, 'step', 'torch'),
    )
    for name, bound, row, here in wanted
  ]


def judge(what, sign, bound, value, spoiled) -> dict:
  """A goal with its number (None: not measured) and verdict."""
  if value is None:
    verdict = 'not measured'
  elif spoiled:
    verdict = 'not judged: noisy'
  else:
    met = value >= bound if sign == '>=' else value <= bound
    verdict = 'met' if met else 'NOT MET'
  return {'goal': f'{what} {sign} {bound:g}', 'value': value, 'verdict': verdict}


def table(found: Sequence[dict]) -> report.Table:
  """Builds the table of goals, a row for each result of `judge`."""
  rows = [
    [g['goal'], '-' if g['value'] is None else g['value'], g['verdict']] for g in found
  ]
  return report.Table(('goal', 'measured', 'verdict'), rows)
