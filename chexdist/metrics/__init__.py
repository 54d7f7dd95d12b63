"""How generated images are measured: pure formulae on tensors, numbers with interval and protocol."""
