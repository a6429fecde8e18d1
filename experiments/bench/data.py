"""Examples a second of every data source, beside PyTorch's DataLoader.

Batches of 128, shuffled, in one process, on the host: nothing is put on a device. The
peer of a source in memory is a TensorDataset over the same raw arrays, in the fastest
of three settings: the DataLoader's own batches, a BatchSampler's lists of indices, and
tensors of indices; each with one thread and with as many as PyTorch likes, which spin
where other work takes the cores. The peer of a streamed source is a Dataset that
decodes the same files, with no and with two workers. All are timed in turn, after what
was prefetched meanwhile is used up, and medians are compared.

Toys are drawn afresh, the peer gathers points drawn before.
"""

import itertools
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from experiments.bench import goals, timing
from gm_jax.data import registry
from gm_jax.training import report

try:
  import torch
except ImportError:
  torch = None

BATCH_SIZE = 128
SECONDS = 0.2  # of each measurement
STREAMED = '?memory=false'
PREFETCHED = 16  # batches, at most, that wait in a stream that decodes
THREADS = torch.get_num_threads() if torch else 1
COLUMNS = {
  'source': 'source',
  'examples/s': 'rate',
  'torch examples/s': 'torch_rate',
  'torch setting': 'torch_setting',
  'x faster': 'times_faster',
  'others, cores': 'others_cores',
}


