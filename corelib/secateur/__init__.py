"""Secateur prunes neural networks: one exact numeric core for Keras and PyTorch."""
