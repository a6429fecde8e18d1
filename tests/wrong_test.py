"""Everything that can go wrong: each ends soon, in one line that helps.

Every row is a process: it must end with code 2 where the command or the config is
wrong and 1 where what is on disk is, with a single line on stderr that says what is
wrong and what would be right, and must write nothing: not in the home, not in the
current folder, not beside the data, and no working directory. What is wrong with an
existing run leaves its checkpoints as they are, byte by byte. One in ten is started
from nothing, the others are forked from a process that has imported; their seconds
are counted with those of the imports.

Soon is ten seconds of CPU, which tell the same on a busy machine as on a quiet one;
one that waits for what does not come is ended after five minutes.
"""

import json
import os
import pathlib
import queue
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from concurrent import futures
from typing import NamedTuple

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAIN = [sys.executable, str(ROOT / 'experiments' / 'main.py')]
CONFIGS = ROOT / 'experiments' / 'configs'
RING = str(CONFIGS / 'unrolled_gan_ring.py')
GAN = str(CONFIGS / 'gan_ring.py')
F_GAN = str(CONFIGS / 'f_gan_ring.py')
DIGITS = str(CONFIGS / 'gan_digits.py')
CACHE = f'--compilation_cache={ROOT / ".cache" / "jax"}'
SMALL = {
  'steps': 40,
  'steps_per_dispatch': 10,
  'log_every': 10,
  'evaluate_every': 20,
  'sample_every': 40,
  'checkpoint_every': 20,
  'batch_size': 32,
}
SECONDS = 10.0  # of CPU
LIMIT = 300  # of the clock

pytestmark = pytest.mark.drill


class Row(NamedTuple):
  """One wrong command.

  name: what is wrong.
  args: of the command line; '@' is the folder of its files.
  says: what the line must contain.
  code: exit code.
  config: None for none.
  workdir: '@' as above; None for none.
  files: makes the folder of files.
  run: name of the trained run that the workdir is a copy of.
  damage: what is done to the workdir.
  env: of the process.
  """

  name: str
  args: tuple[str, ...]
  says: tuple[str, ...]
  code: int = 2
  config: str | None = RING
  workdir: str | None = '@/../run'
  files: Callable | None = None
  run: str | None = None
  damage: Callable | None = None
  env: dict = {}


def wrong(name, *args, says, **kwargs):
  return Row(name, args, (says,) if isinstance(says, str) else says, **kwargs)


def leaf(setting, *says, name=None, **kwargs):
  return wrong(name or setting, f'--config.{setting}', says=says, **kwargs)


FOUR = {'JAX_NUM_CPU_DEVICES': '4'}
HUGE = str(10**15)

FLAGS = [
  wrong('no config', config=None, says=('--config is missing', '--mode=list')),
  wrong('no workdir', workdir=None, says=('--workdir is missing', 'folder')),
  wrong('empty workdir', workdir='', says=('--workdir is missing', 'folder')),
  wrong('unknown mode', '--mode=trian',
        says=("no mode 'trian'", 'did you mean train', 'One of')),
  wrong('unknown flag', '--wrkdir=x', says=("'wrkdir'", 'Did you mean: workdir')),
  wrong('an argument', 'extra', says=("'extra'", 'begin with --')),
  wrong('flag file not there', '--flagfile=@/no.txt', says='no.txt'),
  wrong('no samples', '--mode=sample', '--num_samples=0', says='at least 1, got 0'),
  wrong('best in words', '--best=perhaps', says=('best', 'perhaps')),
  wrong('model_devices=0', '--model_devices=0', says=('by 0', 'must divide 1')),
  wrong('model_devices=3', '--model_devices=3', env=FOUR, says=('by 3', 'divide 4')),
  wrong('split_seeds', '--split_seeds', '--config.seeds=3', env=FOUR,
        says=('3 seeds', '4 devices', 'change seeds')),
  wrong('batch of 30 on 4', '--config.batch_size=30', env=FOUR,
        says=('30 examples', 'multiple of 4')),
  wrong('coordinator alone', '--coordinator=localhost:1', says='belong together'),
  wrong('num_processes alone', '--num_processes=2', says='belong together'),
  wrong('process_index=-1', '--process_index=-1', says=('-1', 'non-negative')),
  wrong('local_processes=0', '--local_processes=0', says='not a positive integer'),
  wrong('process 5 of 2', '--coordinator=localhost:1', '--num_processes=2',
        '--process_index=5', says=('process_id=5', 'process_id < num_processes')),
  wrong('no cluster', '--distributed', says=('cannot join', 'under a cluster')),
  wrong('address without port', '--coordinator=localhost', '--num_processes=1',
        '--process_index=0', says=("'localhost'", 'host:port')),
  wrong('cache is a file', '--compilation_cache=@/file',
        says=('compiled programs', 'file', 'another or none'),
        files=lambda at: (at / 'file').write_text('')),
]  # fmt: skip

