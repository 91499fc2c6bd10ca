#!/usr/bin/env python3
"""Train the embedded model on stories. See README.md beside this file for the commands and what they made.

    train_embedded.py corpus --documents N --out DIR        write the tokenized corpus (any machine)
    train_embedded.py check  --corpus DIR                   check the kernels and time some steps (CUDA GPU)
    train_embedded.py train  --corpus DIR --out DIR ...     train; writes params_*.npz and log.json
    train_embedded.py export --params DIR --out FILE.gguf   write the GGUF (any machine, needs gguf)
    train_embedded.py heldout --out FILE.txt                write held-out documents as text (any machine)
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np

import stories
from stories.vocabulary import END_OF_TEXT, Tokenizer, build_tokens

VOCABULARY = 2560                   # tokens
VOCABULARY_DOCUMENTS = 20_000       # training documents that the vocabulary is counted on
LENGTH = 512                        # tokens of one training row
HELD_OUT_DOCUMENTS = 2_000
HELD_OUT_TEXT_SEED = 1_000_000      # the text file's seeds are not those of heldout.npy
HELD_OUT_TEXT_BYTES = 50_000
DOCUMENT_SEPARATOR = "\n<s>\n"
PART_BYTES = 15_000_000             # params_*.npz stay below this


# --- corpus ---------------------------------------------------------------------------------------

def _texts(job: tuple[int, int, str]) -> list[str]:
    first, last, split = job
    return [stories.document(seed, split) for seed in range(first, last)]


def _rows(job: tuple[int, int, str, list[bytes]]) -> np.ndarray:
    """Documents of the seeds packed into rows of LENGTH + 1 tokens.

    Every row starts at the start of a document (half of them after an end-of-text token), because a state starts at zero there
    too; what does not fit into a row is cut off.
    """
    first, last, split, tokens = job
    tokenizer = Tokenizer(tokens)
    rows, row = [], []
    for seed in range(first, last):
        if not row and seed % 2:
            row.append(END_OF_TEXT)
        row.extend(tokenizer.encode(stories.document(seed, split)))
        row.append(END_OF_TEXT)
        if len(row) > LENGTH:
            rows.append(row[:LENGTH + 1])
            row = []
    return np.array(rows, np.uint16).reshape(-1, LENGTH + 1)


def make_corpus(documents: int, out: Path, processes: int) -> None:
    """Write tokens.json (hex), train.npy and heldout.npy ([rows, LENGTH + 1] uint16)."""
    out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    with multiprocessing.Pool(processes) as pool:
        step = VOCABULARY_DOCUMENTS // 20
        texts = pool.map(_texts, [(i, i + step, "train") for i in range(0, VOCABULARY_DOCUMENTS, step)])
        tokens = build_tokens((t for part in texts for t in part), VOCABULARY)
        # A held-out document costs about 40 drafts (see stories.HELD_OUT_SHARE), hence the smaller jobs.
        for split, count, step in (("train", documents, 2_000), ("heldout", HELD_OUT_DOCUMENTS, 50)):
            parts = pool.map(_rows, [(i, min(i + step, count), split, tokens) for i in range(0, count, step)], chunksize=1)
            rows = np.concatenate(parts)
            np.save(out / f"{split}.npy", rows)
            print(f"corpus: {split}: {count} documents, {rows.shape[0]} rows, {rows.size / 1e6:.1f} M tokens", flush=True)
    (out / "tokens.json").write_text(json.dumps([t.hex() for t in tokens]))
    print(f"corpus: {len(tokens)} tokens in the vocabulary, {time.time() - started:.0f} s", flush=True)


def load_tokens(folder: Path) -> list[bytes]:
    """The token list that ``corpus`` wrote."""
    return [bytes.fromhex(t) for t in json.loads((folder / "tokens.json").read_text())]


# --- training -------------------------------------------------------------------------------------

class Trainer:
    """Model, optimizer and data on one GPU."""

    def __init__(self, corpus: Path, seed: int, batch: int, rate: float, compiled: bool) -> None:
        import torch
        from embedded_model import Config, Rwkv7
        self.torch, self.batch, self.rate = torch, batch, rate
        torch.manual_seed(seed)
        torch.backends.cuda.matmul.allow_tf32 = True
        self.tokens = load_tokens(corpus)
        self.config = Config(vocab=len(self.tokens))
        self.model = Rwkv7(self.config, compiled).cuda()
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.model.parameter_groups(rate, 0.1), lr=rate, betas=(0.9, 0.99), eps=1e-18, fused=True)
        self.train_rows = torch.from_numpy(np.load(corpus / "train.npy").astype(np.int16)).cuda()
        self.held_rows = torch.from_numpy(np.load(corpus / "heldout.npy").astype(np.int16)).cuda()
        self.order_generator = torch.Generator().manual_seed(seed + 1)
        self.order, self.used = None, 0
        cross_entropy = lambda logits, targets: torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        self.loss = torch.compile(cross_entropy, dynamic=False) if compiled else cross_entropy

    def next_rows(self):
        """The next batch in an order shuffled anew for every pass."""
        if self.order is None or self.used + self.batch > len(self.order):
            self.order = self.torch.randperm(len(self.train_rows), generator=self.order_generator).cuda()
            self.used = 0
        self.used += self.batch
        return self.train_rows[self.order[self.used - self.batch:self.used]].long()

    def step(self, rate: float):
        """One optimizer step at the learning rate ``rate``; returns the loss (a device scalar)."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        rows = self.next_rows()
        loss = self.loss(self.model(rows[:, :-1].contiguous()), rows[:, 1:].contiguous())
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def held_out_loss(self, batches: int) -> float:
        """Mean loss over the first held-out rows, nats per token."""
        total = 0.0
        batches = min(batches, len(self.held_rows) // self.batch)
        for i in range(batches):
            rows = self.held_rows[i * self.batch:(i + 1) * self.batch].long()
            total += float(self.loss(self.model(rows[:, :-1].contiguous()), rows[:, 1:].contiguous()).detach())
        return total / batches


def schedule(step: int, steps: int, rate: float) -> float:
    """Linear warm-up over 200 steps, then a cosine to a fiftieth of the rate."""
    warm = min(200, steps // 10 + 1)
    if step < warm:
        return rate * (step + 1) / warm
    return rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))))


