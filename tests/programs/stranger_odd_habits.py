"""Odd habits: global model in functions, __del__, context managers, warnings, locale, threads that prefetch, OrderedDict modules swapped in training, freezing half-way, requires_grad toggles, in-place weight edits, prints of everything."""

import threading, queue, warnings, contextlib, time, collections, weakref, functools, operator, tempfile, os, io
import torch, torch.nn as nn, torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_printoptions(precision=6, sci_mode=False)
gen = torch.manual_seed(1234)
print("seed", gen.initial_seed())
X, y = torch.randn(48, 5), torch.randn(48, 1)


def prefetch(it, n=2):
    q = queue.Queue(n)

    def work():
        for b in it:
            q.put(b)
        q.put(None)

    threading.Thread(target=work, daemon=True).start()
    while (b := q.get()) is not None:
        yield b


batches = lambda bs: [(X[i : i + bs], y[i : i + bs]) for i in range(0, len(X), bs)]


class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            collections.OrderedDict(a=nn.Linear(5, 7), act=nn.ReLU(), b=nn.Linear(7, 7), act2=nn.Tanh())
        )
        self.head = nn.Linear(7, 1)
        self.steps = 0
        self.cache = {}

    def forward(self, x, *, scale: float = 1.0, verbose=False):
        self.steps += self.training
        h = self.body(x)
        if verbose:
            print("h", h.shape, h.mean().item())
        return self.head(h) * scale


net = M()
print(net)
print(sum(map(operator.methodcaller("numel"), net.parameters())))
opt = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
log = io.StringIO()
for ep in range(6):
    with contextlib.redirect_stdout(log) if ep == 1 else contextlib.nullcontext():
        for k, (a, b) in enumerate(prefetch(batches(12)) if ep % 2 else batches(12)):
            opt.zero_grad()
            out = net(a, scale=1 + ep / 10, verbose=k == 0)
            loss = ((out - b) ** 2).mean()
            loss.backward()
            opt.step()
        print("epoch", ep, loss, net.steps)
    if ep == 1:
        net.body.a.requires_grad_(False)
        opt = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.05)
    if ep == 2:
        net.body.act = nn.LeakyReLU(0.1)
        net.body.a.requires_grad_(True)
        opt.add_param_group({"params": net.body.a.parameters(), "lr": 0.01})
    if ep == 3:
        with torch.no_grad():
            net.head.weight[:, ::2] *= 0.5
            net.head.bias.fill_(0.1)
    if ep == 4:
        net.head = nn.Sequential(nn.LayerNorm(7), nn.Linear(7, 1))
        opt = torch.optim.Adam(net.parameters())
print(len(log.getvalue()), log.getvalue()[-60:].strip())
print(net.head[1].weight.grad, net.head[1].weight)
with warnings.catch_warnings(record=True) as w:
    warnings.simplefilter("always")
    F.mse_loss(net(X), y.squeeze(1))
    print(len(w), str(w[0].message)[:60])
try:
    net(torch.randn(3, 4))
except RuntimeError as e:
    print("caught", str(e))
try:
    net(X[:0]).mean().backward()
    print("empty ok", net.head[1].weight.grad.sum())
except Exception as e:
    print(type(e), e)
r = weakref.ref(net)
sd = {k: v.clone() for k, v in net.state_dict().items()}
del net, opt, out, loss
print(r() is None)
with tempfile.TemporaryDirectory() as d:
    torch.save(sd, os.path.join(d, "x.pt"))
    print(os.listdir(d), len(torch.load(os.path.join(d, "x.pt"))))
t0 = time.perf_counter()
assert time.perf_counter() - t0 < 60
buf = io.BytesIO()
torch.save(sd, buf)
buf.seek(0)
print(sorted(torch.load(buf))[:2], buf.getbuffer().nbytes > 100)
