"""Temporary folders, environment variables, changes of the working directory."""
import io
import os
import sys
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
print(os.path.basename(sys.argv[0]), __name__, os.path.basename(__file__), os.path.basename(os.getcwd()) != "")
print(sys.path[0] == os.path.dirname(os.path.abspath(__file__)), "PELLUCID_WORKER" in os.environ, __doc__.split()[0])
os.environ["MY_RUN"] = "7"
os.makedirs("elsewhere")
os.chdir("elsewhere")
net = nn.Linear(3, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.2)
for i, (x, y) in enumerate(DataLoader(TensorDataset(torch.randn(15, 3), torch.randint(0, 2, (15,))), batch_size=4)):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "w.pt")
        torch.save(net.state_dict(), path)
        assert torch.equal(torch.load(path)["bias"], net.bias)
    with tempfile.NamedTemporaryFile("w+", suffix=".txt") as f:
        f.write(f"{loss.item():.9f}")
        f.flush()
        f.seek(0)
        print(i, f.read())
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    net.load_state_dict(torch.load(buffer))
with open("loss.txt", "w") as f:
    f.write(f"{loss.item():.9f} {os.environ['MY_RUN']}\n")
os.chdir("..")
torch.save(net.state_dict(), "net.pt")
print(sorted(os.listdir(".")), os.listdir("elsewhere"))
