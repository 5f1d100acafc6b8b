# args: --episodes 4
"""pytorch/examples reinforcement_learning/reinforce.py and actor_critic.py, with a small own cart and pole."""
import argparse
import math
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.distributions import Categorical

parser = argparse.ArgumentParser()
parser.add_argument("--gamma", type=float, default=0.99, metavar="G")
parser.add_argument("--seed", type=int, default=543, metavar="N")
parser.add_argument("--episodes", type=int, default=10)
args = parser.parse_args()


class CartPole:
    def __init__(self, seed):
        self.rng = np.random.RandomState(seed)

    def reset(self):
        self.s = self.rng.uniform(-0.05, 0.05, size=4)
        return self.s

    def step(self, action):
        x, v, th, w = self.s
        force = 10.0 if action == 1 else -10.0
        c, s = math.cos(th), math.sin(th)
        tmp = (force + 0.05 * w * w * s) / 1.1
        a = (9.8 * s - c * tmp) / (0.5 * (4.0 / 3.0 - 0.1 * c * c / 1.1))
        acc = tmp - 0.05 * a * c / 1.1
        self.s = np.array([x + 0.02 * v, v + 0.02 * acc, th + 0.02 * w, w + 0.02 * a])
        done = abs(self.s[0]) > 2.4 or abs(self.s[2]) > 0.21
        return self.s, 1.0, bool(done)


torch.set_default_dtype(torch.float64)
env = CartPole(args.seed)
torch.manual_seed(args.seed)
eps = np.finfo(np.float64).eps.item()


class Policy(nn.Module):
    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(4, 16)
        self.dropout = nn.Dropout(p=0.2)
        self.affine2 = nn.Linear(16, 2)
        self.saved_log_probs = []
        self.rewards = []

    def forward(self, x):
        x = F.relu(self.dropout(self.affine1(x)))
        return F.softmax(self.affine2(x), dim=1)


SavedAction = namedtuple("SavedAction", ["log_prob", "value"])


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.action_head, self.value_head = nn.Linear(4, 16), nn.Linear(16, 2), nn.Linear(16, 1)

    def forward(self, x):
        x = F.relu(self.body(x))
        return F.softmax(self.action_head(x), dim=-1), self.value_head(x)


policy = Policy()
optimizer = optim.Adam(policy.parameters(), lr=1e-2)
running_reward = 10
for i_episode in range(args.episodes):
    state, ep_reward = env.reset(), 0
    for t in range(1, 40):
        probs = policy(torch.from_numpy(state).unsqueeze(0))
        m = Categorical(probs)
        action = m.sample()
        policy.saved_log_probs.append(m.log_prob(action))
        state, reward, done = env.step(action.item())
        policy.rewards.append(reward)
        ep_reward += reward
        if done:
            break
    running_reward = 0.05 * ep_reward + (1 - 0.05) * running_reward
    R, policy_loss, returns = 0, [], deque()
    for r in policy.rewards[::-1]:
        R = r + args.gamma * R
        returns.appendleft(R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    for log_prob, R in zip(policy.saved_log_probs, returns):
        policy_loss.append(-log_prob * R)
    optimizer.zero_grad()
    policy_loss = torch.cat(policy_loss).sum()
    policy_loss.backward()
    optimizer.step()
    del policy.rewards[:]
    del policy.saved_log_probs[:]
    print("Episode {}\tLast reward: {:.2f}\tAverage reward: {:.2f}\tLoss: {:.9f}".format(i_episode, ep_reward, running_reward, policy_loss.item()))

model = ActorCritic()
optimizer = optim.Adam(model.parameters(), lr=3e-2)
for i_episode in range(args.episodes):
    state, saved, rewards = env.reset(), [], []
    for t in range(1, 30):
        probs, value = model(torch.from_numpy(state))  # a single row, without a batch dimension
        m = Categorical(probs)
        action = m.sample()
        saved.append(SavedAction(m.log_prob(action), value))
        state, reward, done = env.step(action.item())
        rewards.append(reward)
        if done:
            break
    R, returns = 0, []
    for r in rewards[::-1]:
        R = r + args.gamma * R
        returns.insert(0, R)
    losses = [-s.log_prob * (R - s.value.item()) + F.smooth_l1_loss(s.value, torch.tensor([R])) for s, R in zip(saved, returns)]
    optimizer.zero_grad()
    loss = torch.stack([l.view(()) for l in losses]).sum()
    loss.backward()
    optimizer.step()
    print("Episode {}\tsteps {}\tLoss: {:.9f}".format(i_episode, t, loss.item()))
torch.save({"policy": policy.state_dict(), "actor_critic": model.state_dict()}, "policy.pt")
