import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
x = torch.linspace(-3.14, 3.14, 101).unsqueeze(-1)
y = torch.sin(x)
model = torch.nn.Sequential(torch.nn.Linear(1, 20), torch.nn.Tanh(), torch.nn.Linear(20, 1))
loss_fn = torch.nn.MSELoss(reduction="mean")
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
for t in range(30):
    y_pred = model(x)
    loss = loss_fn(y_pred, y)
    if t % 5 == 4:
        print(t, loss.item())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.save(model.state_dict(), "sine.pt")
