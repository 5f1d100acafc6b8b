"""Domain adaptation style: a labelled and an unlabelled loader, zipped; the shorter one ends it."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
source = TensorDataset(torch.randn(40, 6), torch.randint(0, 2, (40,)))
target = TensorDataset(torch.randn(70, 6) + 0.5)
source_loader = DataLoader(source, batch_size=8, shuffle=True)
target_loader = DataLoader(target, batch_size=11, shuffle=True)

features = nn.Sequential(nn.Linear(6, 10), nn.ReLU())
classifier = nn.Linear(10, 2)
params = list(features.parameters()) + list(classifier.parameters())
opt = torch.optim.SGD(params, lr=0.1)
for epoch in range(2):
    for i, ((xs, ys), (xt,)) in enumerate(zip(source_loader, target_loader)):
        fs, ft = features(xs), features(xt)
        loss_cls = F.cross_entropy(classifier(fs), ys)
        loss_mmd = (fs.mean(0) - ft.mean(0)).pow(2).sum()
        loss = loss_cls + 0.5 * loss_mmd
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, i, len(xs), len(xt), f"{loss_cls.item():.9f} {loss_mmd.item():.9f}")
torch.save([features.state_dict(), classifier.state_dict()], "adapted.pt")
