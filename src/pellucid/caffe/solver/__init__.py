"""Caffe's solvers: rates, update rules, the training loop, snapshots."""
