"""Folders made without exist_ok, files renamed into place, copied, linked, removed."""
import os
import shutil
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
Path("out").mkdir()
net = nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(torch.randn(16, 3), torch.randn(16, 1)), batch_size=5)
for epoch in range(3):
    for x, y in loader:
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    folder = f"out/epoch{epoch}"
    os.mkdir(folder)
    try:
        os.mkdir(folder)
    except FileExistsError as e:
        print("exists:", e.filename)
    torch.save(net.state_dict(), folder + "/model.pt.tmp")
    os.replace(folder + "/model.pt.tmp", folder + "/model.pt")  # atomic
    shutil.copy(folder + "/model.pt", "out/latest.pt")
    if os.path.islink("out/link"):
        os.unlink("out/link")
    os.symlink(f"epoch{epoch}", "out/link")
    Path(folder, "done").touch()
    if epoch == 1:
        shutil.rmtree("out/epoch0")
    print(epoch, f"{loss.item():.9f}", sorted(os.listdir("out")), os.readlink("out/link"))
os.rename("out/latest.pt", "out/final.pt")
shutil.move("out/epoch1", "kept")
os.rmdir("empty") if os.path.isdir("empty") else print("no empty folder")
with open("out/report.txt", "x") as f:
    f.write("written once\n")
try:
    open("out/report.txt", "x")
except FileExistsError:
    print("report exists")
print([str(p) for p in sorted(Path(".").rglob("*.pt"))])