def make_files(folder: pathlib.Path, *, num: int) -> None:
  """An .npz file, a folder of 32x32 PNG and one of 256x256 JPEG files, and a text."""
  from PIL import Image  # heavy

  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (num, 28, 28), dtype=np.uint8)
  np.savez(folder / 'images.npz', x=x, y=rng.integers(0, 10, num))
  for of, side, suffix in (('icons', 32, 'png'), ('pets', 256, 'jpg')):
    for name in ('cat', 'dog'):
      (folder / of / name).mkdir(parents=True)
      for i in range(num // 20):
        # Smooth, as photographs are: noise would measure the decompression alone.
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((side, side))
        image.save(folder / of / name / f'{i}.{suffix}')
  letters = rng.integers(97, 123, 100 * num, dtype=np.uint8)
  (folder / 'story.txt').write_bytes(letters.tobytes())


def sources(folder: pathlib.Path, data_dir: str | None) -> list[str]:
  """Names of what is measured."""
  names = ['digits', 'toy:ring', f'npz:{folder}/images.npz', f'text:{folder}/story.txt']
  for of in ('icons', 'pets'):
    names += [f'folder:{folder}/{of}', f'folder:{folder}/{of}{STREAMED}']
  if data_dir:
    for name in ('mnist', 'fashion_mnist'):
      if (pathlib.Path(data_dir) / name).is_dir():
        names += [f'tfds:{name}', f'tfds:{name}{STREAMED}']
  return names


def ours(data) -> Iterator[int]:
  """Sizes of our batches, one drawn for each."""
  return (len(batch['x']) for batch in data.batches('train', BATCH_SIZE, seed=0))


def endless(loader) -> Iterator[int]:
  """Sizes of a DataLoader's batches, epoch after epoch."""
  while True:
    yield from (len(batch[0]) for batch in loader)


def gathering_peers(arrays: list) -> dict[str, Iterator[int]]:
  """DataLoaders over arrays in memory, by setting."""
  data = torch.utils.data
  tensors = data.TensorDataset(*(torch.from_numpy(np.array(a)) for a in arrays))
  num = len(tensors)

  class Tensors(data.Sampler):
    def __iter__(self):
      return iter(torch.randperm(num).split(BATCH_SIZE))

    def __len__(self):
      return -(-num // BATCH_SIZE)

  lists = data.BatchSampler(data.RandomSampler(tensors), BATCH_SIZE, False)
  return {
    'batches': endless(data.DataLoader(tensors, BATCH_SIZE, shuffle=True)),
    'index lists': endless(data.DataLoader(tensors, sampler=lists, batch_size=None)),
    'index tensors': endless(
      data.DataLoader(tensors, sampler=Tensors(), batch_size=None)
    ),
  }


def decoding_peers(name: str, data_dir: str | None) -> dict[str, Iterator[int]]:
  """DataLoaders that decode files, by setting."""
  kind, _, where = name.partition('?')[0].partition(':')
  data = Tfds(where, data_dir) if kind == 'tfds' else Files(where)
  return {
    f'{workers} workers': endless(
      torch.utils.data.DataLoader(
        data,
        BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        # A fork of a process with threads, as JAX's is, may hang.
        multiprocessing_context='spawn' if workers else None,
      )
    )
    for workers in (0, 2)
  }


class Files:
  """The image files of a folder, decoded one by one, as PyTorch wants them."""

  def __init__(self, folder: str):
    self.paths = sorted(map(str, pathlib.Path(folder).glob('*/*.*')))

  def __len__(self):
    return len(self.paths)

  def __getitem__(self, index):
    from PIL import Image  # heavy

    with Image.open(self.paths[index]) as image:
      return np.array(image), index


class Tfds:
  """A data source of TensorFlow Datasets, as its guide has it for PyTorch."""

  def __init__(self, name: str, data_dir: str):
    import tensorflow_datasets  # heavy

    self.source = tensorflow_datasets.data_source(
      name, split='train', data_dir=data_dir, download=False
    )

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    example = self.source[index]
    return example['image'], example['label']


def rate(sizes: Iterator[int], waiting: int = 0) -> float:
  """Examples a second, over at least SECONDS and one batch, `waiting` ones left out."""
  for _ in range(waiting):
    next(sizes)
  start, num = time.perf_counter(), 0
  while True:
    num += next(sizes)
    seconds = time.perf_counter() - start
    if seconds >= SECONDS:
      return num / seconds


def measure(name: str, data_dir: str | None, repeats: int) -> dict:
  """Every number about one source."""
  start = time.perf_counter()
  data = registry.load(name, data_dir=data_dir)
  row = {'load_s': time.perf_counter() - start}
  peers = {} if torch is None else peers_of(name, data, data_dir)
  rates: dict[str, list] = {}
  mine = ours(data)
  waiting = PREFETCHED if name.endswith(STREAMED) else 0
  for stream in (mine, *peers.values()):
    list(itertools.islice(stream, 3))  # warm: compiles, spawns workers, fills buffers
  with timing.watch(row):
    for _ in range(repeats):
      rates.setdefault('ours', []).append(rate(mine, waiting))
      for setting, stream in peers.items():
        for threads in sorted({1, THREADS}):
          torch.set_num_threads(threads)
          key = f'{setting}, {threads} threads'
          rates.setdefault(key, []).append(rate(stream, waiting))
  medians = {key: float(np.median(values)) for key, values in rates.items()}
  row |= {'rate': medians.pop('ours'), 'rates': rates}
  if peers:
    best = max(medians, key=medians.get)
    row |= {'torch_rate': medians[best], 'torch_setting': best}
    row['times_faster'] = row['rate'] / row['torch_rate']
  return row


def peers_of(name: str, data, data_dir: str | None) -> dict[str, Iterator[int]]:
  """What a source is measured against, by setting."""
  if name.endswith(STREAMED):
    return decoding_peers(name, data_dir)
  num = 10_000 if data.spec.num_train is None else None
  return gathering_peers(list(data.arrays('train', num).values()))


def conditions() -> dict[str, str]:
  """What the numbers depend on."""
  facts = report.versions()
  facts['cpu cores'] = str(len(timing.cores()))
  facts['load average'] = f'{os.getloadavg()[0]:.1f}'
  facts['torch'] = 'not measured'
  if torch is not None:
    facts['torch'] = f'{torch.__version__}, 1 and {THREADS} threads'
  return facts


def show(numbers: dict) -> None:
  """Prints the table and what it rests on."""
  print(report.text_table(*numbers['tables']['sources']))
  loads = ', '.join(f'{r["source"]} {r["load_s"]:.1f}' for r in numbers['rows'])
  print(f'\nbatch {BATCH_SIZE}; seconds to load: {loads}')
  if torch is None:
    print("PyTorch is not installed: pip install 'gm_jax[bench]'")
  for name, value in numbers['conditions'].items():
    print(f'{name}: {value}')
  timing.show_unclean(numbers['rows'])


def _cell(value):
  return f'{value:,.0f}' if isinstance(value, float) and value >= 1000 else value


def run(*, repeats: int, data_dir: str | None = None, num: int = 20_000) -> dict:
  """Measures, prints, and returns every number and the table.

  Args:
    repeats: measurements of every source and setting.
    data_dir: of TensorFlow Datasets, for MNIST and Fashion-MNIST; left out if None.
    num: images that are made for the .npz file, and a tenth as many PNG files.
  """
  rows = []
  with tempfile.TemporaryDirectory() as made:
    folder = pathlib.Path(made)
    make_files(folder, num=num)
    for name in sources(folder, data_dir):
      short = name.replace(f'{folder}/', '')
      rows.append({'source': short, **measure(name, data_dir, repeats)})
  cells = [list(map(_cell, goals.cells(row, COLUMNS.values()))) for row in rows]
  table = report.Table(list(COLUMNS), cells)
  numbers = {'tables': {'sources': table}, 'rows': rows, 'conditions': conditions()}
  show(numbers)
  return numbers
