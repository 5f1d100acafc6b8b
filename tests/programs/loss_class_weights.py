import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
Y = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 60, replacement=True)
X = torch.randn(60, 5) + Y[:, None]
counts = Y.bincount(minlength=3)
weights = counts.sum() / (3.0 * counts)
print("class weights", weights.tolist())
net = nn.Linear(5, 3)
multi = nn.Linear(5, 3)
ce, nll = nn.CrossEntropyLoss(weight=weights), nn.NLLLoss(weight=weights)
bce = nn.BCEWithLogitsLoss(pos_weight=weights)
opt = torch.optim.SGD([*net.parameters(), *multi.parameters()], lr=0.1)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(X, Y), batch_size=14, shuffle=True):
        logits = net(x)
        a, b = ce(logits, y), nll(logits.log_softmax(1), y)
        c = bce(multi(x), nn.functional.one_hot(y, 3).double())
        loss = a + b + c
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{a.item():.9f} {b.item():.9f} {c.item():.9f}")
torch.save([net.state_dict(), multi.state_dict()], "class_weights.pt")
