# args: --epoch-count two
# exit: 2
# stderr: error: .*
import argparse

import torch

parser = argparse.ArgumentParser(prog="train")
parser.add_argument("--epoch-count", type=int)
args = parser.parse_args()
torch.nn.Linear(2, 2)
print("never reached")
