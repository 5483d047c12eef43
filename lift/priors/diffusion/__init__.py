"""What diffusion pipelines share: sampling, controls, networks."""