LEAVES = [
  leaf('num_unrol=3', 'num_unrol', 'Did you mean "num_unroll"'),
  leaf('data.x=3', '--config.LEAF', 'string'),
  leaf('=3', '--config.LEAF', 'parse'),
  leaf('steps=many', 'steps', "'many'"),
  leaf('steps=', 'steps', "''"),
  leaf('steps=1.5', 'steps', '1.5'),
  leaf('steps=0', 'steps', 'at least 1'),
  leaf(f'steps={10**40}', 'steps must be at least 1 and below 2**31'),
  leaf('seed=-1', 'seed must be at least 0', '-1'),
  leaf(f'seed={2**70}', 'seed + seeds at most 2**31'),
  leaf('seeds=0', 'seeds', 'at least 1'),
  leaf(f'seeds={HUGE}', 'seeds must be at least 1 and below 2**31'),
  leaf(f'seeds={10**9}', '1000000000 seed(s)', 'GiB', 'make it smaller'),
  wrong('a dispatch of all', '--config.steps_per_dispatch=1000000000',
        *(f'--config.{name}_every=0' for name in ('log', 'evaluate', 'sample',
                                                  'checkpoint')),
        says=('steps_per_dispatch', 'GiB', 'make it smaller')),
  leaf('steps_per_dispatch=0', 'steps_per_dispatch', 'at least 1'),
  leaf('steps_per_dispatch=7', 'log_every = 10', 'multiple of steps_per_dispatch = 7'),
  leaf('sample_every=-10', 'sample_every = -10', 'must be 0 or a multiple'),
  leaf('checkpoint_every=25', 'checkpoint_every = 25', 'multiple'),
  leaf('batch_size=0', 'batch_size', 'at least 1'),
  leaf(f'batch_size={HUGE}', 'batch_size', 'GiB', 'make it smaller'),
  leaf('keep_checkpoints=0', 'keep_checkpoints', 'at least 1'),
  leaf('ema_decay=1', 'ema_decay must be in [0, 1)', '1'),
  leaf('ema_decay=-0.1', 'ema_decay must be in [0, 1)', '-0.1'),
  leaf('ema_decay=nan', 'ema_decay must be a finite number', 'nan'),
  leaf('g_learning_rate=0', 'learning rates must be > 0', '0'),
  leaf('g_learning_rate=nan', 'g_learning_rate must be a finite number', 'nan'),
  leaf('d_learning_rate=inf', 'd_learning_rate must be a finite number', 'inf'),
  leaf('d_learning_rate=fast', 'd_learning_rate', "'fast'"),
  leaf('b1=1', 'b1 must be in [0, 1)', '1'),
  leaf('b1=nan', 'b1 must be a finite number', 'nan'),
  leaf('clip=-1', 'clip must be >= 0', '-1'),
  leaf('clip=nan', 'clip must be a finite number', 'nan'),
  leaf('warmup_steps=-1', 'warmup_steps must be >= 0', '-1'),
  leaf('warmup_steps=20000', 'steps of decay', 'warmup_steps'),
  leaf('game=poker', "game = 'poker'", 'one of hinge'),
  leaf('label_smoothing=1', 'smoothing must be in [0, 1)', '1', config=GAN),
  leaf('label_smoothing=-0.1', 'smoothing must be in [0, 1)', '-0.1', config=GAN),
  wrong('smoothing of no labels', '--config.label_smoothing=0.1',
        config=GAN + ':wasserstein', says=('smoothing', 'labels')),
  leaf('divergence=chi2', "divergence = 'chi2'", 'one of alpha_NUMBER, gan, jeffrey',
       config=F_GAN),
  leaf('divergence=alpha_half', "divergence = 'alpha_half'", 'half', config=F_GAN),
  leaf('divergence=weighted_jensen_shannon_3.14', 'pi is the weight', '(0, 1)',
       config=F_GAN),
  leaf('generator=sadle', "generator = 'sadle'", 'saddle, trick', config=F_GAN),
  leaf('unroll_fn=exactly', "unroll_fn = 'exactly'", 'one of full'),
  leaf('on_nan=hope', "on_nan must be 'stop', 'skip' or 'restart'", "'hope'"),
  leaf('fresh=perhaps', 'fresh', 'perhaps'),
  leaf('num_unroll=-1', 'num_unroll must be >= 0', '-1'),
  leaf('best=modes', "best = 'modes'", "'+metric'"),
  leaf('best=+', "best = '+'", "'+metric'"),
  leaf('best=+mods', "best = '+mods'", 'high_quality, modes'),
  wrong('best never evaluated', '--config.best=+modes', '--config.evaluate_every=0',
        says=('best needs evaluate_every > 0', 'got 0')),
  wrong('restart from nothing', '--config.on_nan=restart',
        '--config.checkpoint_every=0', says=('restart', 'checkpoint_every > 0')),
  leaf('r1_gamma=-1', 'r1_gamma must be >= 0', '-1', config=DIGITS),
  leaf('r1_gamma=nan', 'r1_gamma must be a finite number', 'nan', config=DIGITS),
  leaf('num_critic=0', 'num_critic must be >= 1', '0', config=GAN,
       name='num_critic=0'),
  wrong('argument negative', config=RING + ':-3', says=('num_unroll', '>= 0', '-3')),
  wrong('argument of no game', config=GAN + ':poker', says=("'poker'", 'hinge')),
]  # fmt: skip


def data(name, *says, code=2, **kwargs):
  return wrong(f'data {name}', f'--data={name}', says=says, code=code, **kwargs)


