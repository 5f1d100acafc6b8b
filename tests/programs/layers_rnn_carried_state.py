"""Truncated backpropagation through time: hidden state carried from batch to batch, time first."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)
TEXT = ("in the beginning there was one machine and the machine was small and slow and the people " * 6)[:480]
chars = sorted(set(TEXT))
ids = torch.tensor([chars.index(c) for c in TEXT])


class Pieces(Dataset):
    """Row b of batch i continues row b of batch i - 1."""

    def __init__(self, ids, batch, length):
        self.columns = ids[: len(ids) // batch * batch].view(batch, -1)
        self.batch, self.length = batch, length

    def __len__(self):
        return (self.columns.size(1) - 1) // self.length * self.batch

    def __getitem__(self, i):
        piece, row = divmod(i, self.batch)
        start = piece * self.length
        chunk = self.columns[row, start : start + self.length + 1]
        return chunk[:-1], chunk[1:]


class CharRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(len(chars), 6)
        self.lstm = nn.LSTM(6, 10, num_layers=2)
        self.out = nn.Linear(10, len(chars))

    def forward(self, x, state):
        y, state = self.lstm(self.emb(x), state)
        return self.out(y), state

    def init_state(self, batch):
        w = next(self.parameters())
        return w.new_zeros(2, batch, 10), w.new_zeros(2, batch, 10)


torch.manual_seed(0)
B = 5
loader = DataLoader(Pieces(ids, B, 8), batch_size=B)
model = CharRNN()
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(2):
    state = model.init_state(B)
    for x, y in loader:
        state = tuple(s.detach() for s in state)
        logits, state = model(x.t(), state)
        loss = nn.functional.cross_entropy(logits.reshape(-1, len(chars)), y.t().reshape(-1))
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        opt.step()
        print(epoch, f"{loss.item():.9f} {state[0].norm().item():.9f}")
model.eval()
with torch.no_grad():
    state, token, text = model.init_state(1), torch.zeros(1, 1, dtype=torch.long), ""
    for _ in range(12):
        logits, state = model(token, state)
        token = torch.multinomial(logits[-1].softmax(-1), 1)
        text += chars[token.item()]
print(repr(text))
torch.save(model.state_dict(), "char.pt")
