from torch import nn

REGISTRY = {}


def register(f):
    REGISTRY[f.__name__] = f
    return f


def names():
    return sorted(REGISTRY)


def build(name, config):
    return REGISTRY[name](config)


@register
def linear(config):
    return nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))


@register
def mlp(config):
    return nn.Sequential(nn.Linear(2, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 1), nn.Flatten(0))
