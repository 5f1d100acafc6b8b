"""Gradients of four backward calls make one step; the rest of the epoch makes a last one."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
accumulation_steps = 4
loader = DataLoader(TensorDataset(torch.randn(77, 6), torch.randint(0, 3, (77,))), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
for epoch in range(2):
    optimizer.zero_grad()
    for i, (inputs, labels) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(inputs), labels) / accumulation_steps
        loss.backward()
        norm = torch.sqrt(sum(p.grad.pow(2).sum() for p in model.parameters()))
        print(epoch, i, f"{loss.item() * accumulation_steps:.9f} grad {norm.item():.9f}")
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(loader):
            optimizer.step()
            optimizer.zero_grad()
torch.save(model.state_dict(), "accumulated.pt")
