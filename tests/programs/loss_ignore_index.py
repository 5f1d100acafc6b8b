"""Token classification: most labels are ignored, and unevenly so."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Tagged(Dataset):
    def __init__(self):
        g = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(1, 30, (33, 9), generator=g)
        self.labels = self.tokens % 4
        lengths = torch.randint(1, 10, (33,), generator=g)
        for row, n in enumerate(lengths.tolist()):
            self.labels[row, n:] = -100

    def __len__(self):
        return 33

    def __getitem__(self, i):
        return self.tokens[i], self.labels[i]


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(30, 6)
        self.out = nn.Linear(6, 4)

    def forward(self, t):
        return self.out(self.emb(t))


torch.manual_seed(0)
model = Tagger()
opt = torch.optim.Adam(model.parameters(), lr=0.03)
criterion = nn.CrossEntropyLoss(ignore_index=-100)
for epoch in range(3):
    for tokens, labels in DataLoader(Tagged(), batch_size=8, shuffle=True):
        logits = model(tokens)
        loss = criterion(logits.view(-1, 4), labels.view(-1))
        opt.zero_grad()
        loss.backward()
        opt.step()
        keep = labels != -100
        acc = (logits.argmax(-1) == labels)[keep].double().mean()
        print(epoch, int(keep.sum()), f"{loss.item():.9f} {acc.item():.6f}")
torch.save(model.state_dict(), "tags.pt")
