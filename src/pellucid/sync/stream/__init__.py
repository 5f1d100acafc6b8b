"""Boxes that never wait: each trains at its own pace, deltas of chunks flow in the background."""
