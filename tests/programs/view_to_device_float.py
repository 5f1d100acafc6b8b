"""uint8 images moved to the device and turned to floats; labels of several kinds."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)
raw = torch.randint(0, 256, (70, 1, 40, 40), dtype=torch.uint8)
labels = torch.randint(0, 3, (70,), dtype=torch.int32)
loader = DataLoader(TensorDataset(raw, labels), batch_size=32, shuffle=True)

model = nn.Sequential(
    nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 12, 3)
).double().to(device)
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(2):
    for i, (x, y) in enumerate(loader):
        if i == 0:
            x = x.to(device, non_blocking=True).double().div(255)
            y = y.to(device, non_blocking=True).long()
        elif i == 1:
            x = x.to(device=device, dtype=torch.float64) / 255.0
            y = y.to(torch.int64).to(device)
        else:
            x = x.float().type(torch.DoubleTensor).to(device) / 255.0
            y = y.type(torch.LongTensor).to(device)
        print(x.dtype, x.shape, y.dtype)
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, i, f"{loss.cpu().item():.9f}")
torch.save(model.cpu().state_dict(), "device.pt")
