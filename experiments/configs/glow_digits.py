"""Glow: digits by steps of actnorm, invertible 1x1 convolution and coupling.

  python experiments/main.py --config=experiments/configs/glow_digits.py \
      --workdir=runs/glow_digits

About 25 s on two CPU cores (half of its 48 CPU seconds; others ran beside). The
argument is glow, realnvp (channels reversed in place of a 1x1 convolution) or paper,
the sizes of 32 pixels, whose scale is that of Glow's code. Logits of noisy pixels are
fitted: 93.2 +- 0.6 nats an image of the test split, 2.10 bits a number, a bound by
noise on the levels; of the checkpoint that is best on the validation split (seed 0,
step 700; 1,257 images are overfitted). RealNVP 93.9. Most samples are digits, some with
strokes too many: Frechet 14, 13 of RealNVP. On noisy pixels themselves, without the
logit, it was 2.33 bits, and with a scale sigmoid(s + 2) some samples were far outside
the data. --options=temperature=0.7 of the mode sample multiplies the noise.
"""

from experiments.configs.parts import evaluations, flows, runs

KINDS = {
  'glow': {'function': 'affine', 'mixing': 'linear'},
  'realnvp': {'function': 'affine', 'mixing': 'reverse'},
}
ANOTHER = 'realnvp'  # argument that tests try
make_evaluation = evaluations.likelihoods_and_images


def get_config(arg=None):
  """The config; the argument is glow, realnvp or paper, its sizes of 32 pixels."""
  kinds = {**KINDS, 'paper': {'function': 'sigmoid_affine', 'mixing': 'linear'}}
  kind = runs.choose(kinds, arg or 'glow', 'the argument')
  config = runs.learning('digits?transform=logit', steps=1000, batch_size=64, rate=1e-3)
  flows.keep_best(config)
  config.kind = arg or 'glow'
  config.levels = 2
  config.num_layers = 8  # steps of a level
  config.width = 32  # of the couplings' convolutions
  config.function = kind['function']
  config.mixing = kind['mixing']  # of the channels: 'linear', a 1x1 convolution
  if arg == 'paper':
    config.data = 'glyphs?size=32&mode=RGB&transform=dequantization'
    config.update({'levels': 3, 'num_layers': 32, 'width': 512})
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """A multi-scale flow of images to a standard normal distribution."""
  flows.check_squeezes(config, spec)
  return flows.method(flows.image_layers(config, spec.shape), config, spec, wrap)
