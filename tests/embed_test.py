"""Embedded captions: those of numpy, read as conditions; wrong files are a line."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import numpy_bert
import pytest

from experiments import embed, sentence_encoder
from gm_jax.data import npz

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXTS = {
  'train': ['a red heart', 'a blue train', 'a face', 'a ' * 30 + 'heart'],
  'validation': ['a round red face and a blue heart'],
  'test': ['train', ''],
}
LIMIT = 24


def captioned(**changes):
  arrays = {f'text_{split}': np.array(texts) for split, texts in TEXTS.items()}
  for split, texts in TEXTS.items():
    arrays[f'x_{split}'] = np.full((len(texts), 4, 4, 1), len(split), np.uint8)
  return arrays | changes


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('encoder')
  numpy_bert.write(folder, prefix='bert.')
  return folder


def expected(texts):
  arrays = numpy_bert.random_arrays()
  rows = [numpy_bert.encode(text) for text in texts]
  rows = [[*row[: LIMIT - 1], 3] if len(row) > LIMIT else row for row in rows]
  return [numpy_bert.features(arrays, numpy_bert.CONFIG, row) for row in rows]


def test_a_copy_of_the_file_has_conditions_that_the_source_reads(
  folder, tmp_path, capsys
):
  path, out = tmp_path / 'in.npz', tmp_path / 'out.npz'
  np.savez_compressed(path, **captioned(), another=np.arange(3))
  assert embed.main([str(folder), str(path), str(out)]) == 0
  printed = capsys.readouterr()
  assert '4 condition_train of 6, 1 condition_validation of 6' in printed.out
  assert printed.err == 'warning: 1 of 4 sentences are cut to 24 tokens\n'
  with np.load(out) as made, np.load(path) as before:
    assert made.zip.testzip() is None
    for name in before.files:
      np.testing.assert_array_equal(made[name], before[name])
    assert len(made.files) == len(before.files) + 3
    for split, texts in TEXTS.items():
      assert made[f'condition_{split}'].dtype == np.float32
      np.testing.assert_allclose(made[f'condition_{split}'], expected(texts), atol=1e-5)
    data = npz.npz(str(out))
    assert data.spec.parts['condition'].shape == (6,)
    read = data.arrays('train', 4)['condition']
    np.testing.assert_array_equal(read, made['condition_train'])
  assert [p.name for p in sorted(tmp_path.iterdir())] == ['in.npz', 'out.npz']


def test_lines_become_rows_in_their_order(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(sentence_encoder, 'BLOCK', 3)
  monkeypatch.setattr(sentence_encoder, 'TOKENS', 32)
  texts = ['a', 'a red ' * 9, 'blue', 'train and face', 'heart ' * 15, 'face', 'red']
  path, out = tmp_path / 'in.txt', tmp_path / 'out.npy'
  path.write_bytes('\r\n'.join(['\ufeff' + texts[0], *texts[1:], '', '']).encode())
  assert embed.main([str(folder), str(path), str(out)]) == 0
  found = np.load(out)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected(texts), atol=1e-5)


@pytest.mark.slow
def test_the_command_is_the_function(folder, tmp_path):
  path, out = tmp_path / 'in.txt', tmp_path / 'out.npy'
  command = [sys.executable, ROOT / 'experiments' / 'embed.py', folder, path, out]
  for content, code in (('', 1), ('a red heart\n', 0)):
    path.write_text(content)
    # Elsewhere and with no path: the command finds the package by itself.
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run(
      command, capture_output=True, text=True, timeout=120, cwd=tmp_path,
      env=environment,
    )  # fmt: skip
    assert done.returncode == code and len(done.stderr.splitlines()) == code
    assert out.exists() != bool(code)
  np.testing.assert_allclose(np.load(out), expected(['a red heart']), atol=1e-5)


@pytest.mark.parametrize(
  ('names', 'found'),
  [
    (['caption'], ['condition']),
    (['train_captions', 'val_text'], ['train_condition', 'val_condition']),
  ],
)
def test_conditions_are_named_as_their_captions(names, found, tmp_path):
  np.savez(tmp_path / 'in.npz', **{name: np.array([b'a']) for name in names})
  assert list(embed.captions(str(tmp_path / 'in.npz'))) == found


def refused(capsys, *argv, code=1):
  argv = [str(word) for word in argv]
  assert embed.main(argv) == code
  text = capsys.readouterr().err
  assert text.startswith('error: ') and len(text.splitlines()) == 1
  return text


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('in.txt', b'', 'no sentence'),
    ('in.txt', b'a\n\nb\n', 'line 2 is empty'),
    ('in.txt', b'\xff\n', 'not UTF-8'),
    ('in.txt', None, 'no such file'),
    ('in.npz', None, 'no such file'),
    ('in.npz', b'PK\x03\x04 nothing', 'not an .npz file'),
    ('in.npz', {'x': np.ones((2, 3))}, 'no text_train and no text; there is x'),
    ('in.npz', {'text': np.ones((2, 3), int)}, 'expected [N] strings, got [2, 3] int'),
    ('in.npz', {'text': np.array([], 'U3')}, 'expected [N] strings, got [0]'),
    ('in.npz', {'text': np.array([b'\xff'])}, 'text: not UTF-8'),
    ('in.npz', {'text': np.array(['a\ud800'])}, 'text: not UTF-8'),
    ('in.npz', captioned(condition_test=np.ones(2)), 'it has condition_test already'),
    ('in.npz', {'text': TEXTS['test'], 'captions': ['a']}, 'keep one'),
    ('in.npz', {'text': np.array([{}], object)}, 'it holds Python objects'),
  ],
)
def test_wrong_input_is_one_line(folder, tmp_path, capsys, name, content, message):
  path, out = tmp_path / name, tmp_path / ('out' + embed.OUTPUTS[name[2:]])
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif content is not None:
    np.savez(path, **content)
  text = refused(capsys, folder, path, out)
  assert message in text and str(path) in text and not out.exists()


def changed(**changes):
  return json.dumps(numpy_bert.CONFIG | changes).encode()


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    *(
      (name, None, 'no such file of a sentence encoder')
      for name in ('config.json', 'tokenizer.json', 'model.safetensors')
    ),
    ('config.json', b'{', 'not JSON'),
    ('config.json', b'[]', 'expected a JSON dict'),
    ('config.json', b'{}', 'no vocab_size: not the config.json of a BERT encoder'),
    ('config.json', changed(model_type='mpnet'), "is 'mpnet', expected 'bert'"),
    ('config.json', changed(hidden_act='relu'), "is 'relu', expected 'gelu'"),
    ('config.json', changed(hidden_size=-6), 'positive integer, got -6'),
    ('config.json', changed(num_attention_heads=4), '4 heads do not divide'),
    ('config.json', changed(layer_norm_eps='1'), 'layer_norm_eps must be in (0, 1)'),
    ('config.json', changed(vocab_size=11), 'the token 11, and config.json 11 tokens'),
    ('config.json', changed(intermediate_size=12), 'weights of another network'),
    ('config.json', changed(num_hidden_layers=3), 'lacks bert.encoder.layer.2.'),
    ('config.json', changed(max_position_embeddings=2), 'at most 24 tokens are too'),
    ('tokenizer.json', b'{}', 'not a tokenizer'),
    ('model.safetensors', b'0' * 99, 'not a .safetensors file'),
    ('modules.json', b'[{"type": "models.Dense"}]', "a part 'Dense'"),
    ('modules.json', b'{}', 'expected a JSON list'),
    ('1_Pooling/config.json', b'{"pooling_mode_cls_token": true}', 'mode_cls_token'),
    ('sentence_bert_config.json', b'{"max_seq_length": 2}', 'too short'),
  ],
)
def test_wrong_encoders_are_one_line(tmp_path, capsys, name, content, message):
  folder, out = tmp_path / 'encoder', tmp_path / 'out.npy'
  numpy_bert.write(folder, prefix='bert.')
  (tmp_path / 'in.txt').write_text('a red heart\n')
  path = folder / name
  path.parent.mkdir(exist_ok=True)
  path.unlink() if content is None else path.write_bytes(content)
  text = refused(capsys, folder, tmp_path / 'in.txt', out)
  assert message in text and str(folder) in text and not out.exists()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda a: a.astype(int), 'is I64, expected F16, F32 or F64'),
    (lambda a: a * np.nan, 'has values that are not finite'),
  ],
)
def test_wrong_weights_are_one_line(tmp_path, capsys, change, message):
  arrays = numpy_bert.random_arrays()
  arrays['embeddings.LayerNorm.bias'] = change(arrays['embeddings.LayerNorm.bias'])
  numpy_bert.write(tmp_path / 'encoder', arrays)
  (tmp_path / 'in.txt').write_text('a red heart\n')
  text = refused(capsys, tmp_path / 'encoder', tmp_path / 'in.txt', tmp_path / 'o.npy')
  assert f'embeddings.LayerNorm.bias {message}' in text


def test_wrong_commands_are_one_line(folder, tmp_path, capsys):
  text, out = tmp_path / 'in.txt', tmp_path / 'out.npy'
  text.write_text('a\n')
  assert 'expected ENCODER' in refused(capsys, folder, text, code=2)
  assert 'expected ENCODER' in refused(capsys, folder, text, '--fast', code=2)
  assert 'expected .npz or .txt' in refused(capsys, folder, folder, out, code=2)
  assert 'is made .npy' in refused(capsys, folder, text, tmp_path / 'o.npz', code=2)
  assert 'no such folder' in refused(capsys, tmp_path / 'none', text, out)
  assert 'no such folder' in refused(capsys, folder, text, tmp_path / 'none' / 'o.npy')
  assert sorted(p.name for p in tmp_path.iterdir()) == ['in.txt']


def test_missing_libraries_are_one_line(folder, tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tokenizers', None)
  (tmp_path / 'in.txt').write_text('a\n')
  argv = folder, tmp_path / 'in.txt', tmp_path / 'out.npy'
  assert "pip install 'gm_jax[text]'" in refused(capsys, *argv)
