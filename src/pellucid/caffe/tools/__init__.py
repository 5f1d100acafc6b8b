"""Caffe's tools that make databases."""
