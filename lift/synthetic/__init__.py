"""Ray-cast scenes of known truth, and corruptions of their frames."""
