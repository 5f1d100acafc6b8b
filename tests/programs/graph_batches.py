"""Message passing over batches of small graphs, put together as one big graph by the collate."""
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
graphs = []
for i in range(26):
    n = int(torch.randint(3, 8, ()))
    edges = torch.randint(0, n, (2, 2 * n))
    graphs.append((torch.randn(n, 4), edges, float(edges.float().std())))


def collate(batch):
    xs, edges, owner, targets, offset = [], [], [], [], 0
    for g, (x, e, t) in enumerate(batch):
        xs.append(x)
        edges.append(e + offset)
        owner.append(torch.full((len(x),), g))
        targets.append(t)
        offset += len(x)
    return {"x": torch.cat(xs), "edge_index": torch.cat(edges, 1), "batch": torch.cat(owner), "y": torch.tensor(targets), "num_graphs": len(batch)}


class MessagePassing(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.message, self.update = nn.Linear(2 * d, d), nn.GRUCell(d, d)

    def forward(self, x, edge_index):
        src, dst = edge_index
        m = torch.relu(self.message(torch.cat([x[src], x[dst]], 1)))
        return self.update(torch.zeros_like(x).index_add(0, dst, m), x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.mp = MessagePassing(4)
        self.out = nn.Linear(4, 1)

    def forward(self, g):
        h = g["x"]
        for _ in range(2):
            h = self.mp(h, g["edge_index"])
        pooled = h.new_zeros(g["num_graphs"], 4).index_add(0, g["batch"], h)
        return self.out(pooled).squeeze(1)


net = Net()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for epoch in range(2):
    for g in DataLoader(graphs, batch_size=6, shuffle=True, collate_fn=collate):
        loss = nn.functional.mse_loss(net(g), g["y"])
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, g["num_graphs"], len(g["x"]), f"{loss.item():.9f}")
torch.save(net.state_dict(), "graphs.pt")
