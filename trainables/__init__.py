"""What one trial does: data, models, losses, and the trainer. Import the module you need; this file loads nothing."""
