# stderr: ^to stderr.*
"""Carriage returns, flushes, writes to stdout and stderr, and to their file descriptors."""
import os
import sys
import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(torch.randn(20, 4), torch.randn(20, 1)), batch_size=6)
for epoch in range(2):
    for i, (x, y) in enumerate(loader, 1):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(f"\repoch {epoch} {i}/{len(loader)} [{'=' * i}{' ' * (len(loader) - i)}]", end="", flush=True)
        sys.stdout.write(f" {loss.item():.9f}")
    print()
    print(f"to stderr {epoch} {loss.item():.9f}", file=sys.stderr)
    sys.stdout.flush()
    os.write(1, f"by descriptor {epoch}\n".encode())
    os.write(2, b"to stderr by descriptor\n")
    os.system("echo from a shell")
warnings.warn("to stderr a warning")
print(sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno(), "ünïcode ✓")
sys.stdout.buffer.write(b"bytes\n")
