"""How the stages of a step run on a device: captured, fed and read without waiting. No model."""
