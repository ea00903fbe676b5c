"""Journal lines of a run with three languages; there is no Croatian in the steps they cover."""
# SPDX-License-Identifier: Apache-2.0

PAIRS = ["de-en", "fr-en", "hr-en"]


def train_line(step: int) -> dict:
    return {"step": step, "split": "train", "loss": 50 / step, "nll": 40 / step}


def dev_lines(step: int) -> list[dict]:
    nlls = {"de-en": 40 / step, "fr-en": 50 / step}
    return [{"step": step, "split": "dev", "pair": pair, "nll": nll} for pair, nll in nlls.items()]


def routing_line(step: int, stack: str = "encoder", layer: int = 0) -> dict:
    """Two choices per token and three experts."""
    return {
        "step": step,
        "stack": stack,
        "layer": layer,
        "pairs": PAIRS,
        "tokens": [100, 10, 0],
        "sent": [[2, 50, 48], [1, 5, 4], [0, 0, 0]],
        "wanted": [[100, 60], [10, 5], [0, 0]],
        "over_capacity": [[2, 10], [1, 0], [0, 0]],
        "load": [[37, 111, 0], [5, 5, 4], [0, 0, 0]],
        "entropy": [90.0, 9.0, 0.0],
    }
