"""Compiled loops of the CPU renderer.

Every loop that runs in parallel writes to memory of its own, and every sum has a fixed order.
Results therefore do not depend on the number of threads. Arrays that the loops share:

- splats [view gaussian 12]: what a tile needs of a Gaussian: x, y, conic xx, xy, yy, opacity, r,
  g, b, depth, and the squared distance, in standard deviations, at which its alpha is MIN_ALPHA.
- boxes [view gaussian 4]: the Gaussian's pixels left, top, right, bottom, inclusive.
- entries [entry]: each tile's Gaussians, sorted by depth.
- tile_starts [view * tile + 1]: where the entries of each tile start.
- num_tiles [view gaussian]: the number of tiles that the Gaussian touches.
- pair_starts [view gaussian]: where the Gaussian's (tile, Gaussian) pairs start.
"""
