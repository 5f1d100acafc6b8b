import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, random_split

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
full = ConcatDataset(
    [TensorDataset(torch.randn(40, 5), torch.zeros(40)), TensorDataset(torch.randn(35, 5) + 1, torch.ones(35))]
)
train_set, val_set, test_set = random_split(full, [0.7, 0.2, 0.1], generator=torch.Generator().manual_seed(42))
print(len(train_set), len(val_set), len(test_set), list(test_set.indices))
train = DataLoader(train_set, batch_size=9, shuffle=True)
val = DataLoader(val_set, batch_size=100)
test = DataLoader(Subset(full, test_set.indices), batch_size=3)

net = nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 1))
opt = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)


def evaluate(loader):
    net.eval()
    loss = hits = rows = 0
    with torch.no_grad():
        for x, y in loader:
            logit = net(x).squeeze(-1)
            loss += nn.functional.binary_cross_entropy_with_logits(logit, y, reduction="sum").item()
            hits += ((logit > 0) == (y == 1)).sum().item()
            rows += len(y)
    net.train()
    return loss / rows, hits / rows


for epoch in range(3):
    for x, y in train:
        opt.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x).squeeze(-1), y).backward()
        opt.step()
    print("epoch %d val loss %.9f acc %.4f" % (epoch, *evaluate(val)))
print("test loss %.9f acc %.4f" % evaluate(test))
torch.save(net.state_dict(), "split.pt")
