"""nn.Transformer: source and target of unlike lengths, teacher forcing, greedy decoding."""
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
PAD, BOS, EOS, VOCAB = 0, 1, 2, 14


class Reverser(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, 8)
        self.pos = nn.Parameter(torch.randn(12, 1, 8) * 0.1)
        self.transformer = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0)
        self.generator = nn.Linear(8, VOCAB)

    def forward(self, src, trg):
        mask = nn.Transformer.generate_square_subsequent_mask(trg.size(0))
        out = self.transformer(
            self.emb(src) + self.pos[: src.size(0)],
            self.emb(trg) + self.pos[: trg.size(0)],
            tgt_mask=mask,
            src_key_padding_mask=(src == PAD).t(),
            tgt_key_padding_mask=(trg == PAD).t(),
            memory_key_padding_mask=(src == PAD).t(),
        )
        return self.generator(out)


def collate(words):
    src = pad_sequence([torch.tensor(w) for w in words], padding_value=PAD)
    trg = pad_sequence([torch.tensor([BOS, *w[::-1], EOS]) for w in words], padding_value=PAD)
    return src, trg  # both (time, batch)


torch.manual_seed(0)
words = [torch.randint(3, VOCAB, (int(n),)).tolist() for n in torch.randint(2, 7, (32,))]
model = Reverser()
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
criterion = nn.CrossEntropyLoss(ignore_index=PAD)
for epoch in range(2):
    model.train()
    for src, trg in DataLoader(words, batch_size=7, shuffle=True, collate_fn=collate):
        logits = model(src, trg[:-1])
        loss = criterion(logits.reshape(-1, VOCAB), trg[1:].reshape(-1))
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, list(src.shape), list(trg.shape), f"{loss.item():.9f}")
model.eval()
with torch.no_grad():
    src = torch.tensor(words[0]).unsqueeze(1)
    out = torch.tensor([[BOS]])
    for _ in range(6):
        nxt = model(src, out)[-1].argmax(-1, keepdim=True)
        out = torch.cat([out, nxt])
print(out.flatten().tolist())
torch.save(model.state_dict(), "reverser.pt")
