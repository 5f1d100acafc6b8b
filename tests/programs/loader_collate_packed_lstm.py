import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(8)

lengths = torch.randint(1, 10, (24,))
sequences = [torch.randn(n, 4) for n in lengths.tolist()]
targets = [seq.cumsum(0)[:, 0] for seq in sequences]


def collate(batch):
    batch = sorted(batch, key=lambda pair: len(pair[0]), reverse=True)
    xs, ys = zip(*batch)
    return pad_sequence(xs), pad_sequence(ys), torch.tensor([len(x) for x in xs])


class Tagger(nn.Module):
    def __init__(self, hidden=12):
        super().__init__()
        self.lstm = nn.LSTM(4, hidden, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 1)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths)
        out, (h, c) = self.lstm(packed)
        out, _ = pad_packed_sequence(out)
        return self.head(out).squeeze(-1)


model = Tagger()
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
loader = DataLoader(list(zip(sequences, targets)), batch_size=6, shuffle=True, collate_fn=collate)
for epoch in range(3):
    for x, y, n in loader:
        pred = model(x, n)
        mask = torch.arange(x.size(0))[:, None] < n[None, :]
        loss = ((pred - y) ** 2)[mask].mean()
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        print(epoch, list(x.shape), n.tolist(), f"{loss:.9f}")
torch.save(model.state_dict(), "tagger.pt")
