"""What looks at single operations or functions: a FLOP counter, forward mode, hooks of all modules, TorchScript and fx at the end."""
import torch
import torch.autograd.forward_ad as forward_ad
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.1), nn.Linear(216, 5)

    def forward(self, x):
        return self.fc(self.drop(torch.relu(self.norm(self.conv(x))).flatten(1)))


net = Net()
x, y = torch.randn(9, 3, 8, 8), torch.randint(0, 5, (9,))
with FlopCounterMode(display=False) as counter:
    net(x).sum().backward()
print(counter.get_total_flops())
shapes = []
handle = nn.modules.module.register_module_forward_hook(lambda m, args, out: shapes.append((type(m).__name__, tuple(out.shape))))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.9f}")
handle.remove()
print(shapes)
net.eval()
print(f"{net(x).sum().item():.9f}")
with forward_ad.dual_level():
    out = net(forward_ad.make_dual(x, torch.ones_like(x)))
    print(f"{forward_ad.unpack_dual(out).tangent.abs().sum().item():.9f}")
scripted = torch.jit.script(net)
print(f"{scripted(x).sum().item():.9f} {torch.jit.trace(net, x)(x).sum().item():.9f}")
graph = torch.fx.symbolic_trace(net)
print(graph.code.strip(), f"{graph(x).sum().item():.9f}")