NAMES = [
  data('', "''", 'One of'),
  data('mnist', "'mnist'", 'did you mean', 'One of'),
  data('toy:rings', "'toy:rings'", "did you mean 'toy:ring'"),
  data('npz:', 'npz:', 'PATH'),
  data('toy:ring?num_modes=abc', "num_modes='abc'", 'an integer'),
  data('toy:ring?num_mode=8', "'num_mode'", "did you mean 'num_modes'"),
  data('toy:ring?num_modes=0', 'num_modes', 'from 1 to', '0'),
  data('toy:ring?num_modes', "'num_modes'", 'name=value'),
  data('toy:ring?std=1&std=2', "'std'", 'twice'),
  data('toy:ring?std=nan', "std='nan'", 'a number'),
  data('toy:ring?std=-1', 'std', 'from 1e-6'),
  data('digits?transform=sqrt', "'sqrt'", 'scaling'),
  data('toy:moons', "'toy:moons'", 'toy:ring or toy:grid'),
  data('digits', 'samples have shape [2]', 'data [8, 8, 1]', 'does not fit'),
  wrong('points into the digits', '--data=toy:ring', config=DIGITS,
        says=("data = 'toy:ring'", 'are not images')),
  data('stacked:toy:ring', 'one channel and 10 classes', 'ring'),
  data('patches:toy:ring', 'patches are cut out of images', 'ring'),
  data('patches:digits?parts=0', 'parts must be from 1 to 16', '0'),
  data('tfds:../../etc/passwd', 'tfds:NAME', '../../etc/passwd'),
  data('tfds:no_such_set', 'no_such_set', 'is not in', 'download_and_prepare()',
       code=1),
  data('folder:@?size=abc', "size='abc'", 'an integer'),
  data('folder:@?size=0', 'size must be from 1', '0'),
  data('folder:@?mode=CMYK', "mode='CMYK'", 'one of L, RGB'),
]  # fmt: skip


def fake_tfds(at, file_format='tfrecord', info=True):
  folder = at / 'mnist' / '3.0.1'
  folder.mkdir(parents=True)
  described = {
    'name': 'mnist',
    'version': '3.0.1',
    'fileFormat': file_format,
    'moduleName': 'tensorflow_datasets.image_classification.mnist',
    'splits': [
      {
        'name': 'train',
        'shardLengths': ['20'],
        'numBytes': '10',
        'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
      }
    ],
  }
  text = json.dumps(described) if info else '{"name"'
  (folder / 'dataset_info.json').write_text(text)
  features = {
    'pythonClassName': 'tensorflow_datasets.core.features.features_dict.FeaturesDict',
    'featuresDict': {
      'features': {
        'image': {
          'pythonClassName': 'tensorflow_datasets.core.features.image_feature.Image',
          'image': {
            'shape': {'dimensions': ['28', '28', '1']},
            'dtype': 'uint8',
            'encodingFormat': 'png',
          },
        }
      }
    },
  }
  (folder / 'features.json').write_text(json.dumps(features))


def prepared(name, *says, files, code=1, data_dir='@'):
  return wrong(
    f'tfds {name}', '--data=tfds:mnist', f'--data_dir={data_dir}', says=says,
    code=code, files=files, config=DIGITS,
  )  # fmt: skip


TFDS = [
  prepared('not there', 'mnist is not in', "tfds.builder('mnist'", 'array_record',
           files=lambda at: None),
  prepared('data_dir a file', 'file', 'download_and_prepare()',
           files=lambda at: (at / 'file').write_text(''), data_dir='@/file'),
  prepared('as tfrecord', 'prepared as tfrecord', 'array_record is needed',
           'download_and_prepare()', files=fake_tfds),
  prepared('damaged info', '3.0.1 cannot be opened',
           files=lambda at: fake_tfds(at, info=False)),
  prepared('without records', '3.0.1', 'train',
           files=lambda at: fake_tfds(at, 'array_record')),
]  # fmt: skip


def npz(name, *says, code=1, option='', config=DIGITS, make=None, **arrays):
  def files(at):
    if make:
      make(at / 'x.npz')
    else:
      np.savez(at / 'x.npz', **{k: v() for k, v in arrays.items()})

  path = f'--data=npz:@/x.npz{option}'
  return wrong(f'npz {name}', path, says=says, code=code, config=config, files=files)


def floats(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def pixels(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def labels(num=40):
  return np.arange(num) % 10


def with_bad(value):
  x = floats(40, 2)
  x[7, 1] = value
  return x


def raw_npz(path, shape='(40, 2)', content=b'', descr='<f4', compress=False, size=None):
  header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
  text = header.encode().ljust(117) + b'\n'
  member = b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text)) + text + content
  kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
  with zipfile.ZipFile(path, 'w', kind) as archive:
    archive.writestr('x.npy', member)


def saved(path, edit):
  np.savez(path, x=floats(40, 2))
  path.write_bytes(edit(bytearray(path.read_bytes())))


def flipped(content):
  content[200] ^= 0xFF  # among the numbers
  return content


def encrypted(content):
  for mark, at in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
    content[content.index(mark) + at] |= 1
  return content


def odd_method(content):
  for mark, at in ((b'PK\x03\x04', 8), (b'PK\x01\x02', 10)):
    content[content.index(mark) + at] = 77
  return content


def said_size(content):
  at = content.index(b'PK\x01\x02') + 24
  content[at : at + 4] = struct.pack('<I', 2**32 - 2)
  return content


def objects():
  return np.array([{'a': 1}] * 40, object)


