"""Training of mini, the bundled base model; needs PyTorch and is not in the wheel."""
