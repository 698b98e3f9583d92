"""The name of an official checkpoint → its files from the Hugging Face hub, verified."""