NPZ = [
  wrong('npz not there', '--data=npz:@/no.npz', code=1,
        says=('no.npz', 'no such file')),
  npz('a text', 'x.npz', 'not an .npz file', make=lambda p: p.write_text('hello')),
  npz('truncated', 'x.npz', 'damaged', make=lambda p: saved(p, lambda c: c[:-100])),
  npz('bad CRC', 'x: cannot be read', 'CRC', make=lambda p: saved(p, flipped)),
  npz('encrypted', 'x: cannot be read', 'encrypted',
      make=lambda p: saved(p, encrypted)),
  npz('unknown compression', 'x: cannot be read', 'compression',
      make=lambda p: saved(p, odd_method)),
  npz('lying size', 'x: cannot be read', make=lambda p: saved(p, said_size)),
  npz('objects', 'x: ', 'Python objects', 'save numbers', x=objects),
  npz('header of 10^12', 'x: ', 'claims 4000000000000 bytes', 'holds 320',
      make=lambda p: raw_npz(p, '(1000000000000,)', bytes(320))),
  npz('header of a negative', 'x: ', 'claims',
      make=lambda p: raw_npz(p, '(-40, -2)', bytes(320))),
  npz('header that is code', 'x: ', 'cannot be read',
      make=lambda p: raw_npz(p, '__import__("os").system("true")', bytes(320))),
  npz('zip bomb', 'x: ', 'claims',
      make=lambda p: raw_npz(p, '(40, 2)', bytes(2**28), compress=True)),
  npz('complex', 'x: ', 'expected numbers', 'complex64',
      x=lambda: floats(40, 2).astype(np.complex64)),
  npz('strings', 'x: ', 'expected numbers', '<U1', x=lambda: np.array(['a'] * 40)),
  npz('NaN', 'x: 1 values are not finite', '[7, 1]', x=lambda: with_bad(np.nan)),
  npz('inf', 'x: 1 values are not finite', '[7, 1]', x=lambda: with_bad(np.inf)),
  npz('empty', 'x: empty', '(0, 2)', x=lambda: floats(0, 2)),
  npz('vector', 'x: expected [N, D]', '[40]', x=lambda: floats(40)),
  npz('too few', '5 examples', 'at least 10', x=lambda: floats(5, 2)),
  npz('unequal', 'y has 39 examples', 'x has 40', x=lambda: floats(40, 2),
      y=lambda: labels(39)),
  npz('ints', 'x: int64', '?levels=256', x=lambda: np.ones((40, 8, 8, 1), int)),
  npz('levels exceeded', 'levels must be from 0 to 15', 'got', option='?levels=16',
      x=lambda: pixels(40, 8, 8, 1)),
  npz('negative pixels', 'levels must be from 0 to 15', 'got -1', option='?levels=16',
      x=lambda: np.full((40, 8, 8, 1), -1)),
  npz('levels of floats', 'floats', "no option 'levels'", option='?levels=16', code=2,
      x=lambda: floats(40, 2)),
  npz('option size', "no option 'size'", 'There are: interval', option='?size=8',
      code=2, x=lambda: floats(40, 2)),
  npz('no x', 'no x', 'there is y', y=labels),
  npz('misspelt', "no use for 'x_trian'", "did you mean 'x_train'",
      x_trian=lambda: floats(40, 2)),
  npz('half split', 'both', 'split all or none', x=lambda: floats(40, 2),
      x_test=lambda: floats(40, 2)),
  npz('no train', 'no x_train', 'there is x_test', x_test=lambda: floats(40, 2)),
  npz('other test shape', 'x_test has examples [3]', 'x_train [2]',
      x_train=lambda: floats(40, 2), x_test=lambda: floats(40, 3)),
  npz('float labels', 'y: expected integers', 'float', x=lambda: floats(40, 2),
      y=lambda: floats(40)),
  npz('29x29 into a DCGAN', '29', 'image size', code=2, x=lambda: pixels(40, 29, 29, 1),
      y=labels),
  npz('not square', 'shape', '[8, 16, 1]', code=2, x=lambda: pixels(40, 8, 16, 1),
      y=labels),
  npz('no test split', 'no split', 'test', 'save x', code=2, y_train=labels,
      x_train=lambda: pixels(40, 8, 8, 1)),
  npz('into the ring', 'no modes to count', 'toy:ring', code=2, config=RING,
      x=lambda: floats(40, 2)),
]  # fmt: skip


def save_image(path, size=(8, 8), mode='L', kind=None, seed=0):
  from PIL import Image

  path.parent.mkdir(parents=True, exist_ok=True)
  array = pixels(*size[::-1], 3) ^ np.uint8(seed)
  Image.fromarray(array).convert(mode).save(path, kind)


def classes(at):
  for name in ('cat', 'dog'):
    for index in range(10):
      save_image(at / name / f'{index}.png', seed=index)


def folder(name, edit, *says, code=1, option='', where='@'):
  def files(at):
    classes(at)
    edit(at)

  return wrong(
    f'folder {name}', f'--data=folder:{where}{option}', says=says, code=code,
    config=DIGITS, files=files,
  )  # fmt: skip


def cut(path, kind, keep=0.6):
  save_image(path, (64, 64), 'RGB', kind)
  content = path.read_bytes()
  path.write_bytes(content[: int(len(content) * keep)])