def check(corpus: Path, batch: int, compiled: bool) -> None:
    """Kernel check, then a few steps with their time; fails if the loss does not fall."""
    import wkv7_train
    print("check: relative errors", {n: f"{e:.1e}" for n, e in wkv7_train.check().items()}, flush=True)
    started = time.time()
    trainer = Trainer(corpus, 1, batch, 1e-3, compiled)
    first = float(trainer.step(1e-3))
    print(f"check: first step {time.time() - started:.1f} s, loss {first:.3f}", flush=True)
    for _ in range(3):
        trainer.step(1e-3)
    trainer.torch.cuda.synchronize()
    started = time.time()
    for _ in range(20):
        loss = trainer.step(1e-3)
    last = float(loss)
    seconds = (time.time() - started) / 20
    print(f"check: {seconds * 1e3:.1f} ms a step, {batch * LENGTH / seconds / 1e3:.0f} k tokens/s, loss {last:.3f}, "
          f"{trainer.torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, {sum(p.numel() for p in trainer.parameters)} parameters", flush=True)
    if not last < first - 0.5:
        raise SystemExit(f"check: the loss does not fall: {first} -> {last}")


def train(corpus: Path, out: Path, seed: int, batch: int, rate: float, steps: int, seconds: float, compiled: bool) -> None:
    """Train for ``steps`` steps, or, with ``steps`` 0, for as many as fit into ``seconds`` at the speed of steps 20 to 60."""
    started = time.time()
    trainer = Trainer(corpus, seed, batch, rate, compiled)
    torch = trainer.torch
    log: list[dict] = []
    planned = steps or 10_000
    step, mark = 0, 0.0
    while step < planned:
        loss = trainer.step(schedule(step, planned, rate))
        step += 1
        if not steps and step in (20, 60):
            torch.cuda.synchronize()
            if step == 60:
                planned = max(int((seconds - (time.time() - started)) / ((time.time() - mark) / 40)) + 60, 100)
                print(f"train: {planned} steps planned", flush=True)
            mark = time.time()
        if step % 250 == 0 or step == planned:
            value = float(loss)
            entry = dict(step=step, loss=value, seconds=round(time.time() - started, 1))
            if step % 2000 == 0 or step == planned:
                entry["heldout"] = trainer.held_out_loss(8 if step < planned else 100)
            log.append(entry)
            print(json.dumps(entry), flush=True)
            if not math.isfinite(value):
                raise SystemExit("train: the loss is not finite")
            if step % 2000 == 0:
                save(trainer, out, dict(step=step, steps=planned, log=log))
    save(trainer, out, dict(step=step, steps=planned, seed=seed, batch=batch, rate=rate, length=LENGTH, log=log,
                            device=torch.cuda.get_device_name(), seconds=round(time.time() - started, 1)))


