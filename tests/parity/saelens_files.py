"""Runs in SAELens's own environment (.deps/saelens), for test_sae_files.py.

    saelens_files.py make FOLDER    autoencoders of every kind as SAELens saves them:
                                    FOLDER/<case>/sae, with inputs and results beside it
    saelens_files.py run FOLDER     loads FOLDER/<case>/vyx, which vyx wrote, and computes the same:
                                    f_vyx, y_vyx
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

warnings.filterwarnings("ignore")
from sae_lens import SAE, TrainingSAE  # noqa: E402
from sae_lens.registry import get_sae_class, get_sae_training_class  # noqa: E402
from sae_lens.saes.sae import SAEMetadata  # noqa: E402

D_IN, D_SAE, D_OUT, ROWS = 16, 64, 24, 50

# case -> (architecture, config, whether a training class makes it)
CASES = {
    "standard": ("standard", {}, False),
    "standard_no_b_dec": ("standard", {
        "apply_b_dec_to_input": False
    }, False),
    "gated": ("gated", {}, False),
    "gated_no_b_dec": ("gated", {
        "apply_b_dec_to_input": False
    }, False),
    "topk": ("topk", {
        "k": 7
    }, False),
    "topk_rescaled": ("topk", {
        "k": 7,
        "rescale_acts_by_decoder_norm": True
    }, False),
    "jumprelu": ("jumprelu", {}, False),
    "token_norm": ("jumprelu", {
        "normalize_activations": "constant_norm_rescale"
    }, False),
    "layer_norm": ("topk", {
        "k": 7,
        "normalize_activations": "layer_norm"
    }, False),
    "transcoder": ("transcoder", {
        "apply_b_dec_to_input": False,
        "d_out": D_OUT
    }, False),
    "skip_transcoder": ("skip_transcoder", {
        "apply_b_dec_to_input": False,
        "d_out": D_OUT
    }, False),
    "jumprelu_transcoder": ("jumprelu_transcoder", {
        "apply_b_dec_to_input": False,
        "d_out": D_OUT
    }, False),
    "jumprelu_skip_transcoder": ("jumprelu_skip_transcoder", {
        "apply_b_dec_to_input": False,
        "d_out": D_OUT
    }, False),
    "trained_standard": ("standard", {}, True),
    "trained_gated": ("gated", {}, True),
    "trained_topk": ("topk", {
        "k": 7
    }, True),
    "trained_jumprelu": ("jumprelu", {}, True),
    "trained_batchtopk": ("batchtopk", {
        "k": 7.0
    }, True),
    "trained_batchtopk_plain": ("batchtopk", {
        "k": 7.0,
        "rescale_acts_by_decoder_norm": False
    }, True),
    "trained_matryoshka": ("matryoshka_batchtopk", {
        "k": 7.0,
        "matryoshka_widths": [8, 32, D_SAE]
    }, True),
    # what SAELens leaves during training; the results are those of the inference model that it
    # makes of them in the end
    "checkpoint_topk": ("topk", {
        "k": 7
    }, True),
    "checkpoint_jumprelu": ("jumprelu", {}, True),
    "checkpoint_batchtopk": ("batchtopk", {
        "k": 7.0
    }, True),
    "checkpoint_matryoshka": ("matryoshka_batchtopk", {
        "k": 7.0,
        "matryoshka_widths": [8, 32, D_SAE]
    }, True),
    "checkpoint_scaled": ("batchtopk", {
        "k": 7.0,
        "normalize_activations": "expected_average_only_in"
    }, True),
    # the flat configs of versions before 6
    "v3_standard": ("standard", {}, False),
    "v4_topk": ("topk", {
        "k": 7
    }, False),
    "v5_jumprelu": ("jumprelu", {}, False),
}
FLAT = {
    "v3_standard": {
        "activation_fn_str": "relu",
        "normalize_activations": "none",
        "sae_lens_training_version": "3.0.0"
    },
    "v4_topk": {
        "architecture": "standard",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {
            "k": 7
        },
        "sae_lens_version": "4.1.0"
    },
    "v5_jumprelu": {
        "architecture": "jumprelu",
        "activation_fn_str": "relu",
        "finetuning_scaling_factor": False,
        "sae_lens_version": "5.3.0"
    },
}


def randomise(sae, generator):
    for name, parameter in sae.named_parameters():
        scale = 0.3 if parameter.ndim == 2 else 0.1
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
        if name == "threshold":
            parameter.data = parameter.data.abs() + 0.05
    if hasattr(sae, "topk_threshold"):
        sae.topk_threshold.fill_(0.25)


def results(sae, x):
    with torch.no_grad():
        f = sae.encode(x)
        return f, sae(x)  # a skip transcoder's decode() leaves the skip out


def save(folder, suffix, values):
    for name, value in zip(("f", "y"), values):
        value.numpy().astype("<f4").tofile(folder / f"{name}{suffix}.f32")


def make(root):
    for number, (case, (architecture, config, training)) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(number)
        folder = root / case
        folder.mkdir()
        sae_class, config_class = (get_sae_training_class
                                   if training else get_sae_class)(architecture)
        metadata = SAEMetadata(model_name="tiny", hook_name="blocks.3.hook_resid_post",
                               hook_name_out="blocks.3.hook_mlp_out")
        sae = sae_class(config_class(d_in=D_IN, d_sae=D_SAE, metadata=metadata, **config))
        randomise(sae, generator)
        x = 3 * torch.randn(ROWS, D_IN, generator=generator) + 0.5
        x.numpy().tofile(folder / "x.f32")
        if case.startswith("checkpoint_"):
            sae.save_model(folder / "sae")
            if case == "checkpoint_scaled":
                (folder / "sae" / "activation_scaler.json").write_text(
                    json.dumps({"scaling_factor": 0.4}))
                sae.fold_activation_norm_scaling_factor(0.4)
            sae.save_inference_model(folder / "inference")
        elif training:
            sae.save_inference_model(folder / "sae")
        else:
            sae.save_model(folder / "sae")
        if case in FLAT:
            flat = {
                "d_in": D_IN,
                "d_sae": D_SAE,
                "dtype": "float32",
                "device": "cpu",
                "model_name": "tiny",
                "hook_name": "blocks.3.hook_resid_post"
            }
            (folder / "sae" / "cfg.json").write_text(json.dumps(flat | FLAT[case]))
        loaded = SAE.load_from_disk(folder /
                                    ("inference" if case.startswith("checkpoint_") else "sae"))
        save(folder, "", results(loaded, x))


def run(root):
    for case in CASES:
        folder = root / case
        x = torch.from_numpy(np.fromfile(folder / "x.f32", dtype="<f4")).reshape(ROWS, D_IN)
        sae = SAE.load_from_disk(folder / "vyx")
        assert sae.cfg.metadata.model_name == "tiny", sae.cfg.metadata
        assert sae.cfg.metadata.hook_name == "blocks.3.hook_resid_post", sae.cfg.metadata
        save(folder, "_vyx", results(sae, x))
    print(
        json.dumps(
            {case: SAE.load_from_disk(root / case / "vyx").cfg.architecture()
             for case in CASES}))


if __name__ == "__main__":
    {"make": make, "run": run}[sys.argv[1]](Path(sys.argv[2]))
