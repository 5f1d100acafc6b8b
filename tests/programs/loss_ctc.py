import torch
from torch import nn
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
samples = []
for _ in range(20):
    target = torch.randint(1, 6, (int(torch.randint(2, 5, ())),))
    frames = torch.repeat_interleave(target, 3)
    samples.append((torch.nn.functional.one_hot(frames, 6).double() + 0.2 * torch.randn(len(frames), 6), target))


def collate(batch):
    frames, targets = zip(*batch)
    return (
        nn.utils.rnn.pad_sequence(frames),  # (time, batch, features)
        torch.cat(targets),
        torch.tensor([len(f) for f in frames]),
        torch.tensor([len(t) for t in targets]),
    )


class Acoustic(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 10, bidirectional=True)
        self.out = nn.Linear(20, 6)

    def forward(self, x):
        return self.out(self.rnn(x)[0]).log_softmax(-1)


model = Acoustic()
ctc = nn.CTCLoss(blank=0)
opt = torch.optim.Adam(model.parameters(), lr=0.02)
for epoch in range(3):
    for frames, targets, n_frames, n_targets in DataLoader(samples, batch_size=6, shuffle=True, collate_fn=collate):
        log_probs = model(frames)
        loss = ctc(log_probs, targets, n_frames, n_targets)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, list(frames.shape), len(targets), f"{loss.item():.9f}")
torch.save(model.state_dict(), "ctc.pt")