def huge_png(path):
  def chunk(kind, content):
    crc = struct.pack('>I', zlib.crc32(kind + content))
    return struct.pack('>I', len(content)) + kind + content + crc

  header = struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)
  chunks = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'0'))
  path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunks)


def outside(at):
  save_image(at.parent / 'outside.png')
  (at / 'cat' / 'a.png').symlink_to(at.parent / 'outside.png')


def folder_outside(at):
  (at / 'fox').symlink_to(at.parent / 'cwd')


def looped(at):
  (at / 'cat' / 'a.png').symlink_to(at / 'cat' / 'b.png')
  (at / 'cat' / 'b.png').symlink_to(at / 'cat' / 'a.png')


def emptied(at):
  for path in at.glob('*/*'):
    path.unlink()
    path.with_suffix('.txt').write_text('')


def nested(at):
  save_image(at / 'cat' / 'deep' / '1.png')


FOLDER = [
  folder('not there', lambda at: None, 'no', 'no such folder', where='@/no'),
  folder('without images', emptied, 'without images', 'cat'),
  folder('empty', lambda at: [shutil.rmtree(at / n) for n in ('cat', 'dog')],
         'no images', '.png'),
  folder('empty class', lambda at: (at / 'fox').mkdir(), 'fox', 'class without images'),
  folder('truncated PNG', lambda at: cut(at / 'cat' / 'a.png', 'PNG'), 'cat/a.png',
         'cannot be decoded', option='?size=8'),
  folder('truncated JPEG', lambda at: cut(at / 'cat' / 'a.jpg', 'JPEG'), 'cat/a.jpg',
         'truncated', option='?size=8'),
  folder('text named .png', lambda at: (at / 'cat' / 'a.png').write_text('hello'),
         'cat/a.png', 'not an image'),
  folder('huge header', lambda at: huge_png(at / 'cat' / 'a.png'), 'cat/a.png',
         'claims more than 64 megapixels', option='?size=8'),
  folder('link outside', outside, 'cat/a.png', 'link that leaves the folder'),
  folder('folder link outside', folder_outside, 'fox', 'link that leaves the folder'),
  folder('link loop', looped, 'cat/a.png', 'dead link'),
  folder('a pipe', lambda at: os.mkfifo(at / 'cat' / 'a.png'), 'cat/a.png',
         'neither a file'),
  folder('other size', lambda at: save_image(at / 'cat' / 'a.png', (9, 8)),
         'cat/a.png is 9x8', '?size=32', code=2),
  folder('image beside classes', lambda at: save_image(at / 'a.png'), 'a.png',
         'beside class folders'),
  folder('folder in a class', nested, 'cat/deep', 'images only'),
  folder('train beside others', lambda at: save_image(at / 'train' / '1.png'), 'cat',
         'beside the folder train', 'validation'),
]  # fmt: skip


def text(name, content, *says, code=1, option=''):
  return wrong(
    f'text {name}', f'--data=text:@/a.txt{option}', says=says, code=code,
    files=lambda at: (at / 'a.txt').write_bytes(content),
  )  # fmt: skip


TEXT = [
  wrong('text not there', '--data=text:@/no.txt', says=('no.txt', 'no such file'),
        code=1),
  text('binary', bytes(range(256)) * 100, 'not UTF-8', '0x80'),
  text('empty', b'', 'a.txt: empty'),
  text('short', b'to be or not' * 9, 'too few', '1280 are needed'),
  text('length=0', b'a' * 9999, 'length must be from 1', 'got 0', code=2,
       option='?length=0'),
  text('into the ring', b'to be or not ' * 999, 'samples have shape [2]',
       'does not fit', code=2),
]  # fmt: skip


def config(name, source, *says):
  def files(at):
    content = source.encode() if isinstance(source, str) else source
    (at / 'c.py').write_bytes(content)

  return wrong(f'config {name}', says=says, config='@/c.py', files=files)


BODY = """
from experiments.configs import gan_ring
def get_config(arg=None):
  config = gan_ring.get_config()
  {config}
  return config
def make_method(config, spec, *, wrap):
  {method}
"""

NO_EXAMPLES = """
  import flax.linen as nn
  import optax
  from gm_jax import priors
  from gm_jax.methods import gan
  from gm_jax.models import mlp
  class Mean(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
      return nn.Dense(1)(x).mean()
  tx = wrap(optax.adam(1e-3))
  return gan.gan(mlp.MLP((2,)), Mean(), tx, tx, prior=priors.normal(3))
"""
NO_WIDTH = """
  from gm_jax.losses import discrepancy
  return discrepancy.gaussian(std=0.0)
"""

