"""Runs a comparison that a paper made, and prints its table beside the paper's.

  python experiments/reproduce.py NAME [--budget=laptop|full] [--data_dir=PATH] \
      [--data=NAME] [--json=PATH] [--out=runs/reproduce]

  stacked          modes of stacked digits that a GAN reaches, by the number k of
                   steps it looks ahead; `full` on stacked MNIST, for an accelerator
  unrolling        where unrolling pays on the ring: high quality and modes by the
                   players' rates, the discriminator's width and k, at equal steps and
                   at equal operations; `full` of the notebook's sizes, for an
                   accelerator
  f_gan_gaussian   a Gaussian fitted to a mixture by every f-divergence, against the
                   optimum by quadrature
  mode_collapse    every remedy on the ring, the grid and stacked digits (stacked MNIST
                   with --data_dir), many seeds at once, beside the papers' rows
  infogan_mi       how much samples tell of InfoGAN's code and of a plain GAN's, and how
                   well codes match classes; `full` also on MNIST and Fashion-MNIST
  conditional_gans how a class enters a GAN, by concatenation, projection or an
                   auxiliary classifier: agreement with the class, diversity within it,
                   on digits and on Gaussians that overlap
  likelihoods      nats and bits of every explicit model on digits, text and melodies;
                   with --data_dir on dynamic and 8-bit MNIST and Fashion-MNIST
  parzen_pitfall   training images and k-means centroids as "samples", whose Parzen
                   window scores beat or equal those of other real images
  parzen_against_ais  decoders of a GAN, a GMMN and an adversarial auto-encoder by
                   annealed importance sampling, beside Parzen windows of their samples
  kde_dimension    the error of a kernel density estimate by dimension
  theory           which laws of a distance hold for what, gradients on parallel
                   lines, the value of the game; nothing is trained
  aae_against_vae  adversarial, Wasserstein and variational auto-encoders at equal
                   budgets on digits and glyphs: samples, reconstructions, codes
  variational      bounds, active units and Frechet distances of variational models of
                   digits, stopped by the validation split's bound; with --data_dir also
                   on dynamically binarized MNIST and Fashion-MNIST
  text_to_image    what a picture shows of its sentence, by attribute, of combinations
                   in training and held out: GAN-CLS, GAN-INT-CLS, StackGAN on glyphs
  dcgan_features   classes read from the maps of a DCGAN's critic by a linear machine,
                   beside an untrained critic's maps and pixels
  translation      images from face to face without pairs: CycleGAN and StarGAN, terms
                   left out, against the truth, and the way back
  flows            flows of toys whose density is known, by layers, and of digits beside
                   NADE, PixelCNN and a VAE with flows; with --data_dir of
                   Fashion-MNIST beside a mixture of diagonal Gaussians
  vectors          flows of a table of numbers beside a Gaussian, zuko's and nflows' own
                   (where installed) and published numbers; an 8-D toy, or --data, as
                   'table:power.npy?recipe=power' (see gm_jax/data/tables.py)
  diffusion        DDPM, EDM, flow matching and VDM on digits: Frechet distances by
                   sampler and number of steps, beside that of the training split, and
                   VDM's bound beside NADE and PixelCNN
  inpainting       digits of which a part is hidden, completed by replacement, RePaint
                   and particles: errors, spread, agreement with the class
  guidance         samples by class and how they are guided: fidelity against diversity,
                   of digits, glyphs and, with --data_dir, Fashion-MNIST
  energy           energy-based models: densities of the plane, samples, classes by few
                   labels, held-out classes as outliers, an RBM beside exact models;
                   with --data_dir MNIST against Fashion-MNIST, both directions
  growth           Progressive GAN grown and not, at equal operations and equal seconds
  variational_inference
                   evidence, bounds and mean fields of models where all is known, and
                   the gaps of encoders

--json=PATH keeps every number and the printed tables in a file, whose tables of other
names stay; `--json=docs/results/NAME.json`, then experiments/results.py, renews a page.

On two CPU cores the laptop's budget is about fourteen minutes for `stacked`, eight
for `unrolling`, ten for `f_gan_gaussian`, nineteen for `mode_collapse`, twenty for
`likelihoods` (with --data_dir up to two hours more), nine for `aae_against_vae`, two
for `variational_inference`, one for `theory` and the kernels.
Exit codes: 0 done, 1 the run or its data went wrong, 2 the command did.
"""

