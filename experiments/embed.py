"""Embeds captions by a sentence encoder, as conditions of a text-to-image model.

  python experiments/embed.py ENCODER IN.npz OUT.npz
  python experiments/embed.py ENCODER IN.txt OUT.npy

ENCODER is the folder of a BERT sentence encoder as it is published, such as that of
all-MiniLM-L6-v2: config.json, model.safetensors, tokenizer.json. Nothing is downloaded;
the libraries that read them come with pip install 'gm_jax[text]'.
IN.npz has the captions of a data set, as `npz:` reads them: text_train, text_validation
and text_test, or text. OUT.npz is a copy with condition_train ... [N, F] float32 beside
them, which a run takes by `--config.condition=condition`. IN.txt has a sentence a line,
and OUT.npy their features [N, F], in order, for `--mode=sample --condition=OUT.npy`.
Features are the mean over the tokens, divided by its length. Exit codes: 0 done, 1 a
file cannot be used, and nothing is written, 2 the command.
"""

import os
import pathlib
import shutil
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments import sentence_encoder  # noqa: E402
from gm_jax.data import arrays_file, dataset, npz  # noqa: E402

OUTPUTS = {'.npz': '.npz', '.txt': '.npy'}  # by the ending of the input


def captions(path: str) -> dict[str, Sequence[str]]:
  """Reads the captions of an .npz file, by the name of their embedding.

  Raises:
    DataError: there are none, or what there is cannot be embedded.
  """
  held, found = [], {}

  def wanted(_, name):
    held.append(name)
    return npz.NAMES.get(name, ('',))[0] == 'text'

  arrays = arrays_file.read(path, wanted)
  taken = [name for name in held if npz.NAMES.get(name, ('',))[0] == 'condition']
  if taken:
    raise dataset.DataError(f'{path}: it has {taken[0]} already')
  if not arrays:
    have = ', '.join(held[: npz.LISTED]) or 'no array'
    raise dataset.DataError(f'{path}: no text_train and no text; there is {have}')
  for name, array in arrays.items():
    words = [npz.KEYS.get(word, word) for word in name.split('_')]
    renamed = '_'.join('condition' if word == 'text' else word for word in words)
    if renamed in found:
      raise dataset.DataError(f'{path}: {name} and others for {renamed}: keep one')
    found[renamed] = _strings(f'{path}: {name}', array)
  return found


def _strings(what: str, array: np.ndarray) -> np.ndarray:
  if array.ndim == 2 and array.shape[1] == 1:
    array = array[:, 0]
  if array.dtype.kind not in 'US' or array.ndim != 1 or not len(array):
    raise dataset.DataError(
      f'{what}: expected [N] strings, got {list(array.shape)} {array.dtype}'
    )
  try:  # bytes are to be UTF-8, and strings what can be written so
    encoded = array if array.dtype.kind == 'S' else np.char.encode(array, 'utf-8')
    return np.char.decode(encoded, 'utf-8')
  except UnicodeError as error:
    raise dataset.DataError(f'{what}: not UTF-8: {error}') from error


def lines(path: str) -> list[str]:
  """Reads a file of one sentence a line.

  Raises:
    DataError: no such file, no sentence, an empty line, or other bytes than UTF-8.
  """
  if not os.path.isfile(path):
    raise dataset.DataError(f'{path}: no such file')
  try:
    text = pathlib.Path(path).read_text(encoding='utf-8-sig')
  except UnicodeError as error:
    raise dataset.DataError(f'{path}: not UTF-8: {error}') from error
  found = text.rstrip().split('\n')
  empty = [i for i, line in enumerate(found, 1) if not line.strip()]
  if found == ['']:
    raise dataset.DataError(f'{path}: no sentence')
  if empty:
    raise dataset.DataError(f'{path}: line {empty[0]} is empty')
  return found


def _add(source: str, file, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes a copy of an .npz file with more arrays, a piece at a time."""
  try:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, 'w') as new:
      for member in old.infolist():
        info = zipfile.ZipInfo(member.filename, member.date_time)
        info.compress_type = member.compress_type
        with old.open(member) as a, new.open(info, 'w', force_zip64=True) as b:
          shutil.copyfileobj(a, b, 1 << 20)
      for name, array in arrays.items():
        with new.open(f'{name}.npy', 'w', force_zip64=True) as b:
          np.lib.format.write_array(b, array, allow_pickle=False)
  except OSError:
    raise
  except Exception as error:  # of many types, where bytes are damaged
    raise dataset.DataError(f'{source}: cannot be copied: {error}') from error


def run(folder: str, source: str, target: str) -> str:
  """Embeds one file, and returns what was done, in a line.

  Raises:
    ValueError, DataError, OSError: a file cannot be used; the target is untouched.
  """
  begin = time.perf_counter()
  texts = captions(source) if source.endswith('.npz') else {'': lines(source)}
  out = pathlib.Path(target)
  if not out.parent.is_dir() or out.is_dir():
    raise ValueError(f'{target}: cannot be written: no such folder, or a folder')
  encoder = sentence_encoder.load(pathlib.Path(folder))
  features = {
    name: sentence_encoder.embed(encoder, found) for name, found in texts.items()
  }
  partial = out.with_name(f'{out.name}.{os.getpid()}')
  try:
    with open(partial, 'wb') as file:
      if source.endswith('.npz'):
        _add(source, file, features)
      else:
        np.save(file, features[''], allow_pickle=False)
    os.replace(partial, out)
  finally:
    partial.unlink(missing_ok=True)
  counts = ', '.join(
    f'{len(v)} {name}'.rstrip() + f' of {encoder.width}' for name, v in features.items()
  )
  return f'{target}: {counts} numbers, {time.perf_counter() - begin:.1f} s'


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns the exit code."""
  if argv and argv[0] in ('-h', '--help', '--helpfull'):
    print(__doc__.strip())
    return 0
  wrong = ''
  if len(argv) != 3 or any(word.startswith('--') for word in argv):
    wrong = 'expected ENCODER IN.npz OUT.npz or ENCODER IN.txt OUT.npy'
  else:
    ending = OUTPUTS.get(pathlib.Path(argv[1]).suffix)
    if ending is None:
      wrong = f'{argv[1]}: expected .npz or .txt'
    elif pathlib.Path(argv[2]).suffix != ending:
      wrong = f'{argv[2]}: of {argv[1]} is made {ending}'
  if wrong:
    print('error:', ' '.join(wrong.split()), file=sys.stderr)
    return 2
  try:
    print(run(*argv))
  except (dataset.DataError, ValueError, OSError) as error:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
