"""Small configurations of real architectures with random weights, against eager.

`zoo` names them; `check` runs one in inference, for a training step, and for three batch sizes.
"""
