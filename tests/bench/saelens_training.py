"""A TopK autoencoder trained by SAELens on rows that are given, by the schedule that vyx's recipe
has (warm-up over a twentieth of the steps, decay over the last fifth)."""

from sae_lens.config import SAETrainerConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer


def train_topk(data, *, d_in, latents, k, batches, batch, learning_rate, out):
    """`data` yields batches [batch, d_in], one more than `batches`: SAELens takes the scale of its
    inputs from the first."""
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(d_in=d_in, d_sae=latents, k=k,
                              normalize_activations="expected_average_only_in"))
    config = SAETrainerConfig(total_training_samples=batches * batch,
                              train_batch_size_samples=batch, lr=learning_rate,
                              lr_warm_up_steps=min(1000, batches // 20),
                              lr_decay_steps=batches // 5, lr_end=0, n_batches_for_norm_estimate=1)
    SAETrainer(cfg=config, sae=sae, data_provider=data).fit().save_inference_model(str(out))
