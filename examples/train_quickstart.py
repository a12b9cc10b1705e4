"""Train the quick start's network on Fashion-MNIST and write the files that the package ships.

    python examples/train_quickstart.py --data PATH_TO_FASHION_MNIST --out autocomp/quickstart

PATH_TO_FASHION_MNIST holds the four idx files of https://github.com/zalandoresearch/fashion-mnist (MIT).
Of the 60,000 training images the last 5,000 are held out: the quick start searches on 2,000 of them. The
10,000 test images are looked at once, at the end.
"""

import argparse
import gzip
import os
import pathlib
import struct
import time

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import mindspore as ms
import numpy as np
from mindspore import nn

from autocomp.quickstart.network import MEAN, STD, QuickstartNet

HELD_OUT = 5_000


def read_idx(path: pathlib.Path) -> np.ndarray:
    raw = gzip.decompress(path.read_bytes())
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def load(folder: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) uint8 and labels (n,) int32 of split "train" or "t10k"."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")
    return images, read_idx(folder / f"{split}-labels-idx1-ubyte.gz").astype(np.int32)


def normalise(images: np.ndarray) -> np.ndarray:
    return ((images[:, None].astype(np.float32) / 255) - MEAN) / STD


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrored at random and moved by up to two pixels each way."""
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    rows, columns = rng.integers(0, 5, (2, len(images)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), (1, 2))  # type: ignore[call-overload]
    moved = views[np.arange(len(images)), rows, columns]
    return np.where(rng.random(len(images))[:, None, None] < 0.5, moved, moved[:, :, ::-1])


def accuracy(net: nn.Cell, images: np.ndarray, labels: np.ndarray) -> float:
    net.set_train(False)
    batches = range(0, len(images), 500)
    hits = [net(ms.Tensor(normalise(images[i : i + 500]))).asnumpy().argmax(1) == labels[i : i + 500] for i in batches]
    return float(np.mean(np.concatenate(hits)))


def train(images: np.ndarray, labels: np.ndarray, epochs: int, seed: int) -> QuickstartNet:
    ms.set_seed(seed)
    rng = np.random.default_rng(seed)
    net, batch = QuickstartNet(), 128
    steps = len(images) // batch
    warmup, total = steps, steps * epochs
    rates = [0.1 * min(1, (i + 1) / warmup) * 0.5 * (1 + np.cos(np.pi * i / total)) for i in range(total)]
    optimizer = nn.Momentum(net.trainable_params(), rates, 0.9, weight_decay=5e-4)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.CrossEntropyLoss()), optimizer)
    for epoch in range(epochs):
        step.set_train(True)
        order, losses, start = rng.permutation(len(images)), [], time.time()
        for i in range(steps):
            chosen = order[i * batch : (i + 1) * batch]
            x = normalise(augment(images[chosen], rng))
            losses.append(float(step(ms.Tensor(x), ms.Tensor(labels[chosen])).asnumpy()))
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}, {time.time() - start:.0f} s", flush=True)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("autocomp/quickstart"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    ms.set_context(mode=ms.GRAPH_MODE)
    images, labels = load(args.data, "train")
    test_images, test_labels = load(args.data, "t10k")
    net = train(images[:-HELD_OUT], labels[:-HELD_OUT], args.epochs, args.seed)
    held_out = accuracy(net, images[-HELD_OUT:], labels[-HELD_OUT:])
    test = accuracy(net, test_images, test_labels)
    print(f"accuracy: held out {held_out:.4f}, test {test:.4f}")
    weights = {name: p.asnumpy() for name, p in net.parameters_dict().items()}
    np.savez_compressed(args.out / "weights.npz", **weights)
    np.savez_compressed(
        args.out / "fashion_mnist.npz",
        calibrate_images=images[:1000],
        calibrate_labels=labels[:1000].astype(np.uint8),
        evaluate_images=images[-HELD_OUT:][:2000],
        evaluate_labels=labels[-HELD_OUT:][:2000].astype(np.uint8),
        test_images=test_images,
        test_labels=test_labels.astype(np.uint8),
    )


if __name__ == "__main__":
    main()
