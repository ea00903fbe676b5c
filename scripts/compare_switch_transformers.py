"""What a top-1 export and Hugging Face's SwitchTransformers have in common, and what not.

python -m scripts.compare_switch_transformers EXPORT

Needs `pip install torch transformers`, which nothing else here does. EXPORT is a folder that
gshard-export wrote, of a run with gate top1 (docs/export.md has the table that this checks). The
weights are folded into SwitchTransformers, and embeddings with positions, which it doesn't have,
are given from outside. Prints the largest difference of the logits, and how far the encoder's
vectors of one repeated word are apart: ours, and theirs with embeddings of its own.
"""
# SPDX-License-Identifier: Apache-2.0

import importlib
import pathlib
import sys
from typing import Any

import numpy as np

from tests.export import plain_model
from tests.export.plain_model import Model

torch, transformers = (importlib.import_module(name) for name in ("torch", "transformers"))


def main() -> None:
    model = plain_model.read(pathlib.Path(sys.argv[1]))
    moe, formulas = model.config["model"]["moe"], model.config["formulas"]
    gates = {formulas["gates"]["encoder"], formulas["gates"]["decoder"]}
    if gates != {"top1"} or moe["shared_ffn_dim"] or formulas["layers"] < 2:
        sys.exit("error: accepted: an export with gate top1 in both stacks and no shared expert")
    switch = fold(model)
    rng = np.random.default_rng(0)
    source, target = (
        rng.integers(4, model.config["vocabulary"][side], 12).tolist()
        for side in ("source", "target")
    )
    special = model.config["special_ids"]
    with torch.no_grad():
        embedded = {
            "inputs_embeds": plain_model.embed(
                model, "source_embedding", [*source, special["eos"]]
            ),
            "decoder_inputs_embeds": plain_model.embed(
                model, "target_embedding", [special["bos"], *target]
            ),
        }
        found = switch(**{name: torch.tensor(array[None]) for name, array in embedded.items()})
        expected_TV = plain_model.logits(model, source, target)
        difference = np.abs(found.logits[0].numpy()[:, : expected_TV.shape[1]] - expected_TV).max()
        print(f"logits up to {np.abs(expected_TV).max():.1f} differ by at most {difference:.1e}")

        word = [source[0]] * 12
        ours_LM = plain_model.encode(model, word)
        attention = switch.encoder.block[0].layer[0].SelfAttention
        attention.relative_attention_bias.weight.normal_()  # any bias at all
        theirs_LM = switch.encoder(torch.tensor([word])).last_hidden_state[0].numpy()
        for name, x_LM in (("ours", ours_LM), ("theirs", theirs_LM)):
            print(
                f"one word 12 times, {name}: vectors up to {np.ptp(x_LM, axis=0).max():.1e} apart"
            )


def fold(model: Model) -> Any:
    """SwitchTransformers with our weights; a first layer of zeros moves our sparse layers to odd
    places, where it has them."""
    sizes, config = model.config["model"], model.config
    num_layers = config["formulas"]["layers"]
    tables = ("source_embedding", "target_embedding", "softmax")
    is_tied = len({config["formulas"][name] for name in tables}) == 1
    made = transformers.SwitchTransformersForConditionalGeneration(
        transformers.SwitchTransformersConfig(
            vocab_size=max(config["vocabulary"].values()),
            d_model=sizes["model_dim"],
            d_kv=sizes["head_dim"],
            d_ff=sizes["ffn_dim"],
            num_heads=sizes["num_heads"],
            num_layers=num_layers + 1,
            num_decoder_layers=num_layers + 1,
            num_sparse_encoder_layers=num_layers // 2,
            num_sparse_decoder_layers=num_layers // 2,
            num_experts=sizes["moe"]["num_experts"],
            expert_capacity=1 << 20,
            tie_word_embeddings=is_tied,
        )
    ).eval()
    state = {name: torch.zeros_like(array) for name, array in made.state_dict().items()}

    def put(name: str, array: np.ndarray) -> None:
        array = np.ascontiguousarray(array)
        assert state[name][: len(array)].shape == array.shape, name
        state[name][: len(array)] = torch.tensor(array)

    softmax, source = (
        model.arrays[config["formulas"][name]] for name in ("softmax", "source_embedding")
    )
    source = source * config["formulas"]["embedding_scale"]
    put("encoder.embed_tokens.weight", source)
    # Its own tied softmax divides by the scale again.
    put("lm_head.weight", source if is_tied else softmax)
    if is_tied:
        put("shared.weight", source)
        put("decoder.embed_tokens.weight", source)
    for stack in ("encoder", "decoder"):
        put(f"{stack}.final_layer_norm.weight", model.arrays[f"{stack}_norm.scale_M"])
        for index in range(num_layers):
            _fold_layer(model, stack, index, put)
    made.load_state_dict(state)
    return made


def _fold_layer(model: Model, stack: str, index: int, put) -> None:
    ours, theirs = f"{stack}.layers.{index}", f"{stack}.block.{index + 1}.layer"
    names = [("self_attention", "SelfAttention"), ("cross_attention", "EncDecAttention")]
    names = names[: 2 if stack == "decoder" else 1]
    for place, (name, their_name) in enumerate(names):
        put(f"{theirs}.{place}.layer_norm.weight", model.arrays[f"{ours}.{name}_norm.scale_M"])
        for each in "qkv":
            w_MND = model.arrays[f"{ours}.{name}.w{each}_MND"]
            scale = model.config["formulas"]["attention_scale"] if each == "q" else 1.0
            put(
                f"{theirs}.{place}.{their_name}.{each}.weight",
                w_MND.reshape(len(w_MND), -1).T * scale,
            )
        wo_NDM = model.arrays[f"{ours}.{name}.wo_NDM"]
        put(f"{theirs}.{place}.{their_name}.o.weight", wo_NDM.reshape(-1, wo_NDM.shape[-1]).T)
    last = f"{theirs}.{len(names)}"
    put(f"{last}.layer_norm.weight", model.arrays[f"{ours}.feed_forward_norm.scale_M"])
    if index not in model.config["formulas"]["sparse_layers"]:
        put(f"{last}.mlp.wi.weight", model.arrays[f"{ours}.feed_forward.wi_MH"].T)
        put(f"{last}.mlp.wo.weight", model.arrays[f"{ours}.feed_forward.wo_HM"].T)
        return
    put(f"{last}.mlp.router.classifier.weight", model.arrays[f"{ours}.feed_forward.wg_ME"].T)
    weights = (model.arrays[f"{ours}.feed_forward.{name}"] for name in ("wi_EMH", "wo_EHM"))
    for expert, (wi_MH, wo_HM) in enumerate(zip(*weights, strict=True)):
        put(f"{last}.mlp.experts.expert_{expert}.wi.weight", wi_MH.T)
        put(f"{last}.mlp.experts.expert_{expert}.wo.weight", wo_HM.T)


if __name__ == "__main__":
    main()