def save(trainer: Trainer, out: Path, record: dict) -> None:
    """Write the parameters (float32, in parts), the token list, the record, and logits of one held-out row as a reference."""
    out.mkdir(parents=True, exist_ok=True)
    arrays = {name: p.detach().cpu().numpy() for name, p in trainer.model.named_parameters()}
    parts, size = [{}], 0
    for name, array in arrays.items():
        if size + array.nbytes > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = array
        size += array.nbytes
    for i, part in enumerate(parts):
        np.savez(out / f"params_{i}.npz", **part)
    rows = trainer.held_rows[:trainer.batch, :LENGTH].long().contiguous()
    logits = trainer.model(rows)[0, :64].detach().float().cpu().numpy()
    np.savez(out / "reference.npz", tokens=rows[0, :64].cpu().numpy(), logits=logits)
    (out / "tokens.json").write_text(json.dumps([t.hex() for t in trainer.tokens]))
    (out / "log.json").write_text(json.dumps(dict(config=trainer.config.as_dict(), **record), indent=1))


def write_held_out_text(out: Path) -> None:
    """Write held-out documents, at least HELD_OUT_TEXT_BYTES, with a line ``<s>`` between two of them."""
    documents: list[str] = []
    seed = HELD_OUT_TEXT_SEED
    while sum(len(d.encode()) for d in documents) < HELD_OUT_TEXT_BYTES:
        documents.append(stories.document(seed, "heldout"))
        seed += 1
    out.write_bytes(DOCUMENT_SEPARATOR.join(documents).encode())
    print(f"heldout: {out}: {len(documents)} documents, {out.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("corpus", help="write the tokenized corpus")
    sub.add_argument("--documents", type=int, default=700_000)
    sub.add_argument("--processes", type=int, default=os.cpu_count())
    sub.add_argument("--out", type=Path, required=True)
    for name in ("check", "train"):
        sub = commands.add_parser(name)
        sub.add_argument("--corpus", type=Path, required=True)
        sub.add_argument("--batch", type=int, default=64, help="rows of 512 tokens in a step")
        sub.add_argument("--eager", action="store_true", help="do not use torch.compile")
        if name == "train":
            sub.add_argument("--out", type=Path, required=True)
            sub.add_argument("--seed", type=int, default=7)
            sub.add_argument("--rate", type=float, default=2e-3)
            sub.add_argument("--steps", type=int, default=0, help="0: as many as fit into --seconds")
            sub.add_argument("--seconds", type=float, default=280.0)
    sub = commands.add_parser("export", help="write the GGUF")
    sub.add_argument("--params", type=Path, required=True)
    sub.add_argument("--out", type=Path, required=True)
    sub = commands.add_parser("heldout", help="write held-out documents as text")
    sub.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    if a.command == "corpus":
        make_corpus(a.documents, a.out, a.processes)
    elif a.command == "check":
        check(a.corpus, a.batch, not a.eager)
    elif a.command == "train":
        train(a.corpus, a.out, a.seed, a.batch, a.rate, a.steps, a.seconds, not a.eager)
    elif a.command == "heldout":
        write_held_out_text(a.out)
    else:
        from embedded_gguf import export
        export(a.params, a.out)


if __name__ == "__main__":
    main()
