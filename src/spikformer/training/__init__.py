"""Training, evaluation and prediction. Importing this alone loads no torch."""