CONFIG_FILES = [
  wrong('config not there', config='@/no.py', says=('no.py', '--mode=list')),
  wrong('config a folder', config='@', says=('no Python file', '--mode=list')),
  wrong('config a folder named .py', config='@/c.py', files=lambda at:
        (at / 'c.py').mkdir(), says=('no Python file', '--mode=list')),
  config('get_config disagrees',
         'def get_config(arg=None):\n  raise ValueError("no such size")\n',
         'flag --config=', 'ValueError: no such size'),
  config('syntax', 'def get_config(:\n  pass\n', 'config', 'invalid syntax'),
  config('binary', bytes(range(256)), 'config'),
  config('raises', 'raise RuntimeError("boom\\nbang")\n', 'config', 'boom'),
  config('exits', 'import sys\nsys.exit(0)\n', 'ends the program', 'get_config'),
  config('import', 'import no_such_module\n', 'config', 'no_such_module'),
  wrong('config of no such name', config='gan_rings', says=('no name of a config',
        'did you mean gan_ring?', '--mode=list')),
  config('empty', '', 'config', 'get_config'),
  config('recursion', 'def f(): return f()\nf()\n', 'config', 'recursion'),
  config('no make_method', 'from experiments.configs.gan_ring import get_config\n',
         'no make_method(config, spec, *, wrap)'),
  config('get_config raises', 'def get_config(arg=None):\n  return 1 / 0\n', 'config',
         'division by zero'),
  config('returns a number', 'def get_config(arg=None):\n  return 3\n', 'ConfigDict',
         'got 3'),
  config('lacks steps', BODY.format(config='del config.steps', method='pass'),
         "no leaf 'steps' (int)"),
  config('text for steps', BODY.format(config='del config.steps; config.steps = "ten"',
         method='pass'), 'steps must be of type int', "'ten'"),
  config('no method', BODY.format(config='pass', method='return 3'), 'make_method',
         'a Method or Phases, got 3'),
  config('make_method raises', BODY.format(config='pass', method='return 1 / 0'),
         'ZeroDivisionError', 'c.py, line 8', 'division by zero'),
  config('a critic of a batch', BODY.format(config='pass', method=NO_EXAMPLES),
         'one logit an example', 'or [128, 1]', 'got []'),
  config('a kernel of no width', BODY.format(config='pass', method=NO_WIDTH),
         'std must be > 0, got 0.0'),
  config('no wrap', BODY.format(config='pass', method='pass').replace(', *, wrap', ''),
         'in the config', "unexpected keyword argument 'wrap'"),
]  # fmt: skip


def old(name, *args, says, run='plain', **kwargs):
  return wrong(f'run {name}', *args, says=says, run=run, **kwargs)


def damaged_checkpoints(workdir):
  for path in workdir.glob('checkpoints/*/record/metadata'):
    path.write_text('{}')


def damaged_best(workdir):
  for path in workdir.glob('checkpoints/*/state/_METADATA'):
    path.write_text('{}')


def without_average(workdir):
  path = workdir / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'ema_decay': 0.5}))


def gone(name):
  def damage(workdir):
    path = workdir / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()

  return damage


def in_the_way(name, kind='folder'):
  """A folder where there should be a file, or a file where there should be a folder."""

  def damage(workdir):
    path = workdir / name
    if path.exists():
      gone(name)(workdir)
    path.mkdir() if kind == 'folder' else path.write_text('')

  return damage


def written(name, content):
  return lambda workdir: (workdir / name).write_bytes(content)


RUNS = [
  old('of another config', '--config.num_unroll=1', 
      says=('num_unroll = 2 there, 1 asked', 'another --workdir')),
  old('of another config, looked at', '--config.num_unroll=1', '--mode=evaluate',
      says=('num_unroll = 2 there, 1 asked', 'another --workdir')),
  old('of another config file', config=GAN,
      says=('unrolled_gan_ring there, gan_ring asked', 'another --workdir')),
  old('run.json damaged', config=None, damage=written('run.json', b'{'),
      says=('run.json or config.json is damaged', 'give --config')),
  old('config.json damaged', damage=written('config.json', b'{"steps"'),
      says=('config.json is damaged', '--workdir')),
  old('config.json a list', damage=written('config.json', b'[1]'),
      says=('config.json is damaged', '--workdir')),
  old('config.json binary', damage=written('config.json', b'\xff\xfe\x00'),
      says=('config.json is damaged', '--workdir')),
  old('config.json a folder', damage=in_the_way('config.json'),
      says=('config.json is damaged', '--workdir')),
  old('config.json gone', damage=gone('config.json'),
      says=('not the workdir of a run', 'no config.json', 'new or empty')),
  old('best of none', '--mode=evaluate', '--best', says=('no best checkpoint', 'best')),
  old('checkpoints gone, evaluated', '--mode=evaluate', damage=gone('checkpoints'),
      says=('no checkpoints', '--mode=train')),
  old('checkpoints gone, sampled', '--mode=sample', damage=gone('checkpoints'),
      says=('no checkpoints', '--mode=train')),
  old('checkpoints a file', '--config.steps=80', code=1,
      damage=in_the_way('checkpoints', 'file'), says=('cannot write', 'File exists')),
  old('checkpoints damaged, evaluated', '--mode=evaluate', damage=damaged_checkpoints,
      code=1, says=('every checkpoint is damaged', '[40, 20]', 'another --workdir')),
  old('checkpoints damaged, sampled', '--mode=sample', damage=damaged_checkpoints,
      code=1, says=('every checkpoint is damaged', '[40, 20]', 'another --workdir')),
  old('checkpoints damaged, trained', '--config.steps=80', damage=damaged_checkpoints,
      code=1, says=('every checkpoint is damaged', '[40, 20]', 'another --workdir')),
  old('best damaged', '--mode=evaluate', '--best', run='best', damage=damaged_best,
      code=1, says=('is damaged', 'cannot read its state', 'another --workdir')),
  old('checkpoint of another method', '--config.steps=80', '--config.ema_decay=0.5',
      damage=without_average, code=1,
      says=('checkpoint at step 40 does not fit', '.ema', 'another --workdir')),
  old('evaluation.json a folder', '--mode=evaluate', code=1,
      damage=in_the_way('evaluation.json'), says=('cannot write', 'evaluation.json')),
  old('samples.npz a folder', '--mode=sample', code=1,
      damage=in_the_way('samples.npz'), says=('cannot write', 'samples.npz')),
  old('train.csv a folder', '--config.steps=80', code=1, damage=in_the_way('train.csv'),
      says=('cannot write',)),
  old('train.csv binary', '--config.steps=80', code=1,
      damage=written('train.csv', b'\xff\xfe\x00\n\x01\n'),
      says=('train.csv is damaged', 'move it away')),
  old('train.csv of words', '--config.steps=80', code=1,
      damage=written('train.csv', b'step,loss\nten,low\n'),
      says=('train.csv is damaged', 'move it away')),
  old('too many samples', '--mode=sample', f'--num_samples={HUGE}',
      says=(f'num_samples = {HUGE}', 'GiB', 'make it smaller')),
]  # fmt: skip

