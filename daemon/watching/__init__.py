"""What happens in the daemon in; logs, metrics, signs of life and a record of voices out."""
