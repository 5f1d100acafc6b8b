"""A warning of a forward is shown once, also where modules are tried."""
import sys
import warnings

import torch
from torch import nn

sys.stderr = sys.stdout
warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
torch.manual_seed(0)


class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 4)

    def forward(self, x):
        warnings.warn("this is deprecated", FutureWarning)
        return self.last(x)


model = Old()
for _ in range(24):
    model(torch.randn(8, 4)).sum().backward()
with torch.no_grad():
    model(torch.randn(8, 4))
print("done")
