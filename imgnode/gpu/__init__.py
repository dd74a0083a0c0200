"""GPUs: what there is, whether it is what the profile says, and how it is set up."""
