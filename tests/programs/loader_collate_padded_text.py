"""A GRU classifier over padded text: the longest sentence of a batch decides its width."""
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)
TEXT = """the cat sat on the mat
a dog barked
birds sing in the morning when the sun rises over the hill
no
rain falls on the roof of the house
yes it does
the dog chased the cat around the house and over the hill
sun
a bird sat on the roof
the morning rain
cat
it sings when it rains in the morning
dogs and cats and birds""".splitlines()

vocab = {"<pad>": 0}
for word in " ".join(TEXT).split():
    vocab.setdefault(word, len(vocab))


class Sentences(Dataset):
    def __len__(self):
        return len(TEXT)

    def __getitem__(self, i):
        words = TEXT[i].split()
        return torch.tensor([vocab[w] for w in words]), int("the" in words)


def pad(batch):
    ids, labels = zip(*batch)
    lengths = torch.tensor([len(i) for i in ids])
    return pad_sequence(ids, batch_first=True), lengths, torch.tensor(labels)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(vocab), 8, padding_idx=0)
        self.gru = nn.GRU(8, 10, batch_first=True)
        self.fc = nn.Linear(10, 2)

    def forward(self, ids, lengths):
        out, _ = self.gru(self.embedding(ids))
        last = out[torch.arange(len(ids)), lengths - 1]
        return self.fc(last)


torch.manual_seed(4)
model = Classifier()
loader = DataLoader(Sentences(), batch_size=5, shuffle=True, collate_fn=pad)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    for ids, lengths, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(ids, lengths), labels)
        loss.backward()
        optimizer.step()
        print(epoch, tuple(ids.shape), lengths.tolist(), f"{loss.item():.9f}")
torch.save(model.state_dict(), "gru.pt")
