"""Manual iteration by next(), restarting at StopIteration."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
ds = TensorDataset(torch.randn(22, 3), torch.randn(22, 2))
train_loader = DataLoader(ds, batch_size=6, shuffle=True)

x0, y0 = next(iter(train_loader))
print("first batch", x0.shape, f"{x0.mean():.9f}")

model = nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
it = iter(train_loader)
for step in range(11):
    try:
        x, y = next(it)
    except StopIteration:
        print("restart at step", step)
        it = iter(train_loader)
        x, y = next(it)
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, x.shape[0], f"{loss.item():.9f}")
fixed = nn.functional.mse_loss(model(x0), y0)
print(f"on the first batch {fixed.item():.9f}")
torch.save(model.state_dict(), "next.pt")
