"""What a person looks at: masks, predictions and curves."""
