"""Translation tutorial: GRU encoder, Bahdanau attention decoder, teacher forcing by a coin."""

import random, time, math
import torch, torch.nn as nn, torch.nn.functional as F
from torch import optim
from torch.utils.data import TensorDataset, DataLoader, RandomSampler
import numpy as np

torch.set_default_dtype(torch.float64)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SOS_token, EOS_token, MAX_LENGTH = 0, 1, 8
random.seed(3)
np.random.seed(3)
torch.manual_seed(3)


class Lang:
    def __init__(self, name):
        self.name = name
        self.word2index = {}
        self.word2count = {}
        self.index2word = {0: "SOS", 1: "EOS"}
        self.n_words = 2

    def addSentence(self, sentence):
        for word in sentence.split(" "):
            self.addWord(word)

    def addWord(self, word):
        if word not in self.word2index:
            self.word2index[word] = self.n_words
            self.word2count[word] = 1
            self.index2word[self.n_words] = word
            self.n_words += 1
        else:
            self.word2count[word] += 1


words = "je tu il elle suis es est content triste grand petit tres".split()
pairs = []
for _ in range(60):
    s = [random.choice(words) for _ in range(random.randint(2, 6))]
    pairs.append((" ".join(s), " ".join(w[::-1] for w in reversed(s))))
inp, out = Lang("fra"), Lang("rev")
for a, b in pairs:
    inp.addSentence(a)
    out.addSentence(b)
print("Counted words:", inp.n_words, out.n_words)


class EncoderRNN(nn.Module):
    def __init__(self, input_size, hidden_size, dropout_p=0.1):
        super().__init__()
        self.hidden_size = hidden_size
        self.embedding = nn.Embedding(input_size, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, input):
        embedded = self.dropout(self.embedding(input))
        output, hidden = self.gru(embedded)
        return output, hidden


class BahdanauAttention(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.Wa = nn.Linear(hidden_size, hidden_size)
        self.Ua = nn.Linear(hidden_size, hidden_size)
        self.Va = nn.Linear(hidden_size, 1)

    def forward(self, query, keys):
        scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(keys)))
        scores = scores.squeeze(2).unsqueeze(1)
        weights = F.softmax(scores, dim=-1)
        return torch.bmm(weights, keys), weights


class AttnDecoderRNN(nn.Module):
    def __init__(self, hidden_size, output_size, dropout_p=0.1):
        super().__init__()
        self.embedding = nn.Embedding(output_size, hidden_size)
        self.attention = BahdanauAttention(hidden_size)
        self.gru = nn.GRU(2 * hidden_size, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, output_size)
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, encoder_outputs, encoder_hidden, target_tensor=None):
        batch_size = encoder_outputs.size(0)
        decoder_input = torch.empty(batch_size, 1, dtype=torch.long, device=device).fill_(SOS_token)
        decoder_hidden = encoder_hidden
        decoder_outputs, attentions = [], []
        for i in range(MAX_LENGTH):
            decoder_output, decoder_hidden, attn_weights = self.forward_step(
                decoder_input, decoder_hidden, encoder_outputs
            )
            decoder_outputs.append(decoder_output)
            attentions.append(attn_weights)
            if target_tensor is not None:
                decoder_input = target_tensor[:, i].unsqueeze(1)
            else:
                _, topi = decoder_output.topk(1)
                decoder_input = topi.squeeze(-1).detach()
        decoder_outputs = torch.cat(decoder_outputs, dim=1)
        return F.log_softmax(decoder_outputs, dim=-1), decoder_hidden, torch.cat(attentions, dim=1)

    def forward_step(self, input, hidden, encoder_outputs):
        embedded = self.dropout(self.embedding(input))
        query = hidden.permute(1, 0, 2)
        context, attn_weights = self.attention(query, encoder_outputs)
        output, hidden = self.gru(torch.cat((embedded, context), dim=2), hidden)
        return self.out(output), hidden, attn_weights


def get_dataloader(batch_size):
    n = len(pairs)
    input_ids = np.zeros((n, MAX_LENGTH), dtype=np.int32)
    target_ids = np.zeros((n, MAX_LENGTH), dtype=np.int32)
    for idx, (a, b) in enumerate(pairs):
        x = [inp.word2index[w] for w in a.split(" ")] + [EOS_token]
        y = [out.word2index[w] for w in b.split(" ")] + [EOS_token]
        input_ids[idx, : len(x)] = x
        target_ids[idx, : len(y)] = y
    data = TensorDataset(torch.LongTensor(input_ids).to(device), torch.LongTensor(target_ids).to(device))
    return DataLoader(data, sampler=RandomSampler(data), batch_size=batch_size)


def asMinutes(s):
    m = math.floor(s / 60)
    return "%dm" % m


loader = get_dataloader(16)
encoder = EncoderRNN(inp.n_words, 12).to(device)
decoder = AttnDecoderRNN(12, out.n_words).to(device)
eo = optim.Adam(encoder.parameters(), lr=0.01)
do = optim.Adam(decoder.parameters(), lr=0.01)
criterion = nn.NLLLoss()
start = time.time()
for epoch in range(1, 4):
    total = 0
    for input_tensor, target_tensor in loader:
        eo.zero_grad()
        do.zero_grad()
        eouts, ehid = encoder(input_tensor)
        teacher = target_tensor if random.random() < 0.5 else None
        douts, _, _ = decoder(eouts, ehid, teacher)
        loss = criterion(douts.view(-1, douts.size(-1)), target_tensor.view(-1))
        loss.backward()
        eo.step()
        do.step()
        total += loss.item()
    print("(%d %d%%) %.9f" % (epoch, epoch / 3 * 100, total / len(loader)))
encoder.eval()
decoder.eval()
with torch.no_grad():
    for a, b in random.sample(pairs, 3):
        t = torch.tensor([inp.word2index[w] for w in a.split(" ")] + [EOS_token]).view(1, -1)
        eo_, eh = encoder(t)
        d, _, attn = decoder(eo_, eh)
        ids = d.topk(1)[1].squeeze()
        print(
            ">", a, "=", b, "<", " ".join(out.index2word.get(i.item(), "?") for i in ids), attn.sum().item()
        )
torch.save({"enc": encoder.state_dict(), "dec": decoder.state_dict()}, "s2s.pt")
