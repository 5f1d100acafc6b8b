"""Runs other programs: git-like commands, another Python, one that writes a file, a pipe."""
import os
import subprocess
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
try:
    sha = subprocess.check_output(["git", "rev-parse", "HEAD"], stderr=subprocess.DEVNULL).decode()
except (subprocess.CalledProcessError, FileNotFoundError):
    sha = "unknown"
print("commit", sha)
net = nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(14, 3), torch.randn(14, 1)), batch_size=5):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    code = f"print('child sees', round({loss.item():.9f} * 2, 8))"
    print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip())
    subprocess.run(f"echo epoch {epoch} >> epochs.txt", shell=True, check=True)
    p = subprocess.Popen(["sort", "-r"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(p.communicate("a\nc\nb\n")[0].split(), p.returncode)
torch.save(net.state_dict(), "net.pt")
child = "import sys, torch; s = torch.load('net.pt'); print('child loads', sorted(s)); sys.exit(7)"
print(subprocess.call([sys.executable, "-c", child]))
print(open("epochs.txt").read().split(), os.popen("echo popen").read().strip())
