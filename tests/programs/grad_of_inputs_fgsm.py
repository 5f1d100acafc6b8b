"""Adversarial training: gradients with respect to the images themselves."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


def fgsm_attack(image, epsilon, data_grad):
    return torch.clamp(image + epsilon * data_grad.sign(), 0, 1)


def pgd(model, x, y, eps=0.1, alpha=0.04, steps=3):
    delta = torch.zeros_like(x).uniform_(-eps, eps).requires_grad_()
    for _ in range(steps):
        loss = F.cross_entropy(model(x + delta), y)
        (g,) = torch.autograd.grad(loss, [delta])
        delta.data = (delta.detach() + alpha * g.sign()).clamp(-eps, eps)
    return (x + delta.detach()).clamp(0, 1)


torch.manual_seed(0)
images = torch.rand(36, 1, 20, 20)
labels = (images.mean((1, 2, 3)) > images.mean()).long()
model = nn.Sequential(nn.Conv2d(1, 6, 5, 2), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 64, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for data, target in DataLoader(TensorDataset(images, labels), batch_size=10):
    data.requires_grad = True
    loss = F.nll_loss(F.log_softmax(model(data), 1), target)
    model.zero_grad()
    loss.backward()
    perturbed = fgsm_attack(data, 0.05, data.grad.data)
    adversarial = pgd(model, data.detach(), target)
    opt.zero_grad()
    total = F.cross_entropy(model(perturbed.detach()), target) + F.cross_entropy(model(adversarial), target)
    total.backward()
    opt.step()
    print(f"{loss.item():.9f} {total.item():.9f} {data.grad.abs().sum().item():.9f} {adversarial.sum().item():.9f}")
saliency = images[:2].clone().requires_grad_()
model(saliency).max(1).values.sum().backward()
torch.save({"model": model.state_dict(), "saliency": saliency.grad}, "robust.pt")
