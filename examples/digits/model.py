"""A multilayer perceptron with Adam in numpy, and its data: scikit-learn's handwritten digits."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

LAYERS = (64, 1024, 1024, 1024, 10)
BATCH = 64
LEARNING_RATE = 3e-4


@dataclass(frozen=True)
class Split:
    """Images of 8 x 8 pixels as rows of 64 numbers from 0 to 1, and what they show."""

    images: Floats
    labels: Labels


def load_data() -> tuple[Split, Split, Split]:
    """1,797 real digits, shuffled once: for training, for choosing the best checkpoint, for the last test."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.data[order] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    ends = (0, 1200, 1440, len(labels))
    splits = [Split(images[begin:end], labels[begin:end]) for begin, end in itertools.pairwise(ends)]
    return splits[0], splits[1], splits[2]


class Model:
    """Weights, Adam's two moments for each, and the state of the random order of the data.

    This is everything that the next step depends on, so a run that goes on from a checkpoint takes the same steps, bit
    for bit, as one that was never interrupted.
    """

    def __init__(self, seed: int = 0) -> None:
        """Random weights."""
        self.random = np.random.default_rng(seed)
        self.step = 0
        self.epoch = 0
        self.weights: list[Floats] = []
        for width, height in itertools.pairwise(LAYERS):
            scale = np.sqrt(2 / width)
            self.weights.append((self.random.standard_normal((width, height)) * scale).astype(np.float32))
            self.weights.append(np.zeros(height, np.float32))
        self.first = [np.zeros_like(weight) for weight in self.weights]
        self.second = [np.zeros_like(weight) for weight in self.weights]

    def _forward(self, images: Floats) -> list[Floats]:
        activations = [images]
        last = len(self.weights) - 2
        for layer in range(0, len(self.weights), 2):
            sums = activations[-1] @ self.weights[layer] + self.weights[layer + 1]
            activations.append(sums if layer == last else np.maximum(sums, 0))
        return activations

    @staticmethod
    def _probabilities(scores: Floats) -> Floats:
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result

    def train_epoch(self, data: Split) -> float:
        """One pass over the data in a new random order. Returns the mean loss."""
        order = self.random.permutation(len(data.labels))
        losses = [self._train_step(data.images[part], data.labels[part]) for part in np.split(order, self._cuts(order))]
        self.epoch += 1
        return float(np.mean(losses))

    @staticmethod
    def _cuts(order: NDArray[np.int64]) -> list[int]:
        return list(range(BATCH, len(order), BATCH))

    def _train_step(self, images: Floats, labels: Labels) -> float:
        activations = self._forward(images)
        probabilities = self._probabilities(activations[-1])
        rows = np.arange(len(labels))
        loss = float(-np.log(probabilities[rows, labels] + 1e-12).mean())
        delta = probabilities
        delta[rows, labels] -= 1
        delta /= len(labels)
        self.step += 1
        for layer in range(len(self.weights) - 2, -1, -2):
            gradient, bias = activations[layer // 2].T @ delta, delta.sum(axis=0)
            if layer > 0:
                delta = (delta @ self.weights[layer].T) * (activations[layer // 2] > 0)
            self._adam(layer, gradient)
            self._adam(layer + 1, bias)
        return loss

    def _adam(self, index: int, gradient: Floats) -> None:
        first, second = self.first[index], self.second[index]
        first *= np.float32(0.9)
        first += np.float32(0.1) * gradient
        second *= np.float32(0.999)
        second += np.float32(0.001) * gradient * gradient
        rate = np.float32(LEARNING_RATE * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step))
        self.weights[index] -= rate * first / (np.sqrt(second) + np.float32(1e-8))

    def evaluate(self, data: Split) -> tuple[float, float]:
        """Mean loss and accuracy."""
        probabilities = self._probabilities(self._forward(data.images)[-1])
        loss = float(-np.log(probabilities[np.arange(len(data.labels)), data.labels] + 1e-12).mean())
        return loss, float((probabilities.argmax(axis=1) == data.labels).mean())

    def predict(self, images: Floats) -> Labels:
        """The digits that the images show."""
        result: Labels = self._forward(images)[-1].argmax(axis=1)
        return result

    def save(self, directory: str) -> None:
        """Writes everything into a directory."""
        folder = Path(directory)
        for name, arrays in (("weights", self.weights), ("first", self.first), ("second", self.second)):
            np.savez(folder / f"{name}.npz", *arrays)
        state: dict[str, Any] = {"epoch": self.epoch, "step": self.step, "random": self.random.bit_generator.state}
        (folder / "state.json").write_text(json.dumps(state))

    @classmethod
    def load(cls, directory: str) -> Model:
        """Reads what `save` wrote."""
        folder = Path(directory)
        model = cls()
        for name, arrays in (("weights", model.weights), ("first", model.first), ("second", model.second)):
            with np.load(folder / f"{name}.npz") as file:
                arrays[:] = [file[key] for key in file.files]
        state = json.loads((folder / "state.json").read_text())
        model.epoch, model.step = state["epoch"], state["step"]
        model.random.bit_generator.state = state["random"]
        return model
