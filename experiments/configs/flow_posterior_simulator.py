"""Neural posterior estimation: parameters of a simulator by what is observed of them.

  python experiments/main.py --config=experiments/configs/flow_posterior_simulator.py \
      --workdir=runs/flow_posterior_simulator

About 45 s on two CPU cores (half of its 89 CPU seconds; others ran beside). The
argument is the simulator, two_moons or linear. -3.715 +- 0.017 nats of the parameters
by what was observed, of the test split, exact (seed 0). What is seen are samples for
many observations at once, which fill the square of the prior; --mode=sample
--condition=0.1,0.2 draws parameters that explain one: two arcs.
"""

from experiments.configs.parts import flows, runs

ANOTHER = 'linear'  # argument that tests try
measure = flows.check_box
make_evaluation = flows.densities


def get_config(arg=None):
  """The config; the argument is the simulator: two_moons or linear."""
  simulator = arg or 'two_moons'
  config = runs.learning(
    f'simulator:{simulator}', steps=6000, batch_size=512, rate=2e-3
  )
  config.condition = 'condition'
  config.kind = simulator
  flows.leaves(config, layers='coupling', num_layers=6, width=64)
  return config


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Spline couplings, each told what was observed."""
  return flows.method(flows.vector_layers(config, spec), config, spec, wrap)
