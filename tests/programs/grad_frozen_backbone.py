"""Fine tuning: a frozen backbone in eval mode, a new head, then gradual unfreezing."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


def make_backbone():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


torch.save(make_backbone().state_dict(), "pretrained.pt")
backbone = make_backbone()
print(backbone.load_state_dict(torch.load("pretrained.pt"), strict=True))
for p in backbone.parameters():
    p.requires_grad = False
head = nn.Linear(8, 4)
loader = DataLoader(TensorDataset(torch.rand(44, 3, 16, 16), torch.randint(0, 4, (44,))), batch_size=12, shuffle=True)
opt = torch.optim.Adam(filter(lambda p: p.requires_grad, [*backbone.parameters(), *head.parameters()]), lr=0.01)


def epoch(name):
    for x, y in loader:
        with torch.set_grad_enabled(any(p.requires_grad for p in backbone.parameters())):
            features = backbone(x)
        loss = nn.functional.cross_entropy(head(features), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(name, f"{loss.item():.9f}", features.requires_grad)


backbone.eval()
epoch("frozen")
for layer in list(backbone)[3:]:
    for p in layer.parameters():
        p.requires_grad = True
opt.add_param_group({"params": [p for p in backbone.parameters() if p.requires_grad], "lr": 0.001})
backbone.train()
epoch("half")
print(sum(p.numel() for p in backbone.parameters() if p.requires_grad), "trainable")
torch.save({"backbone": backbone.state_dict(), "head": head.state_dict()}, "finetuned.pt")
