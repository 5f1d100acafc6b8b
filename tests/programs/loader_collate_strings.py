"""Batches are (list of strings, tensor): the script tokenizes by itself."""
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(6)

NAMES = ("Anna Bert Carla Dora Emil Fritz Gerda Hans Ida Jakob Karla Ludwig Marie Norbert "
         "Olga Paul Quirin Rosa Stefan Theo Ulrike").split()


class Names(Dataset):
    def __len__(self):
        return len(NAMES)

    def __getitem__(self, i):
        return NAMES[i], float(NAMES[i][-1] in "ae")


def encode(names, width=8):
    out = torch.zeros(len(names), width, 27)
    for r, name in enumerate(names):
        for c, letter in enumerate(name.lower()[:width]):
            out[r, c, ord(letter) - ord("a")] = 1
    return out.view(len(names), -1)


net = nn.Linear(8 * 27, 1)
sgd = optim.SGD(net.parameters(), lr=0.5)
for epoch in range(3):
    wrong = []
    for names, endings in DataLoader(Names(), batch_size=4, shuffle=True):
        logits = net(encode(names)).squeeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, endings)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        wrong += [n for n, l, e in zip(names, logits, endings) if (l > 0) != (e > 0.5)]
    print(f"epoch {epoch} loss {loss.item():.9f} wrong: {', '.join(wrong)}")
torch.save(net.state_dict(), "names.pt")
