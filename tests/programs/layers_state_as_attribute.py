"""A recurrent module that keeps its hidden state itself, from call to call, reset by the script."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class StatefulRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(3, 6), nn.Linear(6, 2)
        self.hidden = None

    def reset(self):
        self.hidden = None

    def forward(self, x):
        if self.hidden is None:
            self.hidden = x.new_zeros(x.size(0), 6)
        self.hidden = self.cell(x, self.hidden)
        return self.out(self.hidden)

    def detach(self):
        self.hidden = self.hidden.detach()


torch.manual_seed(0)
net = StatefulRNN()
opt = torch.optim.Adam(net.parameters(), lr=0.02)
for epoch in range(2):
    for seq, y in DataLoader(TensorDataset(torch.randn(26, 5, 3), torch.randint(0, 2, (26,))), batch_size=7, shuffle=True):
        net.reset()
        loss = 0
        for t in range(seq.size(1)):
            out = net(seq[:, t])
            if t == 2:
                net.detach()
            loss = loss + nn.functional.cross_entropy(out, y) / seq.size(1)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, tuple(net.hidden.shape), f"{loss.item():.9f} {net.hidden.sum().item():.9f}")
torch.save(net.state_dict(), "stateful.pt")
