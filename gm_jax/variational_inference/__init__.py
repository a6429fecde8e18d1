"""Variational inference itself, on models of which everything is known exactly.

For every q(z), with ELBO(q) = E_q[log p(x, z) - log q(z)],

  log p(x) = ELBO(q) + KL(q(z) || p(z | x)):

raising the ELBO lowers the KL divergence. Mean-field coordinate ascent takes a q that
is a product and sets one factor after another to its optimum, the others fixed,
q_i(z_i) ~ exp E_{-i}[log p(x, z)]; no step can lower the ELBO. In the two models here,
`linear_gaussian` and `topics`, each side of the identity is computed without the other.

An encoder amortizes all that: instead of an ascent for each x it predicts q from x.
`amortization` measures what is lost by it, for these models and any other ELBO.

Everything is in nats. Sources: Variational Inference: A Review for Statisticians, Blei
et al., 2017, arXiv:1601.00670; An Introduction to Variational Methods for Graphical
Models, Jordan et al., 1999, Machine Learning 37.
"""
