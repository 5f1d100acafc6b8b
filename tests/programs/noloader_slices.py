"""Batches cut by hand from whole tensors, with a permutation per epoch; a test in chunks."""
import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
np.random.seed(0)
torch.manual_seed(0)
X = torch.tensor(np.random.randn(83, 1, 12, 12))
Y = torch.tensor(np.random.randint(0, 4, 83))
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(100, 4))
opt = torch.optim.Adam(model.parameters(), lr=0.01)
batch_size = 20
for epoch in range(2):
    model.train()
    permutation = torch.randperm(X.size()[0])
    for i in range(0, X.size()[0], batch_size):
        indices = permutation[i : i + batch_size]
        batch_x, batch_y = X[indices], Y[indices]
        opt.zero_grad()
        outputs = model(batch_x)
        loss = nn.functional.cross_entropy(outputs, batch_y)
        loss.backward()
        opt.step()
        print(epoch, i, len(batch_x), f"{loss.item():.9f}")
    model.eval()
    with torch.no_grad():
        hits = sum((model(a).argmax(1) == b).sum().item() for a, b in zip(X.split(30), Y.split(30)))
    print("right", hits)
torch.save(model.state_dict(), "slices.pt")
