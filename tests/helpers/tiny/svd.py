"""Stable Video Diffusion, and MotionCtrl on it."""

from pathlib import Path

import torch

from tests.helpers.tiny.saving import perturb_parameters, save_pipeline


def svd(folder: Path) -> Path:
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=8,
        out_channels=4,
        cross_attention_dim=32,
        num_attention_heads=(2, 4),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=[32, 64],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 2,
        latent_channels=4,
        layers_per_block=1,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=224,
        intermediate_size=37,
        patch_size=32,
    )
    parts = {
        "unet": unet,
        "scheduler": scheduler,
        "vae": vae,
        "image_encoder": CLIPVisionModelWithProjection(vision),
        "feature_extractor": CLIPImageProcessor(),
    }
    return save_pipeline(StableVideoDiffusionPipeline(**parts), folder)


def motionctrl(folder: Path) -> Path:
    """A pipeline of SVD, and beside it the network's weights as they are published."""
    from lift.priors.diffusion.motionctrl_network import CameraUNet, checkpoint_names

    svd(folder)
    unet = CameraUNet.from_config(CameraUNet.load_config(folder, subfolder="unet"))
    perturb_parameters(unet, torch.Generator().manual_seed(1))
    names = checkpoint_names(unet)
    torch.save(
        {"state_dict": {names[name]: value for name, value in unet.state_dict().items()}},
        folder / "motionctrl_svd.ckpt",
    )
    return folder
