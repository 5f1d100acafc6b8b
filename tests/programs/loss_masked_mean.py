import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(12)
series = [torch.randn(int(n), 2).cumsum(0) for n in torch.randint(3, 15, (26,))]


def collate(batch):
    lengths = torch.tensor([len(s) for s in batch])
    padded = pad_sequence(batch, batch_first=True)
    mask = (torch.arange(padded.size(1)).unsqueeze(0) < lengths.unsqueeze(1)).double()
    return padded, mask


class Forecast(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(2, 7, batch_first=True)
        self.out = nn.Linear(7, 2)

    def forward(self, x):
        y, _ = self.gru(x)
        return x + self.out(y)


model = Forecast()
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    loss_sum = count = 0.0
    for x, mask in DataLoader(series, batch_size=6, shuffle=True, collate_fn=collate):
        pred = model(x[:, :-1])
        error = (pred - x[:, 1:]).pow(2).sum(-1)
        m = mask[:, 1:]
        loss = (error * m).sum() / m.sum().clamp(min=1)
        opt.zero_grad()
        loss.backward()
        opt.step()
        loss_sum += (error * m).sum().item()
        count += m.sum().item()
        print(epoch, x.shape, f"{loss.item():.9f}")
    print(f"per step {loss_sum / count:.9f}")
torch.save(model.state_dict(), "forecast.pt")
