"""Read and write pictures, videos, cameras and Gaussians."""
