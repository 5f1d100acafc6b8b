"""Pools and processes of the script's own, forked and spawned."""
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def preprocess(i):
    return [((i * 37) % 11) / 11, (i % 7) / 7, 1.0]


def child(queue, values):
    queue.put(sum(values))


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    with mp.get_context("fork").Pool(2) as pool:
        X = torch.tensor(pool.map(preprocess, range(40)))
    net = nn.Linear(3, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for epoch in range(2):
        for x, y in DataLoader(TensorDataset(X, X.sum(1, keepdim=True)), batch_size=9, shuffle=True):
            loss = nn.functional.mse_loss(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        print(epoch, f"{loss.item():.9f}")
        with ThreadPoolExecutor(2) as threads:
            print(list(threads.map(lambda v: v * 2, range(4))))
        with ProcessPoolExecutor(1, mp_context=mp.get_context("fork")) as processes:
            print(len(list(processes.map(preprocess, range(3)))))
    for method in ("fork", "spawn"):
        context = mp.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(queue, [1, 2, 3]))
        process.start()
        print(method, queue.get(), process.join(), process.exitcode)
    torch.save(net.state_dict(), "net.pt")


if __name__ == "__main__":
    main()
