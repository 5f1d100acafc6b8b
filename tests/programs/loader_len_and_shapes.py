"""Everything a script may ask of a loader and of a batch is that of the whole batch."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
images = torch.rand(50, 3, 32, 32)
labels = torch.randint(0, 10, (50,))
loader = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True)
print(len(loader), len(loader.dataset), loader.batch_size, loader.drop_last, loader.num_workers)

net = nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
opt = None
for epoch in range(2):
    for i, (x, y) in enumerate(loader):
        print(len(x), x.shape, x.size(0), x.size(), x.shape[1:], x.ndim, x.dim(), x.numel())
        print(x.dtype, x.device, x.layout, x.is_contiguous(), x.stride(), x.requires_grad, x.is_leaf)
        print(isinstance(x, torch.Tensor), torch.is_tensor(x), type(x), x.element_size(), x.nbytes)
        print(y.shape, y.dtype, type(y), x.is_floating_point(), x.is_cuda, x.itemsize)
        b, c, h, w = x.shape
        n, *rest = x.size()
        assert (b, n) == (len(y), len(y)) and rest == [c, h, w]
        out = net(x)
        if opt is None:
            opt = torch.optim.SGD(net.parameters(), lr=0.1)
        loss = nn.functional.cross_entropy(out, y, reduction="sum") / b
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(
            "Epoch: {} [{}/{} ({:.0f}%)]\tLoss: {:.9f}".format(
                epoch, i * len(x), len(loader.dataset), 100.0 * i / len(loader), loss.item()
            )
        )
torch.save(net.state_dict(), "shapes.pt")
