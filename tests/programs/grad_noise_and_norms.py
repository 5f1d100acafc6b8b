"""The script reads, logs and changes .grad between backward and step."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(5, 9), nn.ELU(), nn.Linear(9, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
flat = None
for step, (x, y) in enumerate(DataLoader(TensorDataset(torch.randn(52, 5), torch.randint(0, 2, (52,))), batch_size=8)):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    for name, p in net.named_parameters():
        print(f"  {name:10s} |g| {p.grad.norm().item():.9f} |w| {p.norm().item():.9f} {p.grad.shape == p.shape}")
        p.grad += 0.01 * torch.randn_like(p.grad)
        p.grad.data.copy_(p.grad / (1 + p.grad.norm()))
    vector = torch.cat([p.grad.flatten() for p in net.parameters()])
    if flat is not None:
        print("  cosine with the last", f"{nn.functional.cosine_similarity(vector, flat, dim=0).item():.9f}")
    flat = vector.clone()
    net[2].bias.grad = torch.zeros_like(net[2].bias)
    opt.step()
    print(step, f"{loss.item():.9f}")
weights = nn.utils.parameters_to_vector(net.parameters())
nn.utils.vector_to_parameters(weights * 0.5, net.parameters())
torch.save({"net": net.state_dict(), "vector": weights.detach()}, "noisy_grads.pt")
