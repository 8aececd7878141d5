"""From trained weights to the champion: evaluation, export, registration, gate and promotion."""
