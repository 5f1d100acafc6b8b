"""Caffe's solvers and nets, as ordinary PyTorch programs."""
