"""The network of MotionCtrl, compared with the one of Stable Video Diffusion."""

import pytest
import torch
from torch.nn.functional import linear

from tests.helpers.clips import motionctrl_network
from tests.helpers.tiny.saving import perturb_parameters

pytest.importorskip("diffusers")


def inputs(clips: int, frames: int = 3):
    rng = torch.Generator().manual_seed(0)
    noisy, seen = (
        torch.randn(clips, frames, 8, 4, 6, generator=rng),
        torch.randn(clips, 1, 32, generator=rng),
    )
    conditions = torch.tensor([[10.0, 100.0, 0.1]]).repeat(clips, 1)
    return (noisy, torch.tensor(0.3), seen, conditions), 2 * torch.randn(
        clips, frames, 12, generator=rng
    )


def test_a_projection_maps_features_and_pose_laid_end_to_end():
    from lift.priors.diffusion.motionctrl_network import CameraProjection

    rng = torch.Generator().manual_seed(0)
    projection, features, cameras = (
        CameraProjection(6),
        torch.randn(2, 7, 5, 6, generator=rng),
        torch.randn(2, 5, 12, generator=rng),
    )
    assert torch.equal(projection(features, cameras), features), "as it is made"
    for parameter in projection.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng)
    both = torch.cat([features, cameras[:, None].expand(-1, 7, -1, -1)], -1)
    torch.testing.assert_close(
        projection(features, cameras), linear(both, projection.weight, projection.bias)
    )


def test_with_projections_as_they_are_made_the_network_is_svds(motionctrl_folder):
    from diffusers import UNetSpatioTemporalConditionModel

    from lift.priors.diffusion.motionctrl_network import CameraUNet

    plain = UNetSpatioTemporalConditionModel.from_pretrained(
        motionctrl_folder, subfolder="unet"
    ).eval()
    unet = CameraUNet.from_config(plain.config).eval()
    found = unet.load_state_dict(plain.state_dict(), strict=False)
    assert (
        not found.unexpected_keys
        and all(".camera." in name for name in found.missing_keys)
        and len(found.missing_keys) == 2 * 4
    )
    given, cameras = inputs(2)
    with torch.inference_mode():
        svds = plain(*given).sample
        for conditions in (None, cameras, torch.eye(3, 4).flatten().expand(2, 3, 12)):
            torch.testing.assert_close(
                unet(*given, cameras=conditions).sample, svds, atol=1e-5, rtol=1e-5
            )


@torch.inference_mode()
def test_cameras_change_their_own_clip_alone_in_any_precision(motionctrl_folder):
    unet = motionctrl_network(motionctrl_folder)
    given, cameras = inputs(2)
    both = unet(*given, cameras=cameras).sample
    moved = unet(*given, cameras=torch.cat([cameras[:1], cameras[1:] + 1])).sample
    torch.testing.assert_close(moved[0], both[0])
    assert float((moved[1] - both[1]).abs().max()) > 1e-3
    for clip in range(2):
        part = [some[clip : clip + 1] if some.dim() else some for some in given]
        torch.testing.assert_close(
            unet(*part, cameras=cameras[clip : clip + 1]).sample[0],
            both[clip],
            atol=1e-5,
            rtol=1e-4,
        )
    unet.half()
    part = [
        some[:1].half() if some.dim() > 2 else some[:1] if some.dim() else some for some in given
    ]
    rough = unet(*part, cameras=cameras[:1]).sample
    assert rough.dtype == torch.float16 and float(
        (rough[0].float() - both[0]).abs().mean()
    ) < 0.02 * float(both.std())


@torch.inference_mode()
def test_eight_bits_leave_the_projections_alone(motionctrl_folder):
    unet = motionctrl_network(motionctrl_folder)
    given, cameras = inputs(1)
    exact = unet(*given, cameras=cameras).sample
    unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    held = {name: parameter.dtype for name, parameter in unet.named_parameters()}
    assert (
        all(dtype == torch.float32 for name, dtype in held.items() if ".camera." in name)
        and torch.float8_e4m3fn in held.values()
    )
    assert (
        0
        < float((unet(*given, cameras=cameras).sample - exact).abs().mean())
        < 0.2 * float(exact.std())
    )


@torch.inference_mode()
@pytest.mark.slow
def test_it_is_one_graph_to_the_compiler():
    from lift.priors.diffusion.motionctrl_network import CameraUNet

    unet = CameraUNet(
        block_out_channels=(32,),
        layers_per_block=1,
        cross_attention_dim=32,
        num_attention_heads=(2,),
        down_block_types=("CrossAttnDownBlockSpatioTemporal",),
        up_block_types=("CrossAttnUpBlockSpatioTemporal",),
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    ).eval()
    perturb_parameters(unet, torch.Generator().manual_seed(0))
    given, cameras = inputs(2)
    graphs = []

    def kept(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(unet, backend=kept, fullgraph=True)
    torch.testing.assert_close(
        compiled(*given, cameras=cameras).sample, unet(*given, cameras=cameras).sample
    )
    torch.testing.assert_close(
        compiled(*given, cameras=cameras + 1).sample, unet(*given, cameras=cameras + 1).sample
    )
    assert len(graphs) == 1, "other cameras are no reason to compile anew"
