"""Images meet loose parameters, outside any module."""
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
g = torch.Generator().manual_seed(0)
images = torch.rand(48, 1, 30, 30, generator=g)
labels = torch.randint(0, 3, (48,), generator=g)

kernel = torch.nn.Parameter(torch.randn(4, 1, 5, 5, generator=g) * 0.2)
W = (torch.randn(4 * 9, 3, generator=g) * 0.1).requires_grad_()
b = torch.zeros(3, requires_grad=True)
params = [kernel, W, b]
optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.5)
torch.manual_seed(1)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(images, labels), batch_size=20, shuffle=True):
        h = F.max_pool2d(F.relu(F.conv2d(x, kernel, stride=2)), 4)
        logits = h.flatten(1) @ W + b
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(epoch, f"{loss.item():.9f}", f"{kernel.grad.norm().item():.9f}")
torch.save({"kernel": kernel, "W": W.detach(), "b": b.data}, "loose.pt")
