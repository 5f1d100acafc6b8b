import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
np.random.seed(0)


def mixup_data(x, y, alpha=1.0):
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size()[0])
    mixed_x = lam * x + (1 - lam) * x[index, :]
    return mixed_x, y, y[index], lam


def cutmix_data(x, y, alpha=1.0):
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size(0))
    H, W = x.size(2), x.size(3)
    cut = np.sqrt(1.0 - lam)
    cy, cx = np.random.randint(H), np.random.randint(W)
    y1, y2 = np.clip([cy - int(H * cut) // 2, cy + int(H * cut) // 2], 0, H)
    x1, x2 = np.clip([cx - int(W * cut) // 2, cx + int(W * cut) // 2], 0, W)
    x[:, :, y1:y2, x1:x2] = x[index, :, y1:y2, x1:x2]
    lam = 1 - ((y2 - y1) * (x2 - x1) / (H * W))
    return x, y, y[index], lam


def mixup_criterion(criterion, pred, y_a, y_b, lam):
    return lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b)


loader = DataLoader(
    TensorDataset(torch.rand(70, 3, 20, 20), torch.randint(0, 6, (70,))), batch_size=30, shuffle=True
)
net = nn.Sequential(
    nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 6)
)
criterion = nn.CrossEntropyLoss()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
for epoch in range(4):
    train_loss, correct, total = 0.0, 0.0, 0
    for x, y in loader:
        mix = mixup_data if epoch % 2 == 0 else cutmix_data
        x, y_a, y_b, lam = mix(x, y)
        outputs = net(x)
        loss = mixup_criterion(criterion, outputs, y_a, y_b, lam)
        train_loss += loss.item()
        _, predicted = torch.max(outputs.data, 1)
        total += y.size(0)
        correct += lam * predicted.eq(y_a.data).cpu().sum().double()
        correct += (1 - lam) * predicted.eq(y_b.data).cpu().sum().double()
        opt.zero_grad()
        loss.backward()
        opt.step()
    print("%d Loss: %.9f | Acc: %.6f%%" % (epoch, train_loss, 100.0 * correct / total))
torch.save(net.state_dict(), "mixup.pt")
