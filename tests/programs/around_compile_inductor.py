# slow: compiles C++
"""torch.compile as everybody writes it."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3))
model = torch.compile(model)
opt = torch.optim.AdamW(model.parameters(), lr=0.01)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(36, 8), torch.randint(0, 3, (36,))), batch_size=12):
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
unwrapped = model._orig_mod if hasattr(model, "_orig_mod") else model
torch.save(unwrapped.state_dict(), "compiled.pt")
