"""Groups with own learning rates and decay; rates changed by hand while training."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(7, 14), nn.LayerNorm(14), nn.GELU(), nn.Linear(14, 3))
decay, no_decay = [], []
for name, p in model.named_parameters():
    (no_decay if p.ndim < 2 else decay).append(p)
optimizer = torch.optim.AdamW(
    [
        {"params": decay, "weight_decay": 0.1, "name": "matrices"},
        {"params": no_decay, "weight_decay": 0.0, "lr": 3e-2, "name": "vectors"},
    ],
    lr=1e-2,
    betas=(0.9, 0.95),
)
loader = DataLoader(TensorDataset(torch.randn(50, 7), torch.randint(0, 3, (50,))), batch_size=11, shuffle=True)
step = 0
for epoch in range(3):
    for x, y in loader:
        for group in optimizer.param_groups:
            if group["name"] == "matrices":
                group["lr"] = 1e-2 * min(1.0, (step + 1) / 5)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        print(step, f"{loss.item():.9f}", [round(g["lr"], 6) for g in optimizer.param_groups])
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "groups.pt")
