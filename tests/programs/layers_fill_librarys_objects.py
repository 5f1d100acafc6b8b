"""Modules that fill objects of installed libraries: one that is given, and one that they keep."""
from collections import UserDict

import networkx
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Noting(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.kept, self.counts = networkx.Graph(), UserDict(n=0)

    def forward(self, x, graph):
        graph.add_edge(len(graph), len(graph) + 1)
        self.kept.add_node(len(self.kept))
        self.counts["n"] += 1
        return self.last(x) / len(graph)


net, graph = Noting(), networkx.Graph()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(12):
    loss = net(torch.randn(8, 4), graph).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"{loss.item():.9f}", len(graph), len(net.kept), net.counts["n"])
