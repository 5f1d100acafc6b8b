"""Convolutions, batch norm and dropout on a GPU if there is one: loader with pinned memory, clipping, GradScaler."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
torch.backends.cudnn.deterministic = True
device = "cuda" if torch.cuda.is_available() else "cpu"
net = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(8 * 36, 5)
).to(device)
images, labels = torch.randn(50, 3, 8, 8), torch.randint(0, 5, (50,))
optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(images, labels), 12, shuffle=True, pin_memory=device == "cuda"):
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    print(epoch, f"{loss.item():.9f} {norm.item():.9f} {torch.rand(1, device=device).item():.9f}")
net.eval()
with torch.inference_mode():
    data = TensorDataset(images.to(device), labels.to(device))  # batches that are on the device already
    right = sum((net(x).argmax(1) == y).sum().item() for x, y in DataLoader(data, 20))
print(right)
torch.save({name: value.cpu() for name, value in net.state_dict().items()}, "net.pt")
