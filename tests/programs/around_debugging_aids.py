"""What people switch on when something is wrong: anomaly detection, determinism, a profiler, warnings."""
import gc
import time
import warnings

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function, schedule
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
torch.autograd.set_detect_anomaly(True, check_nan=True)
warnings.filterwarnings("ignore")
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(torch.randn(40, 5), torch.randint(0, 2, (40,))), batch_size=6)
start = time.perf_counter()
with profile(activities=[ProfilerActivity.CPU], schedule=schedule(wait=1, warmup=1, active=2)) as prof:
    for i, (x, y) in enumerate(loader):
        with record_function("step"), torch.autograd.set_grad_enabled(True):
            out = net(x)
            loss = nn.functional.cross_entropy(out, y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        prof.step()
        print(i, f"{loss.item():.9f}", out.grad_fn is not None, loss.is_leaf, len(list(net.parameters())))
        if i == 2:
            try:
                loss.backward()
            except RuntimeError as error:
                print("second backward:", "second time" in str(error))
        del out, loss
        gc.collect()
print(any("step" in e.key for e in prof.key_averages()), time.perf_counter() - start < 60)
try:
    with torch.autograd.detect_anomaly():
        (net(torch.ones(3, 5)) * 0).sqrt().sum().backward()
except RuntimeError as error:
    print("anomaly:", str(error).split(".")[0])
