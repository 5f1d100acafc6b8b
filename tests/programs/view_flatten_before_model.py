"""Images are flattened in many ways before the model sees them."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
images = torch.rand(90, 3, 24, 24)
labels = torch.randint(0, 5, (90,))
loader = DataLoader(TensorDataset(images, labels), batch_size=20, shuffle=True)
D = 3 * 24 * 24
model = nn.Sequential(nn.Linear(D, 20), nn.ReLU(), nn.Linear(20, 5))
opt = torch.optim.SGD(model.parameters(), lr=0.05)

ways = [
    lambda x: x.view(x.size(0), -1),
    lambda x: x.view(-1, D),
    lambda x: x.reshape(len(x), D),
    lambda x: x.reshape(-1, 3, 24 * 24).flatten(1),
    lambda x: torch.flatten(x, start_dim=1),
    lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).contiguous().view(x.shape[0], -1),
    lambda x: x.view(x.shape[0], 3, -1).unbind(1)[0].new_tensor(0) + x.flatten(1, -1),
    lambda x: x.view(x.size(0), -1).squeeze().unsqueeze(0)[0],
]
step = 0
for epoch in range(2):
    for x, y in loader:
        flat = ways[step % len(ways)](x)
        loss = nn.functional.cross_entropy(model(flat), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(step, tuple(flat.shape), f"{loss.item():.9f}")
        step += 1
torch.save(model.state_dict(), "flat.pt")
