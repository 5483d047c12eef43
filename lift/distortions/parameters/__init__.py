"""How distortions store and interpolate their numbers: along clips, over pictures, in space."""
