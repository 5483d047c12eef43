"""ViewCrafter's networks and sampler in plain torch.

They are DynamiCrafter's video UNet, the resampler of image tokens, OpenCLIP's two transformers and
DDIM. Attributes have the names of the published checkpoint (github.com/Drexubery/ViewCrafter,
Apache-2.0), with its misspelling, so that its weights load unchanged. All sizes are read from the
shapes of the weights.
"""
