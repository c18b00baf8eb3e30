"""saelens_objective.py FOLDER, in SAELens's own environment: makes an autoencoder of SAELens for
each case of cases.json, writes weights and batch for vyx, and SAELens's losses and gradients, into
one folder per case."""

import json
import pathlib
import sys

import numpy as np
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAE,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.saes.sae import TrainStepInput

KINDS = {
    "relu": (StandardTrainingSAE, StandardTrainingSAEConfig),
    "gated": (GatedTrainingSAE, GatedTrainingSAEConfig),
    "topk": (TopKTrainingSAE, TopKTrainingSAEConfig),
    "batch-topk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
    "matryoshka": (MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig),
    "jump-relu": (JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig),
}


def save(path, tensor):
    tensor.detach().to(torch.float32).contiguous().numpy().astype("<f4").tofile(path)


def ours(name, tensor):
    """A weight or gradient in vyx's layout: a latent's encoder row is contiguous."""
    return tensor.T if name == "W_enc" else tensor


def make(folder, case):
    folder.mkdir()
    torch.manual_seed(case["seed"])
    kind, config = KINDS[case["kind"]]
    sae = kind(
        config(d_in=case["d"], d_sae=case["latents"], dtype="float32", device="cpu",
               apply_b_dec_to_input=case["subtract_decoder_bias"], **case["saelens"]))
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name == "threshold":
                parameter.uniform_(0.05, 0.5)
            elif name.startswith("W_"):
                parameter.normal_().mul_(case.get("scale", 0.3))
            else:
                parameter.normal_().mul_(0.1)
            if name in ("b_enc", "b_gate"):
                parameter.add_(case.get("bias", 0.0))
    x = torch.randn(case["rows"], case["d"])
    dead = torch.arange(case["latents"]) % 7 == 3 if case.get("dead") else None
    for name, parameter in sae.named_parameters():
        save(folder / f"{'b_enc' if name == 'b_gate' else name}.f32", ours(name, parameter))
    save(folder / "x.f32", x)
    if dead is not None:
        save(folder / "dead.f32", dead.float())
    (folder / "case.json").write_text(json.dumps(case))

    output = sae.training_forward_pass(
        TrainStepInput(sae_in=x, coefficients=case["coefficients"], dead_neuron_mask=dead,
                       n_training_steps=0, is_logging_step=False))
    output.loss.backward()
    for name, parameter in sae.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        save(folder / f"saelens_grad_{'b_enc' if name == 'b_gate' else name}.f32",
             ours(name, gradient))
    losses = {name: float(loss) for name, loss in output.losses.items()}
    (folder / "saelens.json").write_text(
        json.dumps({
            "loss": float(output.loss),
            "losses": losses,
            "l0": float((output.feature_acts.to_dense() > 0).sum(-1).float().mean())
        }))


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        make(folder / name, case)


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
