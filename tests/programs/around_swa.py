"""torch.optim.swa_utils: AveragedModel, SWALR, update_bn."""
import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(50, 5), torch.randint(0, 3, (50,))), batch_size=12, shuffle=True)
model = nn.Sequential(nn.Linear(5, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
swa_model = AveragedModel(model)
ema_model = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
swa_start, swa_scheduler = 2, SWALR(optimizer, swa_lr=0.05, anneal_epochs=2)
for epoch in range(5):
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        ema_model.update_parameters(model)
    if epoch > swa_start:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    else:
        scheduler.step()
    print(epoch, f"{loss.item():.9f}", optimizer.param_groups[0]["lr"])
update_bn(loader, swa_model)
swa_model.eval()
ema_model.eval()
with torch.no_grad():
    x, y = loader.dataset.tensors
    print(f"{nn.functional.cross_entropy(swa_model(x), y).item():.9f} {ema_model(x).sum().item():.9f}")
torch.save({"swa": swa_model.state_dict(), "ema": ema_model.state_dict(), "n": swa_model.n_averaged}, "swa.pt")