import pathlib
import sys

from absl import app, flags, logging

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for experiments.ledger

from experiments import results  # noqa: E402

_BUDGET = flags.DEFINE_enum('budget', 'laptop', ['laptop', 'full'], 'What to afford.')
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Folder of prepared data sets.')
_DATA = flags.DEFINE_string('data', None, "Data set of 'vectors'.")
_JSON = flags.DEFINE_string('json', None, 'File for numbers and tables.')
_OUT = flags.DEFINE_string('out', 'runs/reproduce', 'Folder for pictures.')


def _fail(message: str, code: int):
  """Ends with one line on stderr."""
  print('error:', ' '.join(message.split()), file=sys.stderr)
  sys.exit(code)


def _parse(argv):
  """Flags; whatever is wrong with them is one line and exit code 2."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    _fail(str(error), 2)


def _stacked() -> dict:
  from experiments.ledger import stacked

  out = pathlib.Path(_OUT.value)
  return stacked.run(_BUDGET.value, data_dir=_DATA_DIR.value, out=out)


def _unrolling() -> dict:
  from experiments.ledger import unrolling

  return unrolling.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _f_gan_gaussian() -> dict:
  from experiments.ledger import f_gan_gaussian

  return f_gan_gaussian.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _mode_collapse() -> dict:
  from experiments.ledger import mode_collapse

  out = pathlib.Path(_OUT.value)
  return mode_collapse.run(_BUDGET.value, data_dir=_DATA_DIR.value, out=out)


def _infogan_mi() -> dict:
  from experiments.ledger import infogan_mi

  out = pathlib.Path(_OUT.value)
  return infogan_mi.run(_BUDGET.value, data_dir=_DATA_DIR.value, out=out)


def _conditional_gans() -> dict:
  from experiments.ledger import conditional_gans

  return conditional_gans.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _likelihoods() -> dict:
  from experiments.ledger import likelihoods

  out = pathlib.Path(_OUT.value)
  return likelihoods.run(_BUDGET.value, data_dir=_DATA_DIR.value, out=out)


def _parzen_pitfall() -> dict:
  from experiments.ledger import kernels

  return kernels.pitfall(data_dir=_DATA_DIR.value, out=pathlib.Path(_OUT.value))


def _parzen_against_ais() -> dict:
  from experiments.ledger import decoders

  return decoders.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _kde_dimension() -> dict:
  from experiments.ledger import kernels

  return kernels.dimension(out=pathlib.Path(_OUT.value))


def _theory() -> dict:
  from experiments.ledger import theory

  return theory.run(out=pathlib.Path(_OUT.value))


def _variational() -> dict:
  from experiments.ledger import variational

  out = pathlib.Path(_OUT.value)
  return variational.run(_BUDGET.value, data_dir=_DATA_DIR.value, out=out)


def _aae_against_vae() -> dict:
  from experiments.ledger import aae_against_vae

  return aae_against_vae.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _text_to_image() -> dict:
  from experiments.ledger import text_to_image

  return text_to_image.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _dcgan_features() -> dict:
  from experiments.ledger import dcgan_features

  return dcgan_features.run(_BUDGET.value, data_dir=_DATA_DIR.value)


def _translation() -> dict:
  from experiments.ledger import translation

  return translation.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _growth() -> dict:
  from experiments.ledger import growth

  return growth.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _flows() -> dict:
  from experiments.ledger import flows

  out = pathlib.Path(_OUT.value)
  return flows.run(_BUDGET.value, data_dir=_DATA_DIR.value, out=out)


def _vectors() -> dict:
  from experiments.ledger import vectors

  return vectors.run(_BUDGET.value, data=_DATA.value)


def _diffusion() -> dict:
  from experiments.ledger import diffusion

  return diffusion.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _inpainting() -> dict:
  from experiments.ledger import inpainting

  return inpainting.run(_BUDGET.value, out=pathlib.Path(_OUT.value))


def _guidance() -> dict:
  from experiments.ledger import guidance

  out = pathlib.Path(_OUT.value)
  return guidance.run(_BUDGET.value, out=out, data_dir=_DATA_DIR.value)


def _energy() -> dict:
  from experiments.ledger import energy

  out = pathlib.Path(_OUT.value)
  return energy.run(_BUDGET.value, out=out, data_dir=_DATA_DIR.value)


def _variational_inference() -> dict:
  from experiments.ledger import variational_inference

  return variational_inference.run(out=pathlib.Path(_OUT.value))


# Each prints its tables and returns them with every number.
COMMANDS = {
  'stacked': _stacked,
  'unrolling': _unrolling,
  'f_gan_gaussian': _f_gan_gaussian,
  'mode_collapse': _mode_collapse,
  'infogan_mi': _infogan_mi,
  'conditional_gans': _conditional_gans,
  'likelihoods': _likelihoods,
  'parzen_pitfall': _parzen_pitfall,
  'parzen_against_ais': _parzen_against_ais,
  'kde_dimension': _kde_dimension,
  'theory': _theory,
  'aae_against_vae': _aae_against_vae,
  'variational': _variational,
  'text_to_image': _text_to_image,
  'translation': _translation,
  'dcgan_features': _dcgan_features,
  'diffusion': _diffusion,
  'inpainting': _inpainting,
  'guidance': _guidance,
  'energy': _energy,
  'flows': _flows,
  'growth': _growth,
  'vectors': _vectors,
  'variational_inference': _variational_inference,
}


def main(argv):
  logging.set_verbosity(logging.ERROR)
  known = ', '.join(COMMANDS)
  if len(argv) != 2:
    _fail(f'expected one comparison of: {known}; got {len(argv) - 1}', 2)
  if argv[1] not in COMMANDS:
    _fail(f'unknown comparison {argv[1]!r}; there are: {known}', 2)
  if _DATA.present and argv[1] != 'vectors':
    _fail(f'--data is of vectors alone; {argv[1]} has data sets of its own', 2)
  wrong = _JSON.value and results.check_target(_JSON.value)
  if wrong:
    _fail(wrong, 2)
  try:
    pathlib.Path(_OUT.value).mkdir(parents=True, exist_ok=True)
  except OSError as error:
    _fail(f'--out={_OUT.value} is no folder and cannot be made: {error.strerror}', 2)
  _run(COMMANDS[argv[1]], argv)


def _run(command, argv):
  from gm_jax.data import dataset
  from gm_jax.training import launch, loop, setup

  launch.use_compilation_cache()
  try:
    numbers = command()
    if _JSON.value:
      chosen = [flags.FLAGS['budget'].serialize()] if _BUDGET.present else []
      if _DATA.value:
        from experiments.ledger import vectors

        chosen.append(f"--data='{vectors.without_path(_DATA.value)}'")
      line = results.command_line(argv, chosen, data=_DATA_DIR.present)
      results.save(pathlib.Path(_JSON.value), line, numbers.pop('tables'), numbers)
      print(f'numbers: {_JSON.value}')
  except setup.UsageError as error:
    _fail(str(error), 2)
  except (dataset.DataError, loop.Diverged, OSError, results.ResultsError) as error:
    _fail(str(error), 1)
  except loop.Stopped as error:
    _fail(str(error), 128 + error.signum)


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
