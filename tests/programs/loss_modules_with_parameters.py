"""Losses that are modules with parameters of their own: center loss and ArcFace."""
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class CenterLoss(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.centers = nn.Parameter(torch.randn(classes, width))

    def forward(self, features, labels):
        batch = features.size(0)
        return (features - self.centers[labels]).pow(2).sum() / 2.0 / batch


class ArcFace(nn.Module):
    def __init__(self, width, classes, s=8.0, m=0.2):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        nn.init.xavier_uniform_(self.weight)
        self.s, self.m = s, m

    def forward(self, features, labels):
        cosine = F.linear(F.normalize(features), F.normalize(self.weight)).clamp(-0.999, 0.999)
        phi = torch.cos(torch.acos(cosine) + self.m)
        one_hot = F.one_hot(labels, cosine.size(1))
        logits = self.s * (one_hot * phi + (1 - one_hot) * cosine)
        return F.cross_entropy(logits, labels), logits


torch.manual_seed(0)
labels = torch.randint(0, 5, (52,))
inputs = torch.randn(52, 9) + labels[:, None] * 0.3
net = nn.Sequential(nn.Linear(9, 12), nn.PReLU(), nn.Linear(12, 4))
center, arc = CenterLoss(5, 4), ArcFace(4, 5)
opt_model = torch.optim.SGD([*net.parameters(), *arc.parameters()], lr=0.05)
opt_center = torch.optim.SGD(center.parameters(), lr=0.5)
alpha = 0.1
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(inputs, labels), batch_size=12, shuffle=True):
        features = net(x)
        arc_loss, logits = arc(features, y)
        center_loss = center(features, y)
        loss = arc_loss + alpha * center_loss
        opt_model.zero_grad()
        opt_center.zero_grad()
        loss.backward()
        for p in center.parameters():
            p.grad.data *= 1.0 / alpha
        opt_model.step()
        opt_center.step()
        print(epoch, f"{arc_loss.item():.9f} {center_loss.item():.9f}", int((logits.argmax(1) == y).sum()))
torch.save([m.state_dict() for m in (net, center, arc)], "margins.pt")
