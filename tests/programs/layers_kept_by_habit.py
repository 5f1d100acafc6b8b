"""What modules keep in attributes is read by others, seldom by themselves, saved, copied, taken away."""
import copy
import io

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 12), nn.Tanh())
        self.mu, self.logvar = nn.Linear(12, 4), nn.Linear(12, 4)

    def forward(self, x):
        h = self.net(x)
        self.mean, self.log_variance = self.mu(h), self.logvar(h)
        self.z = self.mean + torch.randn_like(self.mean) * (0.5 * self.log_variance).exp()
        return self.z

    def kl(self):
        return -0.5 * (1 + self.log_variance - self.mean.pow(2) - self.log_variance.exp()).sum(1).mean()


class Decoder(nn.Module):
    """Reads what the other one keeps, too."""

    def __init__(self, encoder):
        super().__init__()
        self.net, self.of = nn.Linear(4, 6), [encoder]

    def forward(self, z):
        return self.net(z) + 0.1 * self.of[0].mean.mean()


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 10), nn.Linear(10, 1)

    def forward(self, x):
        h = torch.relu(self.first(x))
        self.features = (h, h.mean(1))
        self.latest = self.second(h)
        return self.latest


class Seldom(nn.Module):
    """Goes by what it kept at every fifth call only; another time it keeps nothing."""

    def __init__(self):
        super().__init__()
        self.net, self.last = nn.Linear(6, 3), None

    def forward(self, x, scale=1.0):
        out = self.net(x) * scale
        if scale == 5.0:
            out = out + self.last.mean()
        if scale != 7.0:
            self.last = out
        return out


def look(module, _, z):
    seen.append(module.mean.std().item() + z.std().item())


torch.manual_seed(0)
encoder, critic, seldom = Encoder(), Discriminator(), Seldom()
decoder = Decoder(encoder)
every = [*encoder.parameters(), *decoder.parameters(), *seldom.parameters()]
opt, critics = torch.optim.Adam(every, lr=0.01), torch.optim.Adam(critic.parameters(), lr=0.01)
scale = 0.0
for epoch in range(3):
    for (x,) in DataLoader(TensorDataset(torch.randn(66, 6)), batch_size=22, shuffle=True):
        made = decoder(encoder(x))
        right, real = critic(x), critic.features
        wrong, fake = critic(made), critic.features
        matching = sum((a.detach() - b).pow(2).mean() for a, b in zip(real, fake))
        scale += 1.0
        loss = (made - x).pow(2).mean() + 0.1 * encoder.kl() + 0.5 * matching + seldom(x, scale).pow(2).mean()
        if scale != 7.0:
            loss = loss + 0.1 * seldom.last.abs().mean()
        opt.zero_grad()
        loss.backward(retain_graph=True)
        critics.zero_grad()
        (nn.functional.softplus(-right).mean() + nn.functional.softplus(critic(made.detach())).mean()).backward()
        opt.step()
        critics.step()
        print(epoch, f"{loss.item():.9f} {matching.item():.9f} {encoder.z.std().item():.9f}", wrong.shape, critic.latest is wrong)
    if epoch == 2:
        print(seen)
        hook.remove()
    with torch.no_grad():
        encoder(x)
    other = copy.deepcopy(encoder)
    print(torch.equal(other.z, encoder.z), other.mean.tolist()[0], encoder.z.is_leaf)
    file = io.BytesIO()
    torch.save(encoder, file)
    file.seek(0)
    print(torch.load(file, weights_only=False).log_variance.sum().item())
    if epoch == 1:  # hooks look at what is kept while the call goes on
        seen = []
        hook = encoder.register_forward_hook(look)
    del encoder.z
    critic.features = None
