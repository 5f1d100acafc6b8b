"""A PINN: derivatives of the network by its inputs, boundary points, no data at all."""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
t_boundary = torch.zeros(1, 1, requires_grad=True)
t_physics = torch.linspace(0, 1, 25).view(-1, 1).requires_grad_(True)
mu, k = 2.0, 20.0
for i in range(12):
    opt.zero_grad()
    u = net(t_boundary)
    loss1 = (u.squeeze() - 1) ** 2
    dudt = torch.autograd.grad(u, t_boundary, torch.ones_like(u), create_graph=True)[0]
    loss2 = (dudt.squeeze() - 0) ** 2
    u = net(t_physics)
    dudt = torch.autograd.grad(u, t_physics, torch.ones_like(u), create_graph=True)[0]
    d2udt2 = torch.autograd.grad(dudt, t_physics, torch.ones_like(dudt), create_graph=True)[0]
    loss3 = torch.mean((d2udt2 + mu * dudt + k * u) ** 2)
    loss = loss1 + 1e-1 * loss2 + 1e-4 * loss3
    loss.backward()
    opt.step()
    print(i, f"{loss.item():.9f} {loss3.item():.9f}")
torch.save(net.state_dict(), "pinn.pt")
