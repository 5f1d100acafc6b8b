"""pytorch/examples snli in spirit: two sentences, a shared encoder, fixed or trained embeddings, checkpoints by accuracy."""
import glob
import os
import random

import torch
import torch.nn as nn
import torch.optim as O
from torch.nn.utils.rnn import pad_sequence

torch.set_default_dtype(torch.float64)
random.seed(0)
torch.manual_seed(0)


class Field:
    def __init__(self):
        self.itos = ["<unk>", "<pad>"]
        self.stoi = {}

    def build(self, sentences):
        for w in sorted({w for s in sentences for w in s}):
            self.stoi[w] = len(self.itos)
            self.itos.append(w)


class Example:
    def __init__(self, premise, hypothesis, label):
        self.premise, self.hypothesis, self.label = premise, hypothesis, label


class Batch:
    def __init__(self, examples, field):
        def numericalize(sentences):
            return pad_sequence([torch.tensor([field.stoi[w] for w in s]) for s in sentences], padding_value=1)

        self.premise = numericalize([e.premise for e in examples])
        self.hypothesis = numericalize([e.hypothesis for e in examples])
        self.label = torch.tensor([e.label for e in examples])
        self.batch_size = len(examples)


class BucketIterator:
    def __init__(self, examples, field, batch_size, train):
        self.examples, self.field, self.batch_size, self.train = examples, field, batch_size, train

    def init_epoch(self):
        if self.train:
            random.shuffle(self.examples)

    def __len__(self):
        return -(-len(self.examples) // self.batch_size)

    def __iter__(self):
        self.init_epoch()
        for i in range(0, len(self.examples), self.batch_size):
            yield Batch(self.examples[i : i + self.batch_size], self.field)


class Bottle(nn.Module):
    def forward(self, input):
        if len(input.size()) <= 2:
            return super(Bottle, self).forward(input)
        size = input.size()[:2]
        out = super(Bottle, self).forward(input.view(size[0] * size[1], -1))
        return out.view(size[0], size[1], -1)


class Linear(Bottle, nn.Linear):
    pass


class Encoder(nn.Module):
    def __init__(self, d_proj, d_hidden):
        super(Encoder, self).__init__()
        self.d_hidden = d_hidden
        self.rnn = nn.LSTM(input_size=d_proj, hidden_size=d_hidden, num_layers=2, dropout=0.2, bidirectional=True)

    def forward(self, inputs):
        batch_size = inputs.size()[1]
        state_shape = 4, batch_size, self.d_hidden
        h0 = c0 = inputs.new_zeros(state_shape)
        outputs, (ht, ct) = self.rnn(inputs, (h0, c0))
        return ht[-2:].transpose(0, 1).contiguous().view(batch_size, -1)


class SNLIClassifier(nn.Module):
    def __init__(self, n_embed, d_embed=6, d_hidden=5, fix_emb=True):
        super(SNLIClassifier, self).__init__()
        self.fix_emb = fix_emb
        self.embed = nn.Embedding(n_embed, d_embed)
        self.projection = Linear(d_embed, 6)
        self.relu = nn.ReLU()
        self.encoder = Encoder(6, d_hidden)
        self.dropout = nn.Dropout(p=0.2)
        seq = [4 * d_hidden] * 2
        self.out = nn.Sequential(Linear(*seq), self.relu, self.dropout, Linear(seq[0], 3))

    def forward(self, batch):
        prem_embed = self.embed(batch.premise)
        hypo_embed = self.embed(batch.hypothesis)
        if self.fix_emb:
            prem_embed = prem_embed.detach()
            hypo_embed = hypo_embed.detach()
        premise = self.encoder(self.relu(self.projection(prem_embed)))
        hypothesis = self.encoder(self.relu(self.projection(hypo_embed)))
        return self.out(torch.cat([premise, hypothesis], 1))


words = "a man woman dog cat runs sleeps eats outside inside red blue tall small".split()
examples = []
for _ in range(60):
    p = random.choices(words, k=random.randint(3, 8))
    h = random.sample(p, k=random.randint(1, len(p))) if random.random() < 0.5 else random.choices(words, k=random.randint(1, 6))
    examples.append(Example(p, h, 0 if set(h) <= set(p) else 1 if set(h) & set(p) else 2))
inputs = Field()
inputs.build([e.premise for e in examples] + [e.hypothesis for e in examples])
train_iter = BucketIterator(examples[:44], inputs, 8, True)
dev_iter = BucketIterator(examples[44:], inputs, 10, False)
model = SNLIClassifier(len(inputs.itos))
criterion = nn.CrossEntropyLoss()
opt = O.Adam(model.parameters(), lr=0.01)
os.makedirs("results")
iterations, best_dev_acc = 0, -1
print("     Time Epoch Iteration Progress    (%Epoch)   Loss   Dev/Loss     Accuracy  Dev/Accuracy")
for epoch in range(2):
    n_correct, n_total = 0, 0
    for batch_idx, batch in enumerate(train_iter):
        model.train()
        opt.zero_grad()
        iterations += 1
        answer = model(batch)
        n_correct += (torch.max(answer, 1)[1].view(batch.label.size()) == batch.label).sum().item()
        n_total += batch.batch_size
        train_acc = 100.0 * n_correct / n_total
        loss = criterion(answer, batch.label)
        loss.backward()
        opt.step()
        if iterations % 4 == 0:
            model.eval()
            n_dev_correct, dev_loss = 0, 0
            with torch.no_grad():
                for dev_batch_idx, dev_batch in enumerate(dev_iter):
                    answer = model(dev_batch)
                    n_dev_correct += (torch.max(answer, 1)[1].view(dev_batch.label.size()) == dev_batch.label).sum().item()
                    dev_loss = criterion(answer, dev_batch.label)
            dev_acc = 100.0 * n_dev_correct / 16
            print(epoch, iterations, f"{loss.item():.9f} {dev_loss.item():.9f} {train_acc:.4f} {dev_acc:.4f}")
            if dev_acc > best_dev_acc:
                best_dev_acc = dev_acc
                snapshot_prefix = os.path.join("results", "best_snapshot")
                snapshot_path = snapshot_prefix + "_devacc_{:.4f}_iter_{}_model.pt".format(dev_acc, iterations)
                torch.save(model, snapshot_path)
                for f in glob.glob(snapshot_prefix + "*"):
                    if f != snapshot_path:
                        os.remove(f)
        elif iterations % 2 == 0:
            print(epoch, iterations, f"{loss.item():.9f} {train_acc:.4f}")
