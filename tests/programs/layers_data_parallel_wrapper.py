"""nn.DataParallel on a machine without GPUs, as old scripts wrap everything; state_dict with module."""
import torch
import torch.backends.cudnn as cudnn
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
use_cuda = torch.cuda.is_available()
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3))
model = torch.nn.DataParallel(model)
if use_cuda:
    model = model.cuda()
cudnn.benchmark = True
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
print(type(model).__name__, sum(p.numel() for p in model.module.parameters()), torch.cuda.device_count() > 1)
for epoch in range(2):
    for inputs, targets in DataLoader(TensorDataset(torch.rand(29, 3, 12, 12), torch.randint(0, 3, (29,))), batch_size=8, shuffle=True):
        outputs = model(inputs)
        loss = criterion(outputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(epoch, f"{loss.item():.9f}")
torch.save({"net": model.state_dict()}, "ckpt.pth")
print(list(model.state_dict())[0])