WORKDIRS = [
  wrong('workdir a file', workdir='@/file', files=lambda at:
        (at / 'file').write_text(''), says=('file', '--workdir')),
  wrong('workdir under a file', workdir='@/file/run', files=lambda at:
        (at / 'file').write_text(''), says=('cannot write', 'another --workdir')),
  wrong('workdir under /proc', workdir='/proc/run', says=('cannot write',
        'another --workdir')),
  wrong('workdir of a very long name', workdir='@/' + 'a' * 300, says=('too long',
        'another --workdir')),
  wrong('workdir a dead link', workdir='@/link',
        files=lambda at: (at / 'link').symlink_to(at / 'no' / 'x'),
        says=('cannot write', 'another --workdir')),
  wrong('workdir of a thesis', workdir='@', says=('not empty', 'new or empty'),
        files=lambda at: (at / 'thesis.tex').write_text('precious')),
  wrong('workdir of two lines', workdir='@/a\nb', says=('not empty', 'new or empty'),
        files=lambda at: ((at / 'a\nb').mkdir(), (at / 'a\nb' / 'c').write_text(''))),
  wrong('evaluate nothing', '--mode=evaluate', says=('no checkpoints', '--mode=train')),
]  # fmt: skip

ROWS = [*FLAGS, *LEAVES, *NAMES, *TFDS, *NPZ, *FOLDER, *TEXT, *CONFIG_FILES, *RUNS,
        *WORKDIRS]  # fmt: skip


def test_the_table_is_long_and_every_row_has_its_name():
  names = [row.name for row in ROWS]
  assert len(names) >= 100 and len(set(names)) == len(names)


def command(row, here):
  """The command line of a row whose files are in `here`."""
  made = [*MAIN, CACHE]
  if row.config is not None:
    made.append(f'--config={row.config}')
  if row.workdir is not None:
    made.append(f'--workdir={row.workdir}')
  if row.config in (RING, GAN, DIGITS):
    leaves = SMALL | ({'num_unroll': 2} if row.config == RING else {})
    leaves |= {'best': '+modes'} if row.run == 'best' else {}
    made += [f'--config.{name}={value}' for name, value in leaves.items()]
  return [part.replace('@', str(here / 'files')) for part in [*made, *row.args]]


def environment(here, **changes):
  quiet = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}
  places = {'HOME': str(here / 'home'), 'TMPDIR': str(here / 'tmp')}
  rest = {k: v for k, v in os.environ.items() if k != 'TFDS_DATA_DIR'}
  return rest | quiet | places | changes


def prepared_folder(here):
  for name in ('home', 'cwd', 'tmp', 'files'):
    (here / name).mkdir(parents=True)
  return here


def run(args, here, **changes):
  """(process that ended, CPU seconds it took)."""
  with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
    process = subprocess.Popen(
      args, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
      env=environment(here, **changes), cwd=here / 'cwd',
    )  # fmt: skip
    limit = threading.Timer(LIMIT, process.kill)
    limit.start()
    _, status, used = os.wait4(process.pid, 0)  # tells the seconds of this one alone
    limit.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    said = [os.pread(f.fileno(), 2**20, 0).decode(errors='replace') for f in (out, err)]
  done = subprocess.CompletedProcess(args, process.returncode, *said)
  return done, used.ru_utime + used.ru_stime


class Forked:
  """A process that forks the launcher's; see `forked`."""

  def __init__(self, here):
    self._here = here
    command = [sys.executable, str(ROOT / 'tests' / 'forked.py')]
    self._process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
      stderr=subprocess.DEVNULL, env=environment(here),
    )  # fmt: skip
    self._importing = float(self._process.stdout.readline())

  def run(self, args, here):
    """(process that ended, CPU seconds it would have taken from nothing)."""
    out, err = here.with_suffix('.out'), here.with_suffix('.err')
    job = {'args': args, 'cwd': str(here / 'cwd'), 'env': environment(here)}
    job |= {'out': str(out), 'err': str(err)}
    print(json.dumps(job), file=self._process.stdin, flush=True)
    code, seconds = self._process.stdout.readline().split()
    said = (path.read_text(errors='replace') for path in (out, err))
    done = subprocess.CompletedProcess(args, int(code), *said)
    return done, self._importing + float(seconds)

  def close(self):
    self._process.stdin.close()
    self._process.wait()


