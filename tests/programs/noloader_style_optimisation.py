"""The image is what is trained; the network is frozen (style transfer, deep dream)."""
import torch
import torch.nn.functional as F
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
vgg = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()).requires_grad_(False).eval()
content, style = torch.rand(1, 3, 20, 20), torch.rand(1, 3, 20, 20)


def gram(f):
    b, c, h, w = f.size()
    f = f.view(b * c, h * w)
    return f @ f.t() / (b * c * h * w)


def features(x):
    feats = []
    for layer in vgg:
        x = layer(x)
        feats.append(x)
    return feats


target_content, target_style = features(content)[-1], [gram(f) for f in features(style)]
image = content.clone().requires_grad_(True)
opt = torch.optim.LBFGS([image], max_iter=3)
for run in range(4):

    def closure():
        with torch.no_grad():
            image.clamp_(0, 1)
        opt.zero_grad()
        feats = features(image)
        loss = F.mse_loss(feats[-1], target_content) + 100 * sum(F.mse_loss(gram(f), g) for f, g in zip(feats, target_style))
        loss.backward()
        return loss

    print(run, f"{opt.step(closure).item():.9f}")
adam = torch.optim.Adam([image], lr=0.02)
for step in range(4):
    loss = -vgg(image).norm()
    adam.zero_grad()
    loss.backward()
    adam.step()
    print("dream", f"{loss.item():.9f}")
torch.save(image.detach(), "image.pt")
