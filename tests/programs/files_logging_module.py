# ignore: \d\d:\d\d:\d\d
"""logging to a file and to stdout, as most projects configure it."""
import logging
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


def get_logger(filename):
    logger = logging.getLogger("train")
    logger.setLevel(logging.DEBUG)
    formatter = logging.Formatter("[%(asctime)s][%(filename)s][line:%(lineno)d][%(levelname)s] %(message)s", "%H:%M:%S")
    for handler in (logging.FileHandler(filename, "w"), logging.StreamHandler(sys.stdout)):
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    return logger


torch.manual_seed(0)
logger = get_logger("exp.log")
logger.info("start training!")
net = nn.Linear(5, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(torch.randn(18, 5), torch.randn(18, 1)), batch_size=5):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    logger.info("Epoch:[{}/{}]\t loss={:.9f}\t".format(epoch, 3, loss.item()))
logger.warning("finish training!")
print(sum(1 for _ in open("exp.log")), "lines")
