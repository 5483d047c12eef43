"""Ray-cast scenes with known ground truth, and corruptions of their frames."""