def listing(folder):
  """Every path; the bytecode that Python keeps beside a config file apart."""
  paths = (p.relative_to(folder).as_posix() for p in folder.rglob('*'))
  return {path for path in paths if '__pycache__' not in path}


def contents(folder):
  return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


class Outcome(NamedTuple):
  """What came of a row: `new` are paths that appeared, `seconds` those of CPU."""

  code: int
  lines: list[str]
  out: str
  seconds: float
  new: set[str]
  intact: bool


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """Two small trained runs by name: one plain, one that keeps its best."""
  folder = tmp_path_factory.mktemp('runs')
  for name in ('plain', 'best'):
    row = Row('', (), (), run=name, workdir=str(folder / name))
    done, _ = run(command(row, folder), prepared_folder(folder / f'of {name}'))
    assert done.returncode == 0, done.stderr
  return folder


@pytest.fixture(scope='module')
def outcomes(runs, tmp_path_factory):
  """What came of every row; two at a time."""
  folder = tmp_path_factory.mktemp('wrong')
  forked = queue.SimpleQueue()
  for number in range(2):
    forked.put(Forked(prepared_folder(folder / f'forked {number}')))

  def run_row(row, number, here):
    args = command(row, here)
    if row.env or number % 10 == 0:
      return run(args, here, **row.env)
    one = forked.get()
    try:
      return one.run(args[len(MAIN) :], here)
    finally:
      forked.put(one)

  def outcome(number):
    row, here = ROWS[number], prepared_folder(folder / str(number))
    if row.run:
      shutil.copytree(runs / row.run, here / 'run')
      if row.damage:
        row.damage(here / 'run')
    if row.files:
      row.files(here / 'files')
    before, checkpoints = listing(here), contents(here / 'run' / 'checkpoints')
    done, seconds = run_row(row, number, here)
    intact = checkpoints == contents(here / 'run' / 'checkpoints')
    new = listing(here) - before
    shutil.rmtree(here)
    lines = done.stderr.splitlines()
    return Outcome(done.returncode, lines, done.stdout, seconds, new, intact)

  with futures.ThreadPoolExecutor(2) as pool:
    found = {row.name: pool.submit(outcome, i) for i, row in enumerate(ROWS)}
    found = {name: job.result() for name, job in found.items()}
  for _ in range(2):
    forked.get().close()
  return found


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.name)
def test_wrong_is_one_line_soon_and_nothing_written(row, outcomes):
  outcome = outcomes[row.name]
  shown = '\n'.join(outcome.lines)
  assert outcome.code == row.code, shown or outcome.out
  assert len(outcome.lines) == 1 and shown.startswith('error: '), shown
  assert not [says for says in row.says if says not in shown], shown
  assert 'Traceback' not in outcome.out
  # A run that was there may have been locked, and trimmed to what it goes on from.
  assert not outcome.new - ({'run/.lock'} if row.run else set())
  assert outcome.intact
  assert outcome.seconds <= SECONDS


def small(workdir, *args, **changes):
  """The command of a small run of the ring."""
  leaves = SMALL | {'num_unroll': 2, 'decay_steps': 10**6} | changes
  leaves = [f'--config.{name}={value}' for name, value in leaves.items()]
  return [*MAIN, CACHE, f'--config={RING}', f'--workdir={workdir}', *leaves, *args]


def save_points(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  np.savez(path, x=pixels(40, 8, 8, 1), y=labels())


STRANGE = 'größer = b? & 100% 🎨'


@pytest.mark.parametrize('kind', ['npz', 'folder', 'config'])
def test_paths_of_any_letters_work(kind, tmp_path):
  here = prepared_folder(tmp_path / STRANGE)
  workdir, config, data = here / 'a run', DIGITS, []
  if kind == 'npz':
    save_points(here / 'files' / 'x y?.npz')
    data = [f'--data=npz:{here / "files" / "x y?.npz"}?levels=256']
  elif kind == 'folder':
    classes(here / 'files')
    data = [f'--data=folder:{here / "files"}?']
  else:
    config = shutil.copy(DIGITS, here / 'files' / 'my cönfig.py')
  leaves = [f'--config.{k}={v}' for k, v in (SMALL | {'evaluate_every': 0}).items()]
  args = [*MAIN, CACHE, f'--config={config}', f'--workdir={workdir}', *data, *leaves]
  for mode in ('train', 'sample'):
    done, _ = run([*args, f'--mode={mode}'], here)
    assert done.returncode == 0 and not done.stderr, done.stderr
  assert {'checkpoints', 'samples.npz', 'samples.png'} <= set(os.listdir(workdir))
  assert not any(listing(here / name) for name in ('home', 'cwd', 'tmp'))


def test_a_path_that_is_no_text_is_refused_and_an_ascii_terminal_is_enough(tmp_path):
  here = prepared_folder(tmp_path / 'x')
  done, _ = run(small(os.fsdecode(os.fsencode(tmp_path) + b'/\xff\xfe')), here)
  assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
  assert 'is no UTF-8 text' in done.stderr
  assert [path.name for path in tmp_path.iterdir()] == ['x']
  done, _ = run(small(tmp_path / 'größer'), here, PYTHONIOENCODING='ascii')
  assert done.returncode == 0 and not done.stderr, done.stderr
  assert 'done: ' in done.stdout
