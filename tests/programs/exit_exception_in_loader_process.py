# exit: 1
# stderr: traceback
"""A sample is bad: one error is caught and passed over, as far as it goes; the next ends the run."""
import torch
from torch.utils.data import DataLoader, Dataset


class Bad(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        if i in (14, 31):
            raise ValueError(f"sample {i} is bad")
        return torch.full((3,), float(i)) + torch.rand(3)


def main():
    torch.manual_seed(0)
    batches = iter(DataLoader(Bad(), batch_size=4, num_workers=2))
    caught = 0
    while True:
        try:
            print(f"{next(batches).sum().item():.6f}")
        except ValueError as error:
            caught += 1
            print(str(error).splitlines()[0])
            if caught == 2:
                raise


if __name__ == "__main__":
    main()
